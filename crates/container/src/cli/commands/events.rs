//! `events`: the usage of a container as JSON, once or again and again, and its out-of-memory events.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use atoll_oci::runtime::Status;
use atoll_sys::cgroup::{BlockIo, Stats};
use atoll_sys::pidfd;
use serde_json::{Value, json};

use crate::cli::state::Folder;

/// What runc prints for "no limit".
const NO_LIMIT: u64 = i64::MAX as u64 & !0xfff;

pub(super) fn events(root: &Path, id: &str, interval: u64, once: bool) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    if record.status(&folder)? == Status::Stopped {
        bail!("container not running: {id:?} has ended");
    }
    drop(folder);
    let cgroup = record.cgroup()?;
    let process = record.process().with_context(|| format!("container not running: {id:?} has ended"))?;
    let mut seen = cgroup.stats().memory.oom_kills;
    loop {
        let stats = cgroup.stats();
        if stats.memory.oom_kills > seen {
            line(&json!({"type": "oom", "id": id}))?;
            seen = stats.memory.oom_kills;
        }
        line(&json!({"type": "stats", "id": id, "data": data(&stats)}))?;
        if once || pidfd::poll(&process, Some(Duration::from_secs(interval)))? {
            return Ok(0);
        }
    }
}

fn line(value: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{value}").context("cannot write the event")
}

/// The shape of runc's `events`.
fn data(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let limit = |limit: Option<u64>| limit.unwrap_or(NO_LIMIT);
    let entries = |value: fn(&BlockIo) -> u64| {
        let entry =
            |io: &BlockIo| json!({"major": io.device.0, "minor": io.device.1, "op": io.operation, "value": value(io)});
        stats.io.iter().map(entry).collect::<Vec<_>>()
    };
    let hugepages: serde_json::Map<String, Value> = stats
        .hugepages
        .iter()
        .map(|(size, [usage, max, failures])| (size.clone(), json!({"usage": usage, "max": max, "failcnt": failures})))
        .collect();
    json!({
        "cpu": {
            "usage": {
                "total": cpu.total, "percpu": cpu.by_processor, "kernel": cpu.system, "user": cpu.user
            },
            "throttling": {
                "periods": cpu.periods, "throttledPeriods": cpu.throttled, "throttledTime": cpu.throttled_time
            }
        },
        "memory": {
            "usage": {
                "limit": limit(memory.limit), "usage": memory.usage, "max": memory.max_usage,
                "failcnt": memory.failures
            },
            "swap": { "limit": limit(memory.swap_limit), "usage": memory.swap, "failcnt": 0 },
            "raw": memory.details
        },
        "pids": { "current": stats.pids, "limit": stats.pids_limit.unwrap_or_default() },
        "blkio": {
            "ioServiceBytesRecursive": entries(|io| io.bytes), "ioServicedRecursive": entries(|io| io.count)
        },
        "hugetlb": hugepages
    })
}
