//! Limits in the units of the runtime specification, checked as Docker checks them.

use atoll_model::{Resources, Ulimit};
use atoll_oci::runtime::{self as oci, BlockIo, Cpu, Memory, Pids, Rlimit};

use super::Error;

/// Less memory than this starts nothing (Docker's limit).
const MEMORY_MIN: u64 = 6 << 20;
/// Length of a scheduling period in microseconds, unless given.
const PERIOD: u64 = 100_000;
/// Shortest quota that the kernel takes, in microseconds.
const QUOTA_MIN: u64 = 1000;
const NANOS: u64 = 1_000_000_000;
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

pub(super) fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<Rlimit>, Error> {
    ulimits.iter().map(rlimit).collect()
}

fn rlimit(ulimit: &Ulimit) -> Result<Rlimit, Error> {
    let name = ulimit.name.to_ascii_lowercase();
    if !Ulimit::NAMES.contains(&name.as_str()) {
        return Err(Error::UnknownUlimit(ulimit.name.clone()));
    }
    // -1 is the largest value there is; other negative ones are meant to be nothing.
    let value = |value: i64| match value {
        -1 => Ok(u64::MAX),
        value => u64::try_from(value).map_err(|_| Error::Limit(format!("ulimit {name}: {value} is below -1"))),
    };
    let (soft, hard) = (value(ulimit.soft)?, value(ulimit.hard)?);
    if soft > hard {
        return Err(Error::UlimitOrder { name, soft: ulimit.soft, hard: ulimit.hard });
    }
    Ok(Rlimit { typ: format!("RLIMIT_{}", name.to_ascii_uppercase()), hard, soft })
}

pub(super) fn resources(resources: &Resources) -> Result<oci::Resources, Error> {
    Ok(oci::Resources {
        memory: memory(resources)?,
        cpu: cpu(resources)?,
        pids: resources.pids.filter(|limit| *limit > 0).map(|limit| Pids { limit }),
        ..oci::Resources::default()
    })
}

/// What is to be written for limits to be as in `after`: those that are gone since `before` are lifted.
///
/// # Errors
/// [`Error::Limit`] when a value is out of its range, or at odds with another.
pub fn change_of_limits(before: &Resources, after: &Resources) -> Result<oci::Resources, Error> {
    let mut change = resources(after)?;
    if before.pids.is_some() && change.pids.is_none() {
        change.pids = Some(Pids { limit: -1 });
    }
    let has_quota = |resources: &Resources| resources.nano_cpus.is_some() || resources.cpu_quota.is_some();
    if has_quota(before) && !has_quota(after) {
        change.cpu.get_or_insert_default().quota = Some(-1);
    }
    change.block_io = after.block_io.weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() });
    Ok(change)
}

fn memory(resources: &Resources) -> Result<Option<Memory>, Error> {
    let limit = resources.memory.filter(|bytes| *bytes > 0);
    if limit.is_some_and(|bytes| bytes < MEMORY_MIN) {
        return Err(Error::Limit(format!("minimum memory limit allowed is {} MiB", MEMORY_MIN >> 20)));
    }
    let swap = match (limit, resources.memory_swap) {
        (None, Some(swap)) if swap > 0 => {
            return Err(Error::Limit("a memory and swap limit needs a memory limit too: add --memory".to_owned()));
        }
        (_, Some(-1)) => Some(-1),
        (_, Some(swap)) if swap < -1 => {
            return Err(Error::Limit(format!("memory and swap limit {swap} is below -1")));
        }
        (Some(limit), Some(swap)) if swap > 0 => {
            if swap.unsigned_abs() < limit {
                return Err(Error::Limit("the memory and swap limit must not be below the memory limit".to_owned()));
            }
            Some(swap)
        }
        // As much swap again, as Docker does.
        (Some(limit), _) => Some(bytes(limit.saturating_mul(2))),
        (None, _) => None,
    };
    let reservation = resources.memory_reservation.filter(|bytes| *bytes > 0);
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        return Err(Error::Limit("the memory reservation must not be above the memory limit".to_owned()));
    }
    let memory = Memory {
        limit: limit.map(bytes),
        reservation: reservation.map(bytes),
        swap,
        swappiness: resources.swappiness,
        disable_oom_killer: resources.oom.kill_disable.then_some(true),
        ..Memory::default()
    };
    Ok((memory != Memory::default()).then_some(memory))
}

fn bytes(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn cpu(resources: &Resources) -> Result<Option<Cpu>, Error> {
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    let period = resources.cpu_period.filter(|period| *period != 0);
    let (quota, period) = match resources.nano_cpus.filter(|nanos| *nanos != 0) {
        None => (quota, period),
        Some(_) if quota.is_some() || period.is_some() => {
            return Err(Error::Limit("conflicting options: --cpus and --cpu-quota or --cpu-period".to_owned()));
        }
        Some(nanos) => {
            let quota = u128::from(nanos) * u128::from(PERIOD) / u128::from(NANOS);
            if quota < u128::from(QUOTA_MIN) {
                return Err(Error::Limit("range of CPUs is from 0.01 upward".to_owned()));
            }
            let quota = i64::try_from(quota).map_err(|_| Error::Limit("too many CPUs".to_owned()))?;
            (Some(quota), Some(PERIOD))
        }
    };
    let shares = resources.cpu_shares.filter(|shares| *shares != 0);
    if let Some(shares) = shares
        && !SHARES.contains(&shares)
    {
        return Err(Error::Limit(format!("CPU shares are from {} to {}", SHARES.start(), SHARES.end())));
    }
    let cpu = Cpu {
        shares,
        quota,
        period,
        cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        mems: resources.cpuset_mems.clone().unwrap_or_default(),
        realtime_period: resources.realtime.period,
        realtime_runtime: resources.realtime.runtime,
        ..Cpu::default()
    };
    Ok((cpu != Cpu::default()).then_some(cpu))
}
