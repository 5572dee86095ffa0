//! Content descriptors (OCI image spec, descriptor): what a blob is, what it is called, how long it is.
//!
//! A descriptor is read from a manifest, an index or a registry's headers, and handed to the store, which checks digest
//! and size while the blob streams. The deprecated `urls` are kept as data and never fetched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;
use crate::wire::nullable;

/// Media types of OCI image spec 1.1 and of Docker's schema 2.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// The empty JSON object, used as a placeholder config.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// OCI layer, plain tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI layer that must not be pushed (deprecated), plain tar; `+gzip` and `+zstd` exist too.
    pub const OCI_LAYER_NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list, schema 2.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, plain tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, zstd (written by BuildKit).
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker foreign layer, gzip.
    pub const DOCKER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// Whether `text` names a manifest of one image.
    #[must_use]
    pub fn is_manifest(text: &str) -> bool {
        matches!(text, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether `text` names a list of manifests.
    #[must_use]
    pub fn is_index(text: &str) -> bool {
        matches!(text, OCI_INDEX | DOCKER_LIST)
    }

    /// Whether `text` names a file-system layer.
    #[must_use]
    pub fn is_layer(text: &str) -> bool {
        super::Compression::of_media_type(text).is_some()
    }
}

/// How the tar archive of a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Compression {
    /// The packing that a layer's media type promises; `None` when the type is no layer.
    #[must_use]
    pub fn of_media_type(text: &str) -> Option<Self> {
        use media_type as m;
        let family =
            [m::OCI_LAYER, m::OCI_LAYER_NONDISTRIBUTABLE].into_iter().find_map(|prefix| text.strip_prefix(prefix));
        match (family, text) {
            (Some(""), _) | (_, m::DOCKER_LAYER) => Some(Self::None),
            (Some("+gzip"), _) | (_, m::DOCKER_LAYER_GZIP | m::DOCKER_FOREIGN_GZIP) => Some(Self::Gzip),
            (Some("+zstd"), _) | (_, m::DOCKER_LAYER_ZSTD) => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The packing that the first bytes show: gzip and zstd by their magic, else none.
    ///
    /// Four bytes decide; fewer are taken as an unpacked archive.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one of the sixteen skippable frames that some writers put first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The media type of a layer that is packed so, in the family (Docker's, OCI's) of its present one.
    #[must_use]
    pub fn repacked_media_type(self, present: &str) -> &'static str {
        if !present.starts_with(media_type::DOCKER_LAYER) {
            return self.layer_media_type();
        }
        match self {
            Self::None => media_type::DOCKER_LAYER,
            Self::Gzip => media_type::DOCKER_LAYER_GZIP,
            Self::Zstd => media_type::DOCKER_LAYER_ZSTD,
        }
    }

    /// The OCI media type of a layer that is packed so.
    #[must_use]
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// A content descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "nullable")]
    pub media_type: String,
    /// What it is called.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where else it could be found; never fetched.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations; never a source of policy.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64, when embedded; must still be checked against digest and size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// For which platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with the three required fields.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`, by sha256.
    #[must_use]
    pub fn of_bytes(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }
}
