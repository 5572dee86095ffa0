//! Limits as properties of a unit (systemd.resource-control(5)), from what is written to the group's files.

use super::super::limits::Write;
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
/// Highest number of a processor or memory node that is told.
const SET_MAX: usize = 8191;

/// The properties of those writes that have one. A value that is none is left to the kernel, which refuses it by name.
pub(in super::super) fn of_writes(writes: &[Write]) -> Vec<(String, Value)> {
    let properties = writes.iter().flat_map(|write| of_write(&write.file, write.value.trim()));
    properties.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_write(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    if let Some((_, name)) = NUMBERS.iter().find(|(known, _)| *known == file) {
        return number(value).map(|number| (*name, Value::Uint64(number))).into_iter().collect();
    }
    match (file, value) {
        // A weight of none is how systemd says idle.
        ("cpu.idle", "1") => vec![("CPUWeight", Value::Uint64(0))],
        ("cpu.max", _) => quota(value).unwrap_or_default(),
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
