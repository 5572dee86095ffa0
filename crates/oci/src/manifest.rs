//! Image manifests and indexes (OCI image spec; Docker schema 2 has the same shape under other media types).
//!
//! Bytes that a digest has already named are parsed by [`parse_any`] into a [`Manifest`] or an [`Index`], never by
//! guessing: content that could be read as both is refused (CVE-2021-41190). Docker schema 1 is refused by name.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::digest::excerpt;
use crate::wire::nullable;

/// Longest manifest or index that is read, in bytes (the distribution spec asks for at least this).
pub const MANIFEST_MAX: usize = 4 << 20;

/// Most layers that one manifest may name. Overlayfs stacks 500; Docker stops at 127 read-only ones.
pub const LAYERS_MAX: usize = 500;

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What this document says it is; may be absent in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// What this refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations; never a source of policy.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI manifest of one image.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A list of manifests, usually one for each platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What this document says it is; may be absent in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries, in order of preference.
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    /// What this refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations; never a source of policy.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index of `manifests`.
    #[must_use]
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// What [`parse_any`] found.
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The manifest of one image.
    Manifest(Manifest),
    /// A list of manifests.
    Index(Index),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MANIFEST_MAX`].
    #[error("the manifest has {0} bytes, more than the limit of {MANIFEST_MAX}")]
    TooLong(usize),
    /// Not JSON, or JSON of another shape.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// Both a list and an image, or a media type that says otherwise than the content (CVE-2021-41190).
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// Two media types disagree.
    #[error("the manifest says it is {inside:?} but was announced as {outside:?}")]
    MediaType {
        /// What the document says.
        inside: String,
        /// What its descriptor or response header says.
        outside: String,
    },
    /// Docker schema 1, or a media type that we do not know.
    #[error("manifests of type {0:?} are not supported: push the image again with a current client")]
    Unsupported(String),
    /// More than [`LAYERS_MAX`] layers.
    #[error("the manifest has {0} layers, more than the limit of {LAYERS_MAX}")]
    Layers(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

/// Parses a manifest or an index. `announced` is the media type of the descriptor or the response header, where one is
/// known; it must agree with the document's own. Parameters after `;` in it are ignored.
///
/// # Errors
/// See [`ManifestError`]; each means that the content cannot be used.
pub fn parse_any(bytes: &[u8], announced: Option<&str>) -> Result<Parsed, ManifestError> {
    if bytes.len() > MANIFEST_MAX {
        return Err(ManifestError::TooLong(bytes.len()));
    }
    let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    let announced = announced.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| is_telling(t));
    let inside = probe.media_type.as_deref().filter(|t| !t.is_empty());
    if let (Some(inside), Some(outside)) = (inside, announced)
        && inside != outside
    {
        return Err(ManifestError::MediaType { inside: excerpt(inside), outside: excerpt(outside) });
    }
    if probe.schema_version != 2 || probe.fs_layers.is_some() {
        return Err(ManifestError::Unsupported(format!("schema {}", probe.schema_version)));
    }
    let kind = inside.or(announced);
    let list = probe.manifests.is_some();
    let image = probe.layers.is_some() || probe.config.is_some();
    if list && image {
        return Err(ManifestError::Ambiguous("it has both manifests and layers"));
    }
    match kind {
        Some(t) if media_type::is_manifest(t) && list => {
            return Err(ManifestError::Ambiguous("its type is one image, its content a list"));
        }
        Some(t) if media_type::is_index(t) && image => {
            return Err(ManifestError::Ambiguous("its type is a list, its content one image"));
        }
        Some(t) if !media_type::is_manifest(t) && !media_type::is_index(t) => {
            return Err(ManifestError::Unsupported(excerpt(t)));
        }
        _ => {}
    }
    if list || kind.is_some_and(media_type::is_index) {
        return Ok(Parsed::Index(serde_json::from_slice(bytes).map_err(ManifestError::Json)?));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ManifestError::Layers(manifest.layers.len()));
    }
    Ok(Parsed::Manifest(manifest))
}

/// Whether a header's media type says anything: some registries send plain JSON for everything.
fn is_telling(text: &str) -> bool {
    !matches!(text, "" | "application/json" | "application/octet-stream" | "text/plain")
}
