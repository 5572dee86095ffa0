//! Requests of the daemon, answers and events of a supervisor.
//!
//! A connection carries requests one way and, in the same order, one [`Reply`] each the other way; after
//! [`Request::Watch`] events come between the replies. After an [`Request::Attach`] or [`Request::Exec`] that was
//! answered well, the connection carries stream frames both ways and ends with one [`Reply::Event`] that holds the exit,
//! when all output before it has been sent.

use atoll_model::{Exit, Health, Restart, Timestamp};
pub use atoll_oci::runtime::{Process, Resources};
use serde::{Deserialize, Serialize};

use crate::launch::{Launch, Size, Streams, User};

/// What the daemon asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "request")]
pub enum Request {
    /// First on every connection to the socket: what the caller speaks. Answered by [`Reply::Hello`].
    Hello {
        /// The caller's [`crate::PROTOCOL`].
        protocol: u32,
    },
    /// First on the inherited connection, once. Answered by [`Reply::Created`].
    Launch(Box<Launch>),
    /// Let the workload run. Answered by [`Reply::Started`]; on failure the supervisor ends.
    Start,
    /// Forget a workload that was not started, and end.
    Abandon,
    /// Send a signal. Answered by [`Reply::Done`].
    Signal {
        /// To whom.
        target: Target,
        /// Its number.
        signal: i32,
    },
    /// Change the size of a terminal. Answered by [`Reply::Done`].
    Resize {
        /// Whose.
        target: Target,
        /// To what.
        size: Size,
    },
    /// Freeze all processes. Answered by [`Reply::Done`].
    Pause,
    /// Thaw them. Answered by [`Reply::Done`].
    Resume,
    /// Push events to this connection from now on. Answered by [`Reply::State`].
    Watch,
    /// Couple this connection to the workload's streams. Answered by [`Reply::Done`].
    Attach(Attach),
    /// Run another program inside, coupled to this connection. Answered by [`Reply::ExecStarted`].
    Exec(Box<Exec>),
    /// All processes inside. Answered by [`Reply::Processes`].
    Processes,
    /// Change limits; what is not given stays. Answered by [`Reply::Done`].
    Limit {
        /// The limits.
        resources: Box<Resources>,
    },
    /// Somebody wants the end of the workload: what ends is not started again. Answered by [`Reply::Done`].
    StayDown,
    /// Change the restart policy. Answered by [`Reply::Done`].
    SetRestart {
        /// To what.
        restart: Restart,
    },
}

/// Whom a request means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The first process.
    Init,
    /// Every process.
    All,
    /// The program of an exec session.
    Exec(String),
}

/// Which streams a connection is coupled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Frames of this connection go to standard input.
    pub stdin: bool,
    /// Standard output comes back.
    pub stdout: bool,
    /// Standard error comes back.
    pub stderr: bool,
}

/// Another program to run inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// The session's identifier.
    pub id: String,
    /// What to run.
    pub process: Process,
    /// Who runs it.
    pub user: User,
    /// Further groups that it is in, by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Its standard streams.
    pub streams: Streams,
    /// Which of them this connection is coupled to.
    pub attach: Attach,
}

/// What a supervisor says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// Who answers.
    Hello {
        /// The version that both speak from here on.
        protocol: u32,
        /// The workload's identifier.
        id: String,
    },
    /// The workload exists and waits.
    Created {
        /// Its first process, in the host's pid namespace.
        pid: i32,
    },
    /// It runs.
    Started {
        /// Since when.
        at: Timestamp,
    },
    /// The exec session's program runs.
    ExecStarted {
        /// Its process, in the host's pid namespace.
        pid: i32,
    },
    /// Where everything stands.
    State(State),
    /// Processes, in the host's pid namespace.
    Processes {
        /// Their numbers.
        pids: Vec<i32>,
    },
    /// It is done.
    Done,
    /// It could not be done.
    Failed(Failure),
    /// Something happened.
    Event(Event),
}

/// Where a workload and its exec sessions stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its first process.
    pub pid: i32,
    /// When it was let go; never, while it waits.
    pub started: Timestamp,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// Exec sessions that run.
    pub execs: Vec<String>,
    /// How its last run ended, while it waits for the next.
    #[serde(default)]
    pub resting: Option<Exit>,
    /// Restarts so far.
    #[serde(default)]
    pub restarts: u32,
    /// The policy that holds.
    #[serde(default)]
    pub restart: Restart,
    /// Whether somebody wants its end.
    #[serde(default)]
    pub asked: bool,
    /// How well it is, where that is checked.
    #[serde(default)]
    pub health: Option<Health>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The workload ended; its exit record is on disk.
    Exited {
        /// How.
        exit: Exit,
        /// Why it could not be started again; empty when that was not tried.
        #[serde(default)]
        failure: String,
    },
    /// A run of the workload ended, and another follows.
    Resting {
        /// How it ended.
        exit: Exit,
        /// Restarts, with the one that follows.
        restarts: u32,
        /// When that is due.
        until: Timestamp,
    },
    /// The workload runs again.
    Restarted {
        /// Its first process, in the host's pid namespace.
        pid: i32,
        /// Since when.
        at: Timestamp,
    },
    /// The workload was checked.
    Checked {
        /// What its checks come to.
        health: Health,
    },
    /// An exec session ended.
    ExecExited {
        /// Which.
        id: String,
        /// How.
        exit: Exit,
    },
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the caller can make of it.
    pub kind: FailureKind,
    /// A sentence for people.
    pub message: String,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program is not in the image (exit code 127).
    CommandNotFound,
    /// It is there but cannot be run (exit code 126).
    CommandNotExecutable,
    /// What was asked for is contradictory.
    Invalid,
    /// This host or this wall cannot do it.
    Unsupported,
    /// It does not fit the workload's phase, or there is no such session.
    NotNow,
    /// Something of the host failed.
    Internal,
}
