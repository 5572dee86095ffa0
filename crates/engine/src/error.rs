//! Why the engine could not do what it was asked.

use atoll_model::{BadLog, BadSyslog, InvalidName, Refused};
use atoll_oci::reference::ReferenceError;
use atoll_store::RootError;

use crate::runtime;

/// What a caller can make of an [`Error`]; the Docker API has a status code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such thing.
    NotFound,
    /// It does not fit the state that something is in.
    Conflict,
    /// The request contradicts itself or does not parse.
    Invalid,
    /// This host or this wall cannot do it, or Atoll cannot yet.
    Unsupported,
    /// It is so already.
    NotModified,
    /// Something of the host failed.
    Internal,
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No workload, image, volume or exec session of that name or id.
    #[error("{0}")]
    NoSuch(String),
    /// An abbreviation that fits more than one thing.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A name that is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: String,
    },
    /// It does not fit the phase.
    #[error("container {id} cannot do that: {reason}")]
    Refused {
        /// The workload.
        id: String,
        /// Why.
        reason: Refused,
    },
    /// Something else holds it.
    #[error("{0}")]
    InUse(String),
    /// It is so already.
    #[error("nothing to do: it is so already")]
    NotModified,
    /// The request contradicts itself or does not parse.
    #[error("{0}")]
    Invalid(String),
    /// Not on this host, by this wall, or not yet.
    #[error("{0}")]
    Unsupported(String),
    /// The driver failed.
    #[error("{0}")]
    Driver(#[from] runtime::Error),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] atoll_store::Error),
    /// A program that was run for what it leaves behind did not succeed.
    #[error("{what} failed with exit code {code}:\n{said}")]
    StepFailed {
        /// What it was for.
        what: String,
        /// Its exit code.
        code: i32,
        /// The end of its output.
        said: String,
    },
    /// A network could not be made or joined.
    #[error("{0}")]
    Network(#[from] atoll_net::Error),
    /// Making a base image failed.
    #[error("{0}")]
    Bootstrap(#[from] atoll_debian::Error),
    /// An image did not come from its registry, or did not get there.
    #[error("{0}")]
    Registry(#[from] atoll_registry::Error),
    /// The metadata could not be read or written.
    #[error("metadata: {0}")]
    Database(#[from] redb::Error),
    /// Something of the host failed.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Error {
    /// What a caller can make of it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuch(_) => Kind::NotFound,
            Self::Ambiguous(_) | Self::Invalid(_) => Kind::Invalid,
            Self::NameTaken { .. } | Self::Refused { .. } | Self::InUse(_) => Kind::Conflict,
            Self::NotModified => Kind::NotModified,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Driver(error) => match error.kind() {
                runtime::ErrorKind::Invalid => Kind::Invalid,
                runtime::ErrorKind::Unsupported => Kind::Unsupported,
                runtime::ErrorKind::NotNow => Kind::Conflict,
                runtime::ErrorKind::CommandNotFound | runtime::ErrorKind::CommandNotExecutable => Kind::Invalid,
                runtime::ErrorKind::Internal => Kind::Internal,
            },
            Self::Registry(atoll_registry::Error::NotFound { .. } | atoll_registry::Error::Platform { .. }) => {
                Kind::NotFound
            }
            Self::Store(atoll_store::Error::Root(RootError::NoQuota { .. } | RootError::QuotaDenied)) => {
                Kind::Unsupported
            }
            Self::Network(_)
            | Self::Registry(_)
            | Self::StepFailed { .. }
            | Self::Store(_)
            | Self::Bootstrap(_)
            | Self::Database(_)
            | Self::Host { .. } => Kind::Internal,
        }
    }

    /// The exit code of a start that did not reach the program, when this is one: 126, 127 or 128.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Driver(error) => Some(match error.kind() {
                runtime::ErrorKind::CommandNotFound => 127,
                runtime::ErrorKind::CommandNotExecutable => 126,
                _ => 128,
            }),
            _ => None,
        }
    }

    pub(crate) fn no_workload(name: &str) -> Self {
        Self::NoSuch(format!("No such container: {name}"))
    }

    pub(crate) fn no_image(name: &str) -> Self {
        Self::NoSuch(format!("No such image: {name}"))
    }

    pub(crate) fn no_volume(name: &str) -> Self {
        Self::NoSuch(format!("get {name}: no such volume"))
    }

    pub(crate) fn no_exec(id: &str) -> Self {
        Self::NoSuch(format!("No such exec instance: {id}"))
    }

    pub(crate) fn host(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Host { doing, source }
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<BadLog> for Error {
    fn from(error: BadLog) -> Self {
        match error {
            BadLog::Pattern(_) | BadLog::Syslog(BadSyslog::Tls(_)) => Self::Unsupported(error.to_string()),
            _ => Self::Invalid(error.to_string()),
        }
    }
}

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Each of redb's error types says the same to us: the metadata could not be read or written.
macro_rules! from_redb {
    ($($error:ty),*) => { $(impl From<$error> for Error {
        fn from(error: $error) -> Self {
            Self::Database(error.into())
        }
    })* };
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::DatabaseError);
