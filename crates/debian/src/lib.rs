//! Base images from a mirror of the Debian archive, without any registry.
//!
//! A suite's InRelease is verified against a keyring, it vouches for the package index, the index for each package; a resolver
//! chooses packages, and their files become one canonical layer. The same InRelease file and arguments give the same digest.
//! Left out on purpose: other archives than Debian's layout, source packages, running anything (the `apt` variant hands the
//! engine a [`Staged`] value with the script that it runs in a container, then [`finish`] makes the image).
//!
//! The way through the modules: [`sources`] and [`mirror`] (where from), [`suite`] = [`signature`] + [`release`] +
//! [`packages`] (what there is), [`resolve`] (what is needed), [`deb`] + [`unpack`] into a [`tree`], [`minimal`] or [`apt`]
//! (what is added), [`layer`] and [`image`] (what comes out).

#![forbid(unsafe_code)]

pub mod apt;
pub mod arch;
pub mod base;
mod bootstrap;
pub mod busybox;
pub mod control;
pub mod deb;
pub mod image;
pub mod layer;
pub mod minimal;
pub mod mirror;
pub mod packages;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod signature;
pub mod sources;
pub mod suite;
pub mod time;
pub mod tree;
pub mod unpack;
pub mod version;

pub use bootstrap::{Bootstrap, Built, Error, Outcome, Staged, bootstrap, finish};

/// How an image is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The wanted packages and what they need, unpacked; for any architecture of the suite.
    Minimal,
    /// A whole small Debian with apt, configured; for the host's architecture.
    Apt,
}

impl Variant {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Apt => "apt",
        }
    }
}

impl std::str::FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "minimal" => Ok(Self::Minimal),
            "apt" => Ok(Self::Apt),
            _ => Err(UnknownVariant(text.to_owned())),
        }
    }
}

/// The name of no variant.
#[derive(Debug, thiserror::Error)]
#[error("there is no variant \"{0}\": choose minimal or apt")]
pub struct UnknownVariant(String);

/// What a bootstrap is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Downloading the package index; counts bytes.
    Index,
    /// Choosing packages; counts packages.
    Resolve,
    /// Downloading packages; counts bytes over all of them.
    Download,
    /// Unpacking packages; counts packages.
    Unpack,
    /// Writing the layer; counts entries.
    Layer,
}

/// One step of progress, for a bar.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// To what: a package or file, or nothing.
    pub item: String,
    /// How much of it is done, in the unit of the stage.
    pub current: u64,
    /// Of how much.
    pub total: u64,
}
