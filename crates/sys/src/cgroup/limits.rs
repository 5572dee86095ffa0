//! Limits as values, and which files they go to in either version.
//!
//! Pure planning: [`Limits`] in, a list of writes out, in an order that the kernel accepts on a new group. Sources: the
//! kernel's admin-guide/cgroup-v1 and cgroup-v2.

use std::fs;
use std::path::Path;

use super::{Error, failed, write_file};

/// One rule of a device allow-list, as version 1 writes it: `c 1:3 rwm`, `a *:* rwm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Whether it allows or denies.
    pub allow: bool,
    /// `a`, `b` or `c`; major and minor number or `*`; any of `rwm`.
    pub rule: String,
}

/// Limits of a group; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; -1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_and_swap: Option<i64>,
    /// Bytes of memory below which nothing is reclaimed when memory is short.
    pub memory_reservation: Option<i64>,
    /// Swappiness, 0 to 100 (version 1).
    pub swappiness: Option<u64>,
    /// Relative share of the processors, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time per period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds of a period.
    pub cpu_period: Option<u64>,
    /// Processors, as a list.
    pub cpus: String,
    /// Memory nodes, as a list.
    pub mems: String,
    /// Number of tasks; 0 or less is no limit.
    pub pids: Option<i64>,
    /// Device rules, in order.
    pub devices: Vec<DeviceAccess>,
    /// Files of version 2 and their values, as they are.
    pub unified: Vec<(String, String)>,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

fn write(controller: &'static str, file: &str, value: impl std::fmt::Display) -> Write {
    Write { controller, file: file.to_owned(), value: value.to_string() }
}

impl Limits {
    pub(super) fn plan_v1(&self) -> Result<Vec<Write>, Error> {
        if !self.unified.is_empty() {
            return Err(Error::Unsupported { what: "a unified (version 2) setting" });
        }
        let mut plan = Vec::new();
        if let Some(bytes) = self.memory {
            plan.push(write("memory", "memory.limit_in_bytes", bytes));
        }
        // The sum may not be below the memory alone: it comes second on a group without limits.
        if let Some(bytes) = self.memory_and_swap {
            plan.push(write("memory", "memory.memsw.limit_in_bytes", bytes));
        }
        if let Some(bytes) = self.memory_reservation {
            plan.push(write("memory", "memory.soft_limit_in_bytes", bytes));
        }
        if let Some(value) = self.swappiness {
            plan.push(write("memory", "memory.swappiness", value));
        }
        if let Some(shares) = self.cpu_shares {
            plan.push(write("cpu", "cpu.shares", shares));
        }
        if let Some(period) = self.cpu_period {
            plan.push(write("cpu", "cpu.cfs_period_us", period));
        }
        if let Some(quota) = self.cpu_quota {
            plan.push(write("cpu", "cpu.cfs_quota_us", quota));
        }
        if !self.cpus.is_empty() {
            plan.push(write("cpuset", "cpuset.cpus", &self.cpus));
        }
        if !self.mems.is_empty() {
            plan.push(write("cpuset", "cpuset.mems", &self.mems));
        }
        if let Some(pids) = self.pids {
            plan.push(write("pids", "pids.max", max_or(pids, 1)));
        }
        for device in &self.devices {
            plan.push(write("devices", if device.allow { "devices.allow" } else { "devices.deny" }, &device.rule));
        }
        Ok(plan)
    }

    pub(super) fn plan_v2(&self) -> Result<Vec<Write>, Error> {
        if !self.devices.is_empty() {
            return Err(Error::Unsupported { what: "a device rule" });
        }
        if self.swappiness.is_some() {
            return Err(Error::Unsupported { what: "memory swappiness" });
        }
        let mut plan = Vec::new();
        if let Some(bytes) = self.memory {
            plan.push(write("memory", "memory.max", max_or(bytes, 0)));
        }
        match (self.memory, self.memory_and_swap) {
            (_, None) => {}
            (_, Some(-1)) => plan.push(write("memory", "memory.swap.max", "max")),
            (Some(memory), Some(sum)) if memory >= 0 && sum >= memory => {
                plan.push(write("memory", "memory.swap.max", sum - memory));
            }
            _ => return Err(Error::Unsupported { what: "a swap limit below or without the memory limit" }),
        }
        if let Some(bytes) = self.memory_reservation {
            plan.push(write("memory", "memory.low", max_or(bytes, 0)));
        }
        if let Some(shares) = self.cpu_shares.filter(|shares| *shares != 0) {
            plan.push(write("cpu", "cpu.weight", weight(shares)));
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let quota = self.cpu_quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            plan.push(write("cpu", "cpu.max", format!("{quota} {}", self.cpu_period.unwrap_or(100_000))));
        }
        if !self.cpus.is_empty() {
            plan.push(write("cpuset", "cpuset.cpus", &self.cpus));
        }
        if !self.mems.is_empty() {
            plan.push(write("cpuset", "cpuset.mems", &self.mems));
        }
        if let Some(pids) = self.pids {
            plan.push(write("pids", "pids.max", max_or(pids, 1)));
        }
        for (file, value) in &self.unified {
            if file.contains('/') {
                return Err(Error::Unsupported { what: "a unified setting with a slash in its name" });
            }
            plan.push(write("unified", file, value));
        }
        Ok(plan)
    }
}

/// The number, or `max` when it is below `least`.
fn max_or(value: i64, least: i64) -> String {
    if value < least { "max".to_owned() } else { value.to_string() }
}

/// Shares 2 to 262144 as weight 1 to 10000, the conversion of runtime-spec's peers.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Controllers that a container's group is limited by.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

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
