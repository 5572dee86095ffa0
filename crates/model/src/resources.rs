//! What a workload may use of its host.

use serde::{Deserialize, Serialize};

/// Limits on what a workload uses; `None` is no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; -1 is unlimited swap.
    pub memory_swap: Option<i64>,
    /// Memory that is kept when the host is short of it, in bytes.
    pub memory_reservation: Option<u64>,
    /// Processor time, in billionths of one CPU.
    pub nano_cpus: Option<u64>,
    /// CFS quota in microseconds for each period, when not given as `nano_cpus`.
    pub cpu_quota: Option<i64>,
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// Relative weight when CPUs are short, 2 to 262144, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// CPUs it may run on, as a list such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes it may use, in the same form.
    pub cpuset_mems: Option<String>,
    /// Tasks that it may have.
    pub pids: Option<i64>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
    /// Real-time processor time.
    pub realtime: Realtime,
    /// How readily its memory is swapped out, 0 to 100.
    pub swappiness: Option<u64>,
    /// What happens when memory is short.
    pub oom: Oom,
    /// Block devices.
    pub block_io: BlockIo,
    /// The control group below which it gets its own; none is the daemon's.
    pub cgroup_parent: Option<String>,
    /// What its writable layer takes on the disk, in bytes; it holds from the definition on.
    pub storage: Option<u64>,
}

/// Real-time processor time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Realtime {
    /// Length of a period.
    pub period: Option<u64>,
    /// What may be used of each.
    pub runtime: Option<i64>,
}

/// What happens to a workload when memory is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Oom {
    /// Whether its processes wait for memory instead of being killed at its own limit.
    pub kill_disable: bool,
    /// How much likelier its processes are killed than others, -1000 to 1000.
    pub score_adj: i32,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight on single devices, by their path on the host.
    pub weights: Vec<(String, u16)>,
    /// What it may do in a second on single devices.
    pub rates: Vec<DeviceRate>,
}

/// What a workload may do on one block device in a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// What is counted.
    pub rate: Rate,
    /// Path of the device on the host.
    pub path: String,
    /// How much.
    pub limit: u64,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

/// One limit of a process (`setrlimit(2)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// In lower case without the prefix: `nofile`, `nproc`, `core` …
    pub name: String,
    /// The soft limit; -1 is unlimited.
    pub soft: i64,
    /// The hard limit; -1 is unlimited.
    pub hard: i64,
}

impl Ulimit {
    /// The limits that there are.
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
}

/// A device of the host that a workload sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path inside.
    pub inside: String,
    /// Of `r`, `w` and `m` (mknod).
    pub permissions: String,
}
