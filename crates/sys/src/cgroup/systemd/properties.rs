//! Limits as properties of a unit (systemd.resource-control(5)), from what is written to the group's files.

use std::fs;
use std::path::Path;

use super::super::device::{Allowed, DeviceAccess, DeviceKind};
use super::super::limits::{Write, io_weight};
use crate::dbus::Value;

/// Files of version 2 with one number or `max`, and their properties.
const NUMBERS: [(&str, &str); 7] = [
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
    ("cpu.weight", "CPUWeight"),
];

/// systemd keeps quotas as whole percents of a second: in steps of so many microseconds.
const QUOTA_STEP: u64 = 10_000;
/// The least and the most of a share of the processors, to which the kernel rounds.
const SHARES: (u64, u64) = (2, 262_144);
/// Quota and period of version 1, and what they are in a new group.
const QUOTA: (&str, &str) = ("cpu.cfs_quota_us", "-1");
const PERIOD: (&str, &str) = ("cpu.cfs_period_us", "100000");
/// Highest number of a processor or memory node that is told.
const SET_MAX: usize = 8191;

/// The properties of those writes that have one. A value that is none is left to the kernel, which refuses it by name.
/// `cpu_v1` is the group's folder for processors where version 1 has them; it may not be there yet.
pub(in super::super) fn of_writes(writes: &[Write], cpu_v1: Option<&Path>) -> Vec<(String, Value)> {
    let properties = writes.iter().flat_map(|write| of_write(&write.file, write.value.trim()));
    // In version 1 systemd has no word for idle; the kernel lets nobody give an idle group a share.
    let properties = properties.filter(|(name, _)| cpu_v1.is_none() || *name != "CPUWeight");
    let quota = cpu_v1.and_then(|folder| quota_v1(writes, folder)).unwrap_or_default();
    properties.chain(quota).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The properties of device rules for version 1; none for no rules. `None` for rules that they cannot say.
pub(in super::super) fn of_devices(rules: &[DeviceAccess]) -> Option<Vec<(String, Value)>> {
    if rules.is_empty() {
        return Some(Vec::new());
    }
    let (policy, allowed) = match Allowed::by(rules) {
        Allowed::All => ("auto", Vec::new()),
        Allowed::Only(allowed) => ("strict", allowed.iter().map(device).collect::<Option<_>>()?),
        Allowed::AllBut => return None,
    };
    let list = |devices| ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), devices));
    // An empty list takes away what there was.
    Some(vec![("DevicePolicy".to_owned(), Value::text(policy)), list(Vec::new()), list(allowed)])
}

/// A device as systemd names it, and the access to it. Nodes of these names need not be there.
fn device(rule: &DeviceAccess) -> Option<Value> {
    let kind = if rule.kind == DeviceKind::Block { "block" } else { "char" };
    let name = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
    };
    Some(Value::Struct(vec![Value::Text(name), Value::Text(rule.access.letters())]))
}

fn of_write(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    let one = |name, number: Option<u64>| number.map(|number| (name, Value::Uint64(number))).into_iter().collect();
    if let Some((_, name)) = NUMBERS.iter().find(|(known, _)| *known == file) {
        return one(*name, number(value));
    }
    match (file, value) {
        // A weight of none is how systemd says idle.
        ("cpu.idle", "1") => vec![("CPUWeight", Value::Uint64(0))],
        ("cpu.max", _) => quota(value).unwrap_or_default(),
        ("cpu.shares", _) => one("CPUShares", number(value).map(|shares| shares.clamp(SHARES.0, SHARES.1))),
        ("memory.limit_in_bytes", "-1") => one("MemoryLimit", Some(u64::MAX)),
        ("memory.limit_in_bytes", _) => one("MemoryLimit", number(value)),
        ("io.bfq.weight", _) => {
            one("IOWeight", number(value).filter(|weight| (1..=1000).contains(weight)).map(io_weight))
        }
        ("io.weight", _) => {
            let weight = number(value.trim_start_matches("default ")).filter(|weight| (1..=10_000).contains(weight));
            one("IOWeight", weight)
        }
        ("blkio.weight", _) => one("BlockIOWeight", number(value).filter(|weight| (10..=1000).contains(weight))),
        ("cpuset.cpus", _) => set(value).map(|set| ("AllowedCPUs", set)).into_iter().collect(),
        ("cpuset.mems", _) => set(value).map(|set| ("AllowedMemoryNodes", set)).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// From quota and period of `cpu.max`.
fn quota(value: &str) -> Option<Vec<(&'static str, Value)>> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let (quota, period) = (number(quota)?, period.parse::<u64>().ok().filter(|period| *period > 0)?);
    let per_second = if quota == u64::MAX {
        u64::MAX
    } else {
        let exact = u128::from(quota) * 1_000_000 / u128::from(period);
        u64::try_from(exact).ok()?.checked_next_multiple_of(QUOTA_STEP)?
    };
    Some(vec![("CPUQuotaPeriodUSec", Value::Uint64(period)), ("CPUQuotaPerSecUSec", Value::Uint64(per_second))])
}

/// From quota and period of version 1; one that is not written is as it was.
fn quota_v1(writes: &[Write], folder: &Path) -> Option<Vec<(&'static str, Value)>> {
    let written = |file: &str| writes.iter().find(|write| write.file == file).map(|write| write.value.clone());
    written(QUOTA.0).or_else(|| written(PERIOD.0))?;
    let now = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let [limit, period] =
        [QUOTA, PERIOD].map(|(file, new)| written(file).or_else(|| now(file)).unwrap_or_else(|| new.to_owned()));
    let limit = if limit.trim().starts_with('-') { "max" } else { limit.trim() };
    quota(&format!("{limit} {}", period.trim()))
}

/// From a list as `0-3,7`: the set as bits, the lowest number in the lowest bit of the first byte.
fn set(list: &str) -> Option<Value> {
    let mut bytes = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > SET_MAX {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0_u8);
        for at in first..=last {
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
    Some(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}
