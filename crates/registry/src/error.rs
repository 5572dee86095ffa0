//! Why an image did not come from its registry, or did not get there.

use std::path::PathBuf;
use std::time::Duration;

use atoll_oci::config::ConfigError;
use atoll_oci::manifest::ManifestError;
use atoll_oci::{Digest, Platform, Reference};
use reqwest::StatusCode;

/// Why an image did not come from its registry, or did not get there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("cannot set up HTTP")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
    /// A file of an extra certificate authority cannot be used.
    #[error("cannot use certificate authority {path}")]
    Certificate {
        /// The file, or its folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer, or one that broke off time and again.
    #[error("registry \"{registry}\" cannot be reached: check its name and the network")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// An answer that is of no use.
    #[error("registry \"{registry}\" answered {status} for {what}{said}")]
    Status {
        /// Host and port.
        registry: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: StatusCode,
        /// The registry's own words, after a colon.
        said: String,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// The registry has no such image.
    #[error("image \"{image}\" is not on registry \"{registry}\": check its name and tag, or push it there first")]
    NotFound {
        /// As people write it.
        image: String,
        /// Host and port.
        registry: String,
    },
    /// The registry wants other credentials, or does not let these have the image.
    #[error(
        "registry \"{registry}\" denies access to \"{image}\": check the name, or log in (docker login {registry}){said}"
    )]
    Denied {
        /// As people write it.
        image: String,
        /// Host and port.
        registry: String,
        /// The registry's own words, after a colon.
        said: String,
    },
    /// The token server gave none.
    #[error("no token from {realm}: {why}")]
    Token {
        /// Its address.
        realm: String,
        /// Why.
        why: String,
        /// Whether it is the credentials that it does not take.
        refused: bool,
    },
    /// An answer that breaks the protocol, or a redirect that is not followed.
    #[error("registry \"{registry}\" {why}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// What it does.
        why: &'static str,
    },
    /// More bytes than there may be.
    #[error("{what} is larger than its limit of {limit} bytes")]
    Size {
        /// What.
        what: &'static str,
        /// Bytes.
        limit: u64,
    },
    /// Other content than was asked for.
    #[error("the manifest has digest {found} where {expected} was asked for: the registry is broken or lies")]
    Digest {
        /// Asked for.
        expected: Digest,
        /// Found.
        found: Digest,
    },
    /// The manifest is malformed.
    #[error("the manifest of \"{image}\" is not acceptable")]
    Manifest {
        /// As people write it.
        image: String,
        /// Why.
        source: ManifestError,
    },
    /// The configuration is malformed.
    #[error("the image's configuration is not acceptable")]
    Config(#[from] ConfigError),
    /// Manifest and configuration disagree.
    #[error("the manifest names {layers} layers, its configuration {diff_ids}")]
    Layers {
        /// By the manifest.
        layers: usize,
        /// By the configuration.
        diff_ids: usize,
    },
    /// A layer that is no file-system layer, or one that lies somewhere else.
    #[error(
        "layer {0} is of a kind that is not supported ({1}): layers must lie on the registry, as tar, gzip or zstd"
    )]
    LayerKind(Digest, String),
    /// No image for the platform.
    #[error("\"{image}\" has no image for {platform}")]
    Platform {
        /// As people write it.
        image: String,
        /// The platform.
        platform: String,
    },
    /// The store refused: digest or size do not fit, the layer is hostile, the disk is full, a blob is not here.
    #[error("{what} cannot be stored or read")]
    Store {
        /// Which part of the image.
        what: String,
        /// Why.
        source: atoll_store::Error,
    },
}

impl Error {
    /// Whether the same may go well a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether the registry answered with this status.
    pub(crate) fn is_status(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Status { status, .. } if *status == wanted)
    }

    pub(crate) fn store(what: impl Into<String>) -> impl FnOnce(atoll_store::Error) -> Self {
        let what = what.into();
        move |source| Self::Store { what, source }
    }

    pub(crate) fn platform(reference: &Reference, platform: &Platform) -> Self {
        Self::Platform { image: reference.familiar(), platform: platform.to_string() }
    }

    pub(crate) fn manifest(reference: &Reference) -> impl FnOnce(ManifestError) -> Self {
        let image = reference.familiar();
        move |source| Self::Manifest { image, source }
    }
}
