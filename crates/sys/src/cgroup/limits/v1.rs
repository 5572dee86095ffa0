//! Files of version 1.

use super::{CpuLimits, IoLimits, MemoryLimits, Rate, Write, write};

pub(super) fn memory(limits: &MemoryLimits, plan: &mut Vec<Write>) {
    // The sum may not be below the memory alone: on a group without limits it comes second.
    let bytes = [
        ("memory.limit_in_bytes", limits.limit),
        ("memory.memsw.limit_in_bytes", limits.with_swap),
        ("memory.soft_limit_in_bytes", limits.reservation),
        ("memory.kmem.limit_in_bytes", limits.kernel),
        ("memory.kmem.tcp.limit_in_bytes", limits.kernel_tcp),
    ];
    for (file, value) in bytes {
        plan.extend(value.map(|value| write("memory", file, value)));
    }
    plan.extend(limits.swappiness.map(|value| write("memory", "memory.swappiness", value)));
    if limits.no_oom_killer {
        plan.push(write("memory", "memory.oom_control", 1));
    }
}

pub(super) fn cpu(limits: &CpuLimits, plan: &mut Vec<Write>) {
    plan.extend(limits.idle.map(|idle| write("cpu", "cpu.idle", u8::from(idle))));
    // An idle group has no share to set.
    plan.extend(limits.shares.filter(|_| limits.idle != Some(true)).map(|value| write("cpu", "cpu.shares", value)));
    plan.extend(limits.period.map(|value| write("cpu", "cpu.cfs_period_us", value)));
    plan.extend(limits.quota.map(|value| write("cpu", "cpu.cfs_quota_us", value)));
    plan.extend(limits.burst.map(|value| write("cpu", "cpu.cfs_burst_us", value)));
    plan.extend(limits.realtime_period.map(|value| write("cpu", "cpu.rt_period_us", value)));
    plan.extend(limits.realtime_runtime.map(|value| write("cpu", "cpu.rt_runtime_us", value)));
}

pub(super) fn io(limits: &IoLimits, plan: &mut Vec<Write>) {
    let weight = |file: &str, or, value: String| Write { or: Some((or, value.clone())), ..write("blkio", file, value) };
    plan.extend(limits.weight.map(|value| weight("blkio.weight", "blkio.bfq.weight", value.to_string())));
    plan.extend(limits.leaf_weight.map(|value| write("blkio", "blkio.leaf_weight", value)));
    for ((major, minor), value, leaf) in &limits.weights {
        plan.extend(
            value.map(|value| {
                weight("blkio.weight_device", "blkio.bfq.weight_device", format!("{major}:{minor} {value}"))
            }),
        );
        plan.extend(leaf.map(|value| write("blkio", "blkio.leaf_weight_device", format!("{major}:{minor} {value}"))));
    }
    for (rate, (major, minor), value) in &limits.rates {
        let file = match rate {
            Rate::ReadBytes => "blkio.throttle.read_bps_device",
            Rate::WriteBytes => "blkio.throttle.write_bps_device",
            Rate::Reads => "blkio.throttle.read_iops_device",
            Rate::Writes => "blkio.throttle.write_iops_device",
        };
        plan.push(write("blkio", file, format!("{major}:{minor} {value}")));
    }
}
