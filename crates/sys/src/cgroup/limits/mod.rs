//! Limits as values, and which files they go to in either version.
//!
//! Pure planning: [`Limits`] in, a list of writes out. Each controller is planned for the version that has it, so that a
//! hybrid host may have some in one and some in the other. Sources: the kernel's admin-guide/cgroup-v1 and cgroup-v2.

mod v1;
mod v2;

use std::fs;
use std::path::Path;

pub(super) use v2::io_weight;

use super::device::DeviceAccess;
use super::{Error, failed, write_file};

/// Limits of a group; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: MemoryLimits,
    /// Processors.
    pub cpu: CpuLimits,
    /// Block devices.
    pub io: IoLimits,
    /// Number of tasks; 0 or less is no limit.
    pub pids: Option<i64>,
    /// Bytes of huge pages, by their size as `2MB`.
    pub hugepages: Vec<(String, u64)>,
    /// Handles and objects of RDMA, by device.
    pub rdma: Vec<(String, Option<u32>, Option<u32>)>,
    /// Class of packets (version 1).
    pub network_class: Option<u32>,
    /// Priority of packets by interface (version 1).
    pub network_priorities: Vec<(String, u32)>,
    /// Device rules, in order.
    pub devices: Vec<DeviceAccess>,
    /// Files of version 2 and their values, as they are.
    pub unified: Vec<(String, String)>,
}

/// Limits of memory, in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Of memory.
    pub limit: Option<i64>,
    /// Of memory and swap together.
    pub with_swap: Option<i64>,
    /// Below which nothing is reclaimed when memory is short.
    pub reservation: Option<i64>,
    /// Of the kernel's memory (version 1, kernels before 6.1).
    pub kernel: Option<i64>,
    /// Of TCP buffers (version 1).
    pub kernel_tcp: Option<i64>,
    /// Swappiness, 0 to 100 (version 1).
    pub swappiness: Option<u64>,
    /// Whether the out-of-memory killer is off (version 1).
    pub no_oom_killer: bool,
    /// Whether a limit below the present use is refused.
    pub check_use: bool,
}

/// Limits of processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuLimits {
    /// Relative share of the processors, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds of processor time per period; -1 is no limit.
    pub quota: Option<i64>,
    /// Microseconds of a period.
    pub period: Option<u64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds of real-time processor time per period (version 1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds of a real-time period (version 1).
    pub realtime_period: Option<u64>,
    /// Whether the group runs only when nobody else wants to.
    pub idle: Option<bool>,
    /// Processors, as a list.
    pub cpus: String,
    /// Memory nodes, as a list.
    pub mems: String,
}

/// Limits of block devices; devices are `(major, minor)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight of tasks against child groups (version 1).
    pub leaf_weight: Option<u16>,
    /// Weight by device, and that of tasks against child groups.
    pub weights: Vec<(Device, Option<u16>, Option<u16>)>,
    /// Bytes or operations per second, by device.
    pub rates: Vec<(Rate, Device, u64)>,
}

/// A block device: major and minor number.
pub type Device = (u32, u32);

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// Whose file it is; `unified` is any of version 2's.
    pub(super) controller: &'static str,
    /// Its name.
    pub(super) file: String,
    /// Another file and value on other kernels.
    pub(super) or: Option<(&'static str, String)>,
    /// Whether a host without the file has nothing to limit there.
    pub(super) optional: bool,
    /// What is written.
    pub(super) value: String,
}

fn write(controller: &'static str, file: impl Into<String>, value: impl std::fmt::Display) -> Write {
    Write { controller, file: file.into(), or: None, optional: false, value: value.to_string() }
}

impl Limits {
    /// The writes for a host where `is_v1` tells of a controller whether version 1 has it. Device rules of version 2 are no
    /// writes.
    pub(super) fn plan(&self, is_v1: impl Fn(&str) -> bool) -> Result<Vec<Write>, Error> {
        let mut plan = Vec::new();
        if is_v1("memory") {
            v1::memory(&self.memory, &mut plan);
        } else {
            v2::memory(&self.memory, &mut plan)?;
        }
        if is_v1("cpu") {
            v1::cpu(&self.cpu, &mut plan);
        } else {
            v2::cpu(&self.cpu, &mut plan)?;
        }
        if !self.cpu.cpus.is_empty() {
            plan.push(write("cpuset", "cpuset.cpus", &self.cpu.cpus));
        }
        if !self.cpu.mems.is_empty() {
            plan.push(write("cpuset", "cpuset.mems", &self.cpu.mems));
        }
        if is_v1("blkio") {
            v1::io(&self.io, &mut plan);
        } else {
            v2::io(&self.io, &mut plan)?;
        }
        if let Some(pids) = self.pids {
            plan.push(write("pids", "pids.max", max_or(pids, 1)));
        }
        for (size, bytes) in &self.hugepages {
            if size.contains('/') {
                return Err(Error::Unsupported { what: "a size of huge pages with a slash" });
            }
            let (file, reserved) = if is_v1("hugetlb") {
                (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.rsvd.limit_in_bytes"))
            } else {
                (format!("hugetlb.{size}.max"), format!("hugetlb.{size}.rsvd.max"))
            };
            plan.push(write("hugetlb", file, bytes));
            plan.push(Write { optional: true, ..write("hugetlb", reserved, bytes) });
        }
        for (device, handles, objects) in &self.rdma {
            let part =
                |name: &str, value: &Option<u32>| value.map(|value| format!(" {name}={value}")).unwrap_or_default();
            let value = format!("{device}{}{}", part("hca_handle", handles), part("hca_object", objects));
            plan.push(write("rdma", "rdma.max", value));
        }
        self.plan_network(&is_v1, &mut plan)?;
        if is_v1("devices") {
            for rule in self.devices.iter().flat_map(|rule| rule.for_v1()) {
                plan.push(write("devices", if rule.allow { "devices.allow" } else { "devices.deny" }, rule));
            }
        }
        for (file, value) in &self.unified {
            if file.contains('/') {
                return Err(Error::Unsupported { what: "a unified setting with a slash in its name" });
            }
            plan.push(write("unified", file, value));
        }
        Ok(plan)
    }

    fn plan_network(&self, is_v1: &impl Fn(&str) -> bool, plan: &mut Vec<Write>) -> Result<(), Error> {
        if let Some(class) = self.network_class {
            if !is_v1("net_cls") {
                return Err(Error::Unsupported { what: "a network class" });
            }
            plan.push(write("net_cls", "net_cls.classid", class));
        }
        for (interface, priority) in &self.network_priorities {
            if !is_v1("net_prio") {
                return Err(Error::Unsupported { what: "a network priority" });
            }
            plan.push(write("net_prio", "net_prio.ifpriomap", format!("{interface} {priority}")));
        }
        Ok(())
    }
}

/// The number, or `max` when it is below `least`.
fn max_or(value: i64, least: i64) -> String {
    if value < least { "max".to_owned() } else { value.to_string() }
}

/// Controllers that a container's group is limited by.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"];

/// Hands the controllers of a v2 group on to the groups below it, as many as it has.
pub(super) fn enable_controllers(folder: &Path) -> Result<(), Error> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(failed("read", &path))
    };
    let (there, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let missing = there
        .split_ascii_whitespace()
        .filter(|name| CONTROLLERS.contains(name) && !enabled.split_ascii_whitespace().any(|other| other == *name));
    for name in missing {
        let file = folder.join("cgroup.subtree_control");
        match fs::write(&file, format!("+{name}")) {
            Ok(()) => {}
            // Processes in an inner group, or a delegation that ends here: the limit itself will say what is missing.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EOPNOTSUPP | libc::EACCES)) => {}
            Err(source) => return Err(failed("write to", &file)(source)),
        }
    }
    Ok(())
}

/// Gives the new cpuset groups from `mount` down to `folder` what their parents have: without, nobody can join.
pub(super) fn inherit_cpuset(mount: &Path, folder: &Path) -> Result<(), Error> {
    let mut parent = mount.to_owned();
    for part in folder.strip_prefix(mount).unwrap_or(folder) {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (parent.join(file), child.join(file));
            if fs::read_to_string(&to).map_err(failed("read", &to))?.trim().is_empty() {
                let value = fs::read_to_string(&from).map_err(failed("read", &from))?;
                write_file(&to, value.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}
