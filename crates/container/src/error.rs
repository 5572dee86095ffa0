//! What can go wrong with a container, by what a caller can do about it.
//!
//! [`PlanError`] is found before anything was made; [`CreateError`], [`StartError`] and [`ExecError`] carry what the
//! container's own process reported: the name of its step, what it worked on, and the system's reason.

use std::io;

use atoll_sys::cgroup;

use crate::hooks::HookError;
use crate::seccomp;

/// A configuration that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration is within the specification, but not done here.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The configuration contradicts the specification or itself.
    #[error("the configuration is invalid: {what}")]
    Invalid {
        /// What is wrong with which field.
        what: String,
    },
    /// The system call filter does not compile.
    #[error("the system call filter is invalid")]
    Seccomp(#[from] seccomp::Error),
}

impl PlanError {
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}

/// Why a container was not created; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The configuration cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A forked child of a program with threads cannot run our code safely.
    #[error("the calling program has more than one thread")]
    Threads,
    /// The calling program's file could be overwritten from inside (CVE-2019-5736).
    #[error("the calling program does not run from a sealed image of itself: call atoll_sys::exe::seal first")]
    Unsealed,
    /// The control groups could not be made or filled.
    #[error("cannot set up the control groups")]
    Cgroup(#[from] cgroup::Error),
    /// The caller's own part failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A step inside the container failed.
    #[error("{step}: {detail}")]
    Step {
        /// The step's name.
        step: String,
        /// What it worked on.
        detail: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The program is not there or can be executed by nobody: seen before it is started.
    #[error(transparent)]
    Program(StartError),
    /// A hook of the runtime's namespaces failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The container's process ended without a word: killed, most often for want of memory.
    #[error("the container's first process was killed while it was set up")]
    Died,
}

/// Why a created container did not start. Its process has ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program; Docker's exit code 127.
    #[error("exec: \"{program}\": {reason}")]
    NotFound {
        /// `argv[0]`.
        program: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The program or the working directory cannot be used; Docker's exit code 126.
    #[error("exec: \"{program}\"")]
    NotExecutable {
        /// `argv[0]` or the working directory.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Another of the last steps failed.
    #[error("{step}: {detail}")]
    Step {
        /// The step's name.
        step: String,
        /// What it worked on.
        detail: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The process is gone: it was killed before it was started, or already started.
    #[error("the container's first process is not waiting to be started")]
    Gone,
    /// The connection to the process failed.
    #[error("cannot talk to the container's first process")]
    Channel(#[source] io::Error),
}

impl StartError {
    /// The exit code by which Docker and shells tell this failure: 127 not found, 126 not executable, 128 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 128,
        }
    }
}

/// Why a process was not brought into a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The process cannot be made as described.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// As [`CreateError::Threads`].
    #[error("the calling program has more than one thread")]
    Threads,
    /// As [`CreateError::Unsealed`].
    #[error("the calling program does not run from a sealed image of itself: call atoll_sys::exe::seal first")]
    Unsealed,
    /// The container has ended.
    #[error("the container is not running")]
    Gone,
    /// The caller's own part failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A step inside the container failed, or the program could not be executed.
    #[error(transparent)]
    Start(#[from] StartError),
}
