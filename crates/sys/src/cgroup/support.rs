//! Which limits this host's kernel has, beyond those that every kernel has.

use std::path::Path;

use super::Layout;
use super::layout::Hierarchy;

/// Limits that a host has or lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Support {
    /// Of memory and swap together.
    pub swap: bool,
    /// How readily memory is swapped out (version 1).
    pub swappiness: bool,
    /// Switching the out-of-memory killer off (version 1).
    pub oom_switch: bool,
    /// Weights of block devices.
    pub io_weight: bool,
    /// Rates on block devices.
    pub io_rate: bool,
    /// Real-time processor time (version 1).
    pub realtime: bool,
}

impl Support {
    /// That of the host whose hierarchies these are. Quick: looks at a few files.
    #[must_use]
    pub fn read(layout: &Layout) -> Self {
        let v1 = |controller: &str| layout.v1.iter().find(|hierarchy| names(hierarchy, controller));
        let has = |controller: &str, file: &str| v1(controller).is_some_and(|at| at.mount.join(file).exists());
        let v2 = |controller: &str| {
            let controllers = layout.v2.as_ref().map(|at| read(&at.own.join("cgroup.controllers"))).unwrap_or_default();
            controllers.split_ascii_whitespace().any(|name| name == controller)
        };
        Self {
            swap: match v1("memory") {
                Some(_) => has("memory", "memory.memsw.limit_in_bytes"),
                None => v2("memory"),
            },
            swappiness: has("memory", "memory.swappiness"),
            oom_switch: has("memory", "memory.oom_control"),
            // The weight itself is no file of the root group; the BFQ scheduler's figures are.
            io_weight: match v1("blkio") {
                Some(_) => has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.io_service_bytes"),
                None => v2("io"),
            },
            io_rate: match v1("blkio") {
                Some(_) => has("blkio", "blkio.throttle.read_bps_device"),
                None => v2("io"),
            },
            realtime: has("cpu", "cpu.rt_runtime_us"),
        }
    }
}

fn names(hierarchy: &Hierarchy, controller: &str) -> bool {
    hierarchy.controllers.split(',').any(|name| name == controller)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
