//! Why the daemon could not be asked, or what it said no to.

use std::path::PathBuf;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The daemon's sentence.
        message: String,
    },
    /// Nobody answers on the socket.
    #[error(
        "cannot connect to the Atoll daemon at unix://{}: is atolld running?", socket.display()
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The daemon was started and does not answer.
    #[error("the daemon was started ({}) but does not answer:\n{said}", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The end of its log.
        said: String,
    },
    /// The daemon could not be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An address that is none.
    #[error("unsupported address {0:?}: use unix:///PATH")]
    Address(String),
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon's answer is not what its API says.
    #[error("the daemon's answer cannot be understood")]
    Answer(#[source] serde_json::Error),
}

impl Error {
    /// The HTTP status of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(error.into())
    }
}
