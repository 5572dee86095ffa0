//! What a workload uses: its control groups, its network, and what the host had to give meanwhile.

use std::path::Path;
use std::time::SystemTime;

use atoll_model::{DeviceUse, InterfaceUse, MemoryUse, ProcessorUse, Sample};
use atoll_sys::cgroup::{Cgroup, MemoryUsage, Stats};
use atoll_sys::usage::{self, Processors};

use super::recover::of_this_boot;
use crate::Error;

/// The interface that every network has.
const LOOPBACK: &str = "lo";

/// What the workload with this run folder uses now; none when it has ended. Without control groups most of it is zero.
/// `host_network`: whether its network is the host's, whose traffic is not its own.
///
/// # Errors
/// When a record or /proc cannot be read.
pub fn sample(run: &Path, host_network: bool) -> Result<Option<Sample>, Error> {
    let Some(shim) = of_this_boot(run)? else { return Ok(None) };
    let failed = |what: &str| Error::io(format!("reading {what}"));
    let cgroup: Cgroup = shim
        .cgroup
        .parse()
        .map_err(|error| failed("the recorded cgroup")(std::io::Error::other(format!("{error}"))))?;
    let host = usage::processors().map_err(failed("/proc/stat"))?;
    let memory = usage::memory().map_err(failed("/proc/meminfo"))?;
    let interfaces = if host_network {
        Vec::new()
    } else {
        // One that is ending has no network any more.
        usage::interfaces(shim.init.pid, shim.init.start_time).unwrap_or_default()
    };
    let stats = cgroup.stats();
    Ok(Some(Sample {
        at: Some(SystemTime::now().into()),
        processors: processors(&stats, host),
        memory: memory_use(stats.memory, if cgroup.is_none() { 0 } else { memory }),
        tasks: stats.pids,
        tasks_limit: stats.pids_limit,
        devices: stats
            .io
            .into_iter()
            .map(|io| DeviceUse { device: io.device, operation: io.operation, bytes: io.bytes, count: io.count })
            .collect(),
        interfaces: interfaces
            .into_iter()
            .filter(|interface| interface.name != LOOPBACK)
            .map(|one| InterfaceUse { name: one.name, received: one.received, sent: one.sent })
            .collect(),
        is_unified: cgroup.is_unified(),
    }))
}

fn processors(stats: &Stats, host: Processors) -> ProcessorUse {
    let cpu = &stats.cpu;
    ProcessorUse {
        total: cpu.total,
        user: cpu.user,
        system: cpu.system,
        by_processor: cpu.by_processor.clone(),
        periods: [cpu.periods, cpu.throttled],
        throttled: cpu.throttled_time,
        of_host: host.time,
        count: host.count,
    }
}

fn memory_use(memory: MemoryUsage, of_host: u64) -> MemoryUse {
    MemoryUse {
        usage: memory.usage,
        max_usage: memory.max_usage,
        limit: memory.limit.unwrap_or(of_host).min(of_host),
        failures: memory.failures,
        details: memory.details,
    }
}
