//! What an engine is told when it is opened.

use std::path::PathBuf;

use atoll_registry::Registries;

/// Where an engine keeps things and what it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Durable state: `/var/lib/atoll` unless configured.
    pub root: PathBuf,
    /// State that is gone at reboot: `/run/atoll` unless configured.
    pub run: PathBuf,
    /// The program `atoll-shim`.
    pub shim: PathBuf,
    /// The cgroup below which workloads get theirs; none is one of ours, chosen when the root is first used.
    pub cgroup_parent: Option<String>,
    /// How much of each workload's output is kept.
    pub log: LogLimits,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Whether an ordinary user runs the engine, as root of a user namespace: its networks and control groups are those that
    /// such a user can have.
    pub rootless: bool,
}

/// How much of each workload's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes in one file.
    pub file_bytes: u64,
    /// Files, the current one included.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: crate::runtime::LogPlan::FILE_BYTES, files: crate::runtime::LogPlan::FILES }
    }
}
