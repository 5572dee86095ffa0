//! What a supervisor leaves in the run folder for a daemon that was not there.
//!
//! [`Shim`] is written before the workload can run, [`Ended`] when it has ended and before anybody is told; before a further
//! run the latter is taken away. Both are written to a temporary name and renamed; the run folder does not survive a reboot,
//! so nothing is synced.

use atoll_model::{Exit, Timestamp};
use serde::{Deserialize, Serialize};

/// Name of [`Shim`] in the run folder.
pub const SHIM: &str = "shim.json";
/// Name of [`Ended`] in the run folder.
pub const ENDED: &str = "ended.json";

/// Who supervises the workload. A process counts only with its boot and start time: numbers are used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shim {
    /// The supervisor's [`crate::PROTOCOL`].
    pub protocol: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The supervisor.
    pub shim: ProcessRecord,
    /// The workload's first process.
    pub init: ProcessRecord,
    /// The workload's cgroups: a path below the mount of each hierarchy.
    pub cgroup: String,
    /// Restarts so far.
    #[serde(default)]
    pub restarts: u32,
    /// Whether somebody wants its end.
    #[serde(default)]
    pub asked: bool,
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// In the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it was let go.
    pub started: Timestamp,
    /// How it ended.
    pub exit: Exit,
    /// Whether another run was to follow.
    #[serde(default)]
    pub resting: bool,
    /// Restarts so far.
    #[serde(default)]
    pub restarts: u32,
    /// Whether somebody wanted its end.
    #[serde(default)]
    pub asked: bool,
}
