//! `GET /containers/{id}/stats`: what a container uses, as the clients of cgroup version 1 and 2 read it.

#![allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, ContainerStats")]

use std::collections::BTreeMap;

use atoll_model::{DeviceUse, InterfaceUse, ProcessorUse, Sample, Timestamp, Workload};
use serde::{Deserialize, Serialize};

use super::time;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    pub name: String,
    pub id: String,
    pub read: String,
    pub preread: String,
    pub pids_stats: PidsStats,
    pub blkio_stats: BlkioStats,
    pub num_procs: u32,
    pub storage_stats: BTreeMap<String, u64>,
    pub cpu_stats: CpuStats,
    pub precpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero_count")]
    pub online_cpus: u32,
    pub throttling_data: ThrottlingData,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    pub total_usage: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero_count(value: &u32) -> bool {
    *value == 0
}

/// Two samples as one answer. A container that does not run has none, and nothing but zeros then.
#[must_use]
pub fn container_stats(workload: &Workload, before: Option<&Sample>, now: Option<&Sample>) -> ContainerStats {
    let read = |sample: Option<&Sample>| time::rfc3339(sample.and_then(|sample| sample.at).unwrap_or(Timestamp::NEVER));
    let mut stats = ContainerStats {
        name: format!("/{}", workload.name),
        id: workload.id.to_string(),
        read: read(now),
        preread: read(before),
        precpu_stats: before.map(|sample| cpu(&sample.processors)).unwrap_or_default(),
        ..ContainerStats::default()
    };
    let Some(now) = now else { return stats };
    stats.cpu_stats = cpu(&now.processors);
    stats.pids_stats = PidsStats { current: now.tasks, limit: now.tasks_limit.unwrap_or(0) };
    stats.blkio_stats = blkio(&now.devices, now.is_unified);
    stats.memory_stats = MemoryStats {
        usage: now.memory.usage,
        // Clients tell the versions apart by what only version 1 has.
        max_usage: if now.is_unified { 0 } else { now.memory.max_usage },
        failcnt: if now.is_unified { 0 } else { now.memory.failures },
        stats: now.memory.details.clone(),
        limit: now.memory.limit,
    };
    if !now.interfaces.is_empty() {
        stats.networks = Some(now.interfaces.iter().map(network).collect());
    }
    stats
}

fn cpu(processors: &ProcessorUse) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: processors.total,
            percpu_usage: processors.by_processor.clone(),
            usage_in_kernelmode: processors.system,
            usage_in_usermode: processors.user,
        },
        system_cpu_usage: processors.of_host,
        online_cpus: processors.count,
        throttling_data: ThrottlingData {
            periods: processors.periods[0],
            throttled_periods: processors.periods[1],
            throttled_time: processors.throttled,
        },
    }
}

/// Version 2 has two operations, in small letters.
fn blkio(devices: &[DeviceUse], is_unified: bool) -> BlkioStats {
    let known = |of: &&DeviceUse| !is_unified || matches!(of.operation.as_str(), "Read" | "Write");
    let entry = |of: &DeviceUse, value: u64| BlkioEntry {
        major: of.device.0,
        minor: of.device.1,
        op: if is_unified { of.operation.to_lowercase() } else { of.operation.clone() },
        value,
    };
    let list = |value: fn(&DeviceUse) -> u64| {
        let all: Vec<_> = devices.iter().filter(known).map(|of| entry(of, value(of))).collect();
        Some(all).filter(|all| !all.is_empty() || !is_unified)
    };
    let none = || if is_unified { None } else { Some(Vec::new()) };
    BlkioStats {
        io_service_bytes_recursive: list(|of| of.bytes),
        io_serviced_recursive: if is_unified { None } else { list(|of| of.count) },
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

fn network(one: &InterfaceUse) -> (String, NetworkStats) {
    let ([rx_bytes, rx_packets, rx_errors, rx_dropped], [tx_bytes, tx_packets, tx_errors, tx_dropped]) =
        (one.received, one.sent);
    let stats =
        NetworkStats { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
    (one.name.clone(), stats)
}

impl ContainerStats {
    /// Processor time in percent of one processor, as Docker's client computes it.
    #[must_use]
    pub fn cpu_percent(&self) -> f64 {
        let (now, before) = (&self.cpu_stats, &self.precpu_stats);
        let own = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage) as f64;
        let host = now.system_cpu_usage.saturating_sub(before.system_cpu_usage) as f64;
        if own > 0.0 && host > 0.0 { own / host * f64::from(now.online_cpus) * 100.0 } else { 0.0 }
    }

    /// Memory in use without what the kernel could give up at once.
    #[must_use]
    pub fn memory_in_use(&self) -> u64 {
        let stats = &self.memory_stats.stats;
        let cache = stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied().unwrap_or(0);
        let usage = self.memory_stats.usage;
        if cache < usage { usage - cache } else { usage }
    }

    /// Bytes that came in and went out over its networks.
    #[must_use]
    pub fn network_bytes(&self) -> (u64, u64) {
        let all = self.networks.iter().flat_map(BTreeMap::values);
        all.fold((0, 0), |(received, sent), one| (received + one.rx_bytes, sent + one.tx_bytes))
    }

    /// Bytes read from and written to block devices.
    #[must_use]
    pub fn block_bytes(&self) -> (u64, u64) {
        let all = self.blkio_stats.io_service_bytes_recursive.iter().flatten();
        all.fold((0, 0), |(read, written), entry| match entry.op.as_bytes().first() {
            Some(b'r' | b'R') => (read + entry.value, written),
            Some(b'w' | b'W') => (read, written + entry.value),
            _ => (read, written),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(total: u64, of_host: u64) -> Sample {
        let device =
            |operation: &str, bytes| DeviceUse { device: (8, 0), operation: operation.to_owned(), bytes, count: 1 };
        Sample {
            processors: ProcessorUse { total, of_host, count: 4, ..ProcessorUse::default() },
            devices: vec![device("Read", 10), device("Write", 20), device("Discard", 30)],
            ..Sample::default()
        }
    }

    #[test]
    fn percentages_are_of_one_processor() {
        let stats = |before: &Sample, now: &Sample| ContainerStats {
            cpu_stats: cpu(&now.processors),
            precpu_stats: cpu(&before.processors),
            ..ContainerStats::default()
        };
        let check = |before: &Sample, now: &Sample, expected: f64| {
            assert!((stats(before, now).cpu_percent() - expected).abs() < 0.001);
        };
        check(&sample(0, 0), &sample(100, 400), 100.0);
        check(&sample(100, 400), &sample(400, 800), 300.0);
        check(&sample(100, 400), &sample(100, 800), 0.0);
        check(&sample(100, 400), &sample(0, 0), 0.0);
    }

    #[test]
    fn block_devices_of_both_versions() {
        for unified in [false, true] {
            let blkio_stats = blkio(&sample(0, 0).devices, unified);
            let count = blkio_stats.io_service_bytes_recursive.as_ref().map(Vec::len);
            assert_eq!(count, Some(if unified { 2 } else { 3 }));
            assert_eq!(blkio_stats.io_queue_recursive.is_none(), unified);
            let stats = ContainerStats { blkio_stats, ..ContainerStats::default() };
            assert_eq!(stats.block_bytes(), (10, 20));
        }
    }

    #[test]
    fn memory_is_without_what_could_be_dropped() {
        let of = |usage, name: &str, cache| {
            let memory_stats =
                MemoryStats { usage, stats: BTreeMap::from([(name.to_owned(), cache)]), ..MemoryStats::default() };
            ContainerStats { memory_stats, ..ContainerStats::default() }.memory_in_use()
        };
        assert_eq!(of(100, "total_inactive_file", 30), 70);
        assert_eq!(of(100, "inactive_file", 30), 70);
        assert_eq!(of(100, "inactive_file", 100), 100);
    }
}
