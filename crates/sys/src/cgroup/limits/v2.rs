//! Files of version 2, with values converted from version 1's units as the specification's peers do.

use super::super::Error;
use super::{CpuLimits, IoLimits, MemoryLimits, Rate, Write, max_or, write};

fn refuse(asked: &[(bool, &'static str)]) -> Result<(), Error> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::Unsupported { what }),
        None => Ok(()),
    }
}

pub(super) fn memory(limits: &MemoryLimits, plan: &mut Vec<Write>) -> Result<(), Error> {
    refuse(&[
        (limits.swappiness.is_some(), "memory swappiness"),
        (limits.no_oom_killer, "switching the out-of-memory killer off"),
        (limits.kernel.is_some() || limits.kernel_tcp.is_some(), "a limit of the kernel's memory"),
    ])?;
    plan.extend(limits.limit.map(|bytes| write("memory", "memory.max", max_or(bytes, 0))));
    match (limits.limit, limits.with_swap) {
        (_, None) => {}
        (_, Some(-1)) => plan.push(write("memory", "memory.swap.max", "max")),
        (Some(memory), Some(sum)) if memory >= 0 && sum >= memory => {
            plan.push(write("memory", "memory.swap.max", sum - memory));
        }
        _ => return Err(Error::Unsupported { what: "a swap limit below or without the memory limit" }),
    }
    plan.extend(limits.reservation.map(|bytes| write("memory", "memory.low", max_or(bytes, 0))));
    Ok(())
}

pub(super) fn cpu(limits: &CpuLimits, plan: &mut Vec<Write>) -> Result<(), Error> {
    refuse(&[(limits.realtime_runtime.is_some() || limits.realtime_period.is_some(), "real-time processor time")])?;
    plan.extend(limits.idle.map(|idle| write("cpu", "cpu.idle", u8::from(idle))));
    let shares = limits.shares.filter(|shares| *shares != 0 && limits.idle != Some(true));
    plan.extend(shares.map(|shares| write("cpu", "cpu.weight", weight(shares))));
    if limits.quota.is_some() || limits.period.is_some() {
        let quota = limits.quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        plan.push(write("cpu", "cpu.max", format!("{quota} {}", limits.period.unwrap_or(100_000))));
    }
    plan.extend(limits.burst.map(|burst| write("cpu", "cpu.max.burst", burst)));
    Ok(())
}

/// Shares 2 to 262144 as weight 1 to 10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A weight of the BFQ scheduler's, 1 to 1000, as one of 1 to 10000; 100 is the default of both. It is how systemd converts:
/// where it writes both files, nothing changes.
pub(in super::super) fn io_weight(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 11 }
}

pub(super) fn io(limits: &IoLimits, plan: &mut Vec<Write>) -> Result<(), Error> {
    refuse(&[(
        limits.leaf_weight.is_some() || limits.weights.iter().any(|(_, _, leaf)| leaf.is_some()),
        "the weight of tasks against child groups",
    )])?;
    // The BFQ scheduler's files take the same numbers.
    let device =
        |device: Option<&(u32, u32)>| device.map(|(major, minor)| format!("{major}:{minor} ")).unwrap_or_default();
    let mut weigh = |at: Option<&(u32, u32)>, value: u16| {
        let or = ("io.weight", format!("{}{}", device(at), io_weight(value.into())));
        plan.push(Write { or: Some(or), ..write("io", "io.bfq.weight", format!("{}{value}", device(at))) });
    };
    if let Some(value) = limits.weight {
        weigh(None, value);
    }
    for (at, value, _) in &limits.weights {
        if let Some(value) = value {
            weigh(Some(at), *value);
        }
    }
    for (rate, (major, minor), value) in &limits.rates {
        let name = match rate {
            Rate::ReadBytes => "rbps",
            Rate::WriteBytes => "wbps",
            Rate::Reads => "riops",
            Rate::Writes => "wiops",
        };
        let value = if *value == 0 { "max".to_owned() } else { value.to_string() };
        plan.push(write("io", "io.max", format!("{major}:{minor} {name}={value}")));
    }
    Ok(())
}
