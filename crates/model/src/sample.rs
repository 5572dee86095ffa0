//! What a workload uses of its host at one moment: counters since its start, to be held against an earlier sample.

use std::collections::BTreeMap;

use crate::Timestamp;

/// Use at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Option<Timestamp>,
    /// Processors.
    pub processors: ProcessorUse,
    /// Memory.
    pub memory: MemoryUse,
    /// Number of tasks.
    pub tasks: u64,
    /// Most tasks; none is no limit.
    pub tasks_limit: Option<u64>,
    /// Block devices.
    pub devices: Vec<DeviceUse>,
    /// Interfaces of its network, but for the loopback; none where the network is the host's.
    pub interfaces: Vec<InterfaceUse>,
    /// Whether the figures are those of control groups of version 2.
    pub is_unified: bool,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorUse {
    /// All.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor, where the kernel counts so.
    pub by_processor: Vec<u64>,
    /// Periods of a quota that have gone by, and those in which the workload was held back.
    pub periods: [u64; 2],
    /// How long it was held back.
    pub throttled: u64,
    /// What all of the host's processors could have done, idle time too.
    pub of_host: u64,
    /// How many those are.
    pub count: u32,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use.
    pub usage: u64,
    /// Most ever.
    pub max_usage: u64,
    /// Ceiling: that of the host, if it has none of its own.
    pub limit: u64,
    /// How often the ceiling was met.
    pub failures: u64,
    /// The kernel's own list.
    pub details: BTreeMap<String, u64>,
}

/// One kind of operation on one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUse {
    /// Major and minor number.
    pub device: (u64, u64),
    /// `Read`, `Write`…
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub count: u64,
}

/// Counters of one network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceUse {
    /// Its name inside.
    pub name: String,
    /// Bytes, packets, errors and dropped packets that came in.
    pub received: [u64; 4],
    /// The same for what went out.
    pub sent: [u64; 4],
}
