//! The life of a workload, as a pure function from a phase and what happened to the next phase.
//!
//! ```text
//!              Start                 Started              Exit
//!   Created ───────────► Starting ───────────► Running ───────────► Exited ──┐
//!      │                    │ Failed             │  ▲                ▲ │     │ Start
//!      │                    ▼               Pause│  │Resume          │ └─────┘ (to Starting)
//!      │                 Exited                  ▼  │                │
//!      │                                        Paused ── Exit ──────┤
//!      │                                                             │
//!      │         Running, Paused ── Rest ──► Restarting ── Exit ─────┤
//!      │                                         └── Started ──► Running
//!      │ Remove                                                      │ Remove
//!      └──────────────────────► Removing ◄───────────────────────────┘
//! ```
//!
//! `Rest` is the end of a run that its restart policy does not leave at that: the supervisor starts the workload again by
//! itself. While it is `Restarting` it counts as running, as in Docker: it can be stopped and killed, but not started or paused.
//! `Failed` is a start that never reached the workload's program: it leaves `Created` when the workload has never run
//! (as Docker does, with the exit code set), `Exited` otherwise. A removal that was begun is only ever finished.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell has it: the program's own code, or 128 and the signal's number.
    pub code: i32,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When the end was seen.
    pub at: Timestamp,
}

impl Exit {
    /// The exit of a workload whose supervisor was lost with it: what Docker reports for SIGKILL.
    #[must_use]
    pub const fn unknown(at: Timestamp) -> Self {
        Self { code: 137, oom_killed: false, at }
    }
}

/// Where a workload stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Defined, never run; `failure` is the code of a start that failed.
    Created {
        /// Exit code of a start that did not reach the program (126, 127, 128).
        failure: Option<i32>,
    },
    /// A driver is making it ready.
    Starting {
        /// How it ended before, if it did.
        before: Option<Exit>,
    },
    /// Its first process runs.
    Running {
        /// That process, in the host's pid namespace.
        pid: i32,
        /// When it was let go.
        started: Timestamp,
    },
    /// Its processes are frozen.
    Paused {
        /// As in [`Phase::Running`].
        pid: i32,
        /// As in [`Phase::Running`].
        started: Timestamp,
    },
    /// Its first process has ended, and everything else in it with that.
    Exited {
        /// When it was let go.
        started: Timestamp,
        /// How it ended.
        exit: Exit,
    },
    /// Its last run has ended like that, and its supervisor is about to start it again.
    Restarting {
        /// When that run was let go.
        started: Timestamp,
        /// How it ended.
        exit: Exit,
    },
    /// It is being taken away, and will not come back.
    Removing,
}

/// What can happen to a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Somebody asked for it to run.
    Start,
    /// The driver let it go.
    Started {
        /// Its first process, in the host's pid namespace.
        pid: i32,
        /// When.
        at: Timestamp,
    },
    /// The driver could not get as far as its program.
    Failed {
        /// 126, 127 or 128, as a shell has them.
        code: i32,
        /// When.
        at: Timestamp,
    },
    /// Its processes were frozen.
    Pause,
    /// Its processes were thawed.
    Resume,
    /// It ended.
    Exit(Exit),
    /// A run ended, and another follows.
    Rest(Exit),
    /// Somebody asked for its removal.
    Remove,
}

/// Why a transition does not apply, in the words that the Docker API uses for the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is running (or about to).
    #[error("it is running: stop it first, or force it")]
    Running,
    /// It is paused.
    #[error("it is paused: unpause it first")]
    Paused,
    /// It is not running.
    #[error("it is not running")]
    NotRunning,
    /// It will run again by itself.
    #[error("it is restarting, wait until the container is running, or stop it")]
    Restarting,
    /// It is being removed.
    #[error("its removal is already in progress")]
    Removing,
}

/// The phase after something happened.
///
/// # Errors
/// [`Refused`] when that cannot happen to a workload in this phase; the phase stays.
pub fn next(phase: &Phase, transition: &Transition) -> Result<Phase, Refused> {
    use Phase::{Created, Exited, Paused, Removing, Restarting, Running, Starting};
    match (phase, transition) {
        (Removing, _) => Err(Refused::Removing),

        (Created { .. }, Transition::Start) => Ok(Starting { before: None }),
        (Exited { exit, .. }, Transition::Start) => Ok(Starting { before: Some(*exit) }),
        (Paused { .. }, Transition::Start) => Err(Refused::Paused),
        (_, Transition::Start) => Err(Refused::Running),

        (Starting { .. } | Restarting { .. }, Transition::Started { pid, at }) => {
            Ok(Running { pid: *pid, started: *at })
        }
        (Starting { before: None }, Transition::Failed { code, .. }) => Ok(Created { failure: Some(*code) }),
        (Starting { before: Some(_) }, Transition::Failed { code, at }) => {
            Ok(Exited { started: *at, exit: Exit { code: *code, oom_killed: false, at: *at } })
        }
        (_, Transition::Started { .. } | Transition::Failed { .. }) => Err(Refused::NotRunning),

        (Running { pid, started }, Transition::Pause) => Ok(Paused { pid: *pid, started: *started }),
        (Paused { .. }, Transition::Pause) => Err(Refused::Paused),
        (Restarting { .. }, Transition::Pause) => Err(Refused::Restarting),
        (Paused { pid, started }, Transition::Resume) => Ok(Running { pid: *pid, started: *started }),
        (Running { .. }, Transition::Resume) => Err(Refused::Running),
        (_, Transition::Pause | Transition::Resume) => Err(Refused::NotRunning),

        (Running { started, .. } | Paused { started, .. }, Transition::Exit(exit)) => {
            Ok(Exited { started: *started, exit: *exit })
        }
        (Restarting { started, .. }, Transition::Exit(exit)) => Ok(Exited { started: *started, exit: *exit }),
        (Starting { .. }, Transition::Exit(exit)) => Ok(Exited { started: exit.at, exit: *exit }),
        (Running { started, .. } | Paused { started, .. }, Transition::Rest(exit)) => {
            Ok(Restarting { started: *started, exit: *exit })
        }
        (_, Transition::Exit(_) | Transition::Rest(_)) => Err(Refused::NotRunning),

        (Created { .. } | Exited { .. }, Transition::Remove) => Ok(Removing),
        (Paused { .. }, Transition::Remove) => Err(Refused::Paused),
        (Restarting { .. }, Transition::Remove) => Err(Refused::Restarting),
        (Starting { .. } | Running { .. }, Transition::Remove) => Err(Refused::Running),
    }
}

impl Phase {
    /// A workload that has never run.
    pub const CREATED: Self = Self::Created { failure: None };

    /// Docker's word for it: `created`, `running`, `paused`, `exited`, `removing`.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Created { .. } | Self::Starting { before: None } => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } | Self::Starting { before: Some(_) } => "exited",
            Self::Removing => "removing",
        }
    }

    /// Whether it has processes: running or paused.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. })
    }

    /// What Docker calls running: it has processes, or will have some again without being asked.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_live() || matches!(self, Self::Restarting { .. })
    }

    /// Its first process, while it has one.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Exit = Exit { code: 3, oom_killed: false, at: Timestamp(9) };
    const RUNNING: Phase = Phase::Running { pid: 7, started: Timestamp(5) };
    const PAUSED: Phase = Phase::Paused { pid: 7, started: Timestamp(5) };
    const EXITED: Phase = Phase::Exited { started: Timestamp(5), exit: EXIT };
    const STARTED: Transition = Transition::Started { pid: 7, at: Timestamp(5) };
    const FAILED: Transition = Transition::Failed { code: 127, at: Timestamp(6) };

    fn check(phase: &Phase, transition: &Transition, expected: impl Into<Result<Phase, Refused>>) {
        assert_eq!(next(phase, transition), expected.into(), "{phase:?} + {transition:?}");
    }

    #[test]
    fn a_plain_life() {
        check(&Phase::CREATED, &Transition::Start, Ok(Phase::Starting { before: None }));
        check(&Phase::Starting { before: None }, &STARTED, Ok(RUNNING));
        check(&RUNNING, &Transition::Exit(EXIT), Ok(EXITED));
        check(&EXITED, &Transition::Start, Ok(Phase::Starting { before: Some(EXIT) }));
        check(&EXITED, &Transition::Remove, Ok(Phase::Removing));
    }

    #[test]
    fn failed_starts_keep_what_was_before() {
        check(&Phase::Starting { before: None }, &FAILED, Ok(Phase::Created { failure: Some(127) }));
        let exit = Exit { code: 127, oom_killed: false, at: Timestamp(6) };
        check(&Phase::Starting { before: Some(EXIT) }, &FAILED, Ok(Phase::Exited { started: Timestamp(6), exit }));
    }

    #[test]
    fn pause_and_resume() {
        check(&RUNNING, &Transition::Pause, Ok(PAUSED));
        check(&PAUSED, &Transition::Resume, Ok(RUNNING));
        check(&PAUSED, &Transition::Pause, Err(Refused::Paused));
        check(&PAUSED, &Transition::Exit(EXIT), Ok(EXITED));
        check(&RUNNING, &Transition::Resume, Err(Refused::Running));
        check(&EXITED, &Transition::Pause, Err(Refused::NotRunning));
    }

    #[test]
    fn a_life_with_restarts() {
        let resting = Phase::Restarting { started: Timestamp(5), exit: EXIT };
        check(&RUNNING, &Transition::Rest(EXIT), Ok(resting.clone()));
        check(&PAUSED, &Transition::Rest(EXIT), Ok(resting.clone()));
        check(&resting, &STARTED, Ok(RUNNING));
        check(&resting, &Transition::Exit(EXIT), Ok(EXITED));
        check(&resting, &Transition::Start, Err(Refused::Running));
        check(&resting, &Transition::Pause, Err(Refused::Restarting));
        check(&resting, &Transition::Resume, Err(Refused::NotRunning));
        check(&resting, &Transition::Remove, Err(Refused::Restarting));
        check(&resting, &Transition::Rest(EXIT), Err(Refused::NotRunning));
        check(&EXITED, &Transition::Rest(EXIT), Err(Refused::NotRunning));
        assert!(resting.is_up() && !resting.is_live() && resting.pid().is_none());
    }

    #[test]
    fn what_is_refused() {
        check(&RUNNING, &Transition::Start, Err(Refused::Running));
        check(&RUNNING, &Transition::Remove, Err(Refused::Running));
        check(&PAUSED, &Transition::Start, Err(Refused::Paused));
        check(&PAUSED, &Transition::Remove, Err(Refused::Paused));
        check(&EXITED, &Transition::Exit(EXIT), Err(Refused::NotRunning));
        check(&Phase::CREATED, &STARTED, Err(Refused::NotRunning));
        check(&Phase::Removing, &Transition::Start, Err(Refused::Removing));
        check(&Phase::Removing, &Transition::Remove, Err(Refused::Removing));
    }
}
