//! What can go wrong in the store: one variant for each decision that a caller can take.

use std::io;
use std::path::{Path, PathBuf};

use atoll_oci::Digest;
use atoll_oci::config::ConfigError;
use atoll_oci::manifest::ManifestError;

use crate::archive::ArchiveError;
use crate::tar;

/// The result of an operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the store cannot be read or written.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The stream that the caller gave failed.
    #[error("the data cannot be read to its end")]
    Source(#[source] io::Error),
    /// The metadata database failed.
    #[error("the metadata database failed")]
    Metadata(#[source] Box<redb::Error>),
    /// A record of the metadata database does not parse.
    #[error("a record in the table {0:?} of the metadata database is damaged")]
    Record(&'static str),
    /// The store was written by another version of Atoll.
    #[error(
        "the image store was made by a newer Atoll (schema {found}, this one knows {expected}): use that version, or another --root"
    )]
    Schema {
        /// What the store says.
        found: u64,
        /// What we write.
        expected: u64,
    },
    /// The blob is not here.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// The layer is not unpacked here.
    #[error("layer {0} is not in the store")]
    MissingLayer(Digest),
    /// Content with another digest than promised.
    #[error("the content has digest {found}, expected {expected}")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Content with another length than promised.
    #[error("the content has {found} bytes, expected {expected}")]
    Size {
        /// What was promised.
        expected: u64,
        /// What came, or where reading stopped.
        found: u64,
    },
    /// A gzip or zstd stream is corrupt.
    #[error("the compressed data is corrupt")]
    Compression(#[source] io::Error),
    /// The layer is no readable tar archive.
    #[error("the layer archive cannot be read")]
    Tar(#[from] tar::Error),
    /// An entry of a layer is not acceptable: hostile, or impossible to make.
    #[error("layer entry {path:?}: {why}")]
    Entry {
        /// The path in the archive.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than a named limit.
    #[error("the {what} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A manifest or an image configuration is unusable.
    #[error("the image is unusable")]
    Image(#[from] ImageError),
    /// An image archive is unusable.
    #[error("the image archive is unusable")]
    Archive(#[from] ArchiveError),
    /// A root file system cannot be made.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Why a root file system cannot be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// One of this name exists.
    #[error("a root file system named {0:?} exists already")]
    Exists(String),
    /// Nothing limits what is written to this disk.
    #[error(
        "--storage-opt size needs project quota, which the file system of {folder:?} does not have: mount it with prjquota (XFS, or ext4 with the features project and quota), or leave the size out"
    )]
    NoQuota {
        /// A folder on it.
        folder: PathBuf,
    },
    /// Limits of projects are for the host's root.
    #[error("--storage-opt size is for the daemon of root alone, who may set quotas: leave the size out")]
    QuotaDenied,
}

/// Why a manifest and its configuration make no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The manifest does not parse.
    #[error("its manifest is not acceptable")]
    Manifest(#[from] ManifestError),
    /// The configuration does not parse.
    #[error("its configuration is not acceptable")]
    Config(#[from] ConfigError),
    /// An index where one image is needed.
    #[error("{0} is a list of images: choose one by platform")]
    Index(Digest),
    /// No image for the platform.
    #[error("it has no variant for platform {0}")]
    Platform(String),
    /// Manifest and configuration disagree.
    #[error("its manifest has {layers} layers, its configuration {diff_ids}")]
    Layers {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the configuration.
        diff_ids: usize,
    },
}

impl Error {
    /// For `map_err`: an error on a file of the store.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source: source.into() }
    }

    /// Whether it is the fault of an archive that somebody sent, not of this host.
    #[must_use]
    pub const fn is_the_archives(&self) -> bool {
        matches!(self, Self::Source(_) | Self::Compression(_) | Self::Tar(_) | Self::Entry { .. } | Self::Limit { .. })
    }

    /// Whether the disk or a quota is full: nothing was lost, and it works again when there is room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::Io { source, .. } | Self::Source(source) => full(source),
            Self::Metadata(error) => matches!(&**error, redb::Error::Io(e) if full(e)),
            _ => false,
        }
    }
}

macro_rules! from_redb {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::Metadata(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
