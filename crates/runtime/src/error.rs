//! Why a driver could not do what it was asked.

use std::io;
use std::path::PathBuf;

use atoll_wall::frame::Malformed;
use atoll_wall::message::{Failure, FailureKind};

use crate::spec;

/// What a caller can make of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The program is not in the image (exit code 127).
    CommandNotFound,
    /// It is there but cannot be run (exit code 126).
    CommandNotExecutable,
    /// What was asked for contradicts itself.
    Invalid,
    /// This host or this wall cannot do it.
    Unsupported,
    /// It does not fit what the workload is doing, or the workload has ended.
    NotNow,
    /// Something of the host failed.
    Internal,
}

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The supervisor says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// There is no supervisor (any more): the workload has ended.
    #[error("the container is not running: its supervisor has ended")]
    Gone,
    /// The workload asks for what cannot be expressed.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// The supervisor could not be started.
    #[error("could not start {}: install it beside the daemon", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The supervisor ended before it had made the workload.
    #[error("the supervisor ended before the container was made ({status}): {said}")]
    Died {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        said: String,
    },
    /// The supervisor does not answer.
    #[error("the supervisor did not answer within {seconds} s")]
    Silent {
        /// How long it had.
        seconds: u64,
    },
    /// The supervisor says what it should not.
    #[error("the supervisor speaks out of turn: {0}")]
    Protocol(&'static str),
    /// What came from the supervisor is no message.
    #[error("the supervisor cannot be understood")]
    Malformed(#[from] Malformed),
    /// The run folder cannot be read.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The error of one who wants something from a workload that has ended.
    #[must_use]
    pub const fn gone() -> Self {
        Self::Gone
    }

    /// Whether the workload has ended, so that there is nobody left to ask.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    /// What a caller can make of it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(failure) => match failure.kind {
                FailureKind::CommandNotFound => ErrorKind::CommandNotFound,
                FailureKind::CommandNotExecutable => ErrorKind::CommandNotExecutable,
                FailureKind::Invalid => ErrorKind::Invalid,
                FailureKind::Unsupported => ErrorKind::Unsupported,
                FailureKind::NotNow => ErrorKind::NotNow,
                FailureKind::Internal => ErrorKind::Internal,
            },
            Self::Gone => ErrorKind::NotNow,
            Self::Spec(error) => {
                if error.is_unsupported() {
                    ErrorKind::Unsupported
                } else {
                    ErrorKind::Invalid
                }
            }
            Self::Spawn { .. }
            | Self::Died { .. }
            | Self::Silent { .. }
            | Self::Protocol(_)
            | Self::Malformed(_)
            | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
