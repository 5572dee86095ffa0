//! How a process is scheduled, as the kernel's numbers (runtime-spec config.md, "Linux Process"; config-linux.md, "Memory
//! policy", "Personality").

use atoll_oci::runtime::{IoPriority, Linux, MemoryPolicy, Process, Scheduler};
use atoll_sys::schedule::SchedAttr;

use crate::error::PlanError;

/// Highest number of a processor or memory node in a list.
const LIST_MAX: u32 = 8191;

/// What of a process's scheduling differs from the runtime's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchedulePlan {
    /// Class and priority for I/O.
    pub io_priority: Option<(u8, u8)>,
    /// Policy for processor time.
    pub policy: Option<SchedAttr>,
    /// Processors of an exec's process before it enters the container's control groups, one bit each; empty for all.
    pub initial_processors: Vec<u64>,
    /// The same from then on.
    pub final_processors: Vec<u64>,
    /// Memory policy: mode with flags, and nodes.
    pub memory: Option<(i32, Vec<u64>)>,
    /// Execution domain (personality(2)).
    pub personality: Option<u64>,
}

impl SchedulePlan {
    /// Judges `process` and what `linux` says of memory and personality.
    pub(super) fn new(process: &Process, linux: Option<&Linux>) -> Result<Self, PlanError> {
        let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
        Ok(Self {
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            policy: process.scheduler.as_ref().map(policy).transpose()?,
            initial_processors: list("process.execCPUAffinity.initial", &affinity.initial)?,
            final_processors: list("process.execCPUAffinity.final", &affinity.last)?,
            memory: linux.and_then(|linux| linux.memory_policy.as_ref()).map(memory).transpose()?,
            personality: linux.and_then(|linux| linux.personality.as_ref()).map(personality).transpose()?,
        })
    }
}

fn io_priority(wanted: &IoPriority) -> Result<(u8, u8), PlanError> {
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(PlanError::invalid(format!("process.ioPriority.class {other:?} is unknown"))),
    };
    match u8::try_from(wanted.priority) {
        Ok(priority @ 0..=7) => Ok((class, priority)),
        _ => Err(PlanError::invalid(format!("process.ioPriority.priority {} is not within 0 to 7", wanted.priority))),
    }
}

fn policy(wanted: &Scheduler) -> Result<SchedAttr, PlanError> {
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(PlanError::invalid(format!("process.scheduler.policy {other:?} is unknown"))),
    };
    let invalid = |what: &str| Err(PlanError::invalid(format!("process.scheduler: {what}")));
    if !(-20..=19).contains(&wanted.nice) {
        return invalid("nice is not within -20 to 19");
    }
    if wanted.priority != 0 && !matches!(policy, 1 | 2) {
        return invalid("priority is for SCHED_FIFO and SCHED_RR");
    }
    if policy != 6 && (wanted.runtime, wanted.deadline, wanted.period) != (0, 0, 0) {
        return invalid("runtime, deadline and period are for SCHED_DEADLINE");
    }
    let Ok(priority) = u32::try_from(wanted.priority) else { return invalid("priority is negative") };
    let flag = |name: &String| {
        Ok(match name.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(PlanError::invalid(format!("process.scheduler.flags {other:?} is unknown"))),
        })
    };
    let flags = wanted.flags.iter().map(flag).try_fold(0, |all, flag| flag.map(|flag| all | flag))?;
    let (runtime, deadline, period) = (wanted.runtime, wanted.deadline, wanted.period);
    Ok(SchedAttr { policy, flags, nice: wanted.nice, priority, runtime, deadline, period, ..SchedAttr::default() })
}

fn memory(wanted: &MemoryPolicy) -> Result<(i32, Vec<u64>), PlanError> {
    let mode = match wanted.mode.as_str() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(PlanError::invalid(format!("linux.memoryPolicy.mode {other:?} is unknown"))),
    };
    let flag = |name: &String| {
        Ok(match name.as_str() {
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_STATIC_NODES" => 1 << 15,
            other => return Err(PlanError::invalid(format!("linux.memoryPolicy.flags {other:?} is unknown"))),
        })
    };
    let flags: i32 = wanted.flags.iter().map(flag).try_fold(0, |all, flag| flag.map(|flag| all | flag))?;
    let nodes = list("linux.memoryPolicy.nodes", &wanted.nodes)?;
    if matches!(mode, 2 | 3 | 5 | 6) == nodes.is_empty() && mode != 1 {
        return Err(PlanError::invalid(format!(
            "linux.memoryPolicy {} and its nodes contradict each other",
            wanted.mode
        )));
    }
    Ok((mode | flags, nodes))
}

fn personality(wanted: &atoll_oci::runtime::Personality) -> Result<u64, PlanError> {
    if let Some(flag) = wanted.flags.first() {
        return Err(PlanError::invalid(format!("linux.personality.flags {flag:?}: the specification names no flag")));
    }
    match wanted.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(PlanError::invalid(format!("linux.personality.domain {other:?} is unknown"))),
    }
}

/// A list of numbers and ranges ("0-2,7") as bits.
fn list(what: &str, text: &str) -> Result<Vec<u64>, PlanError> {
    let mut bits = Vec::new();
    let invalid = || PlanError::invalid(format!("{what} {text:?} is no list of numbers and ranges"));
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= LIST_MAX).ok_or_else(invalid);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        for number in first..=last {
            let word = number as usize / 64;
            bits.resize(bits.len().max(word + 1), 0);
            bits[word] |= 1 << (number % 64);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bits() {
        assert!(list("", "").unwrap().is_empty());
        assert_eq!(list("", "0-2,7").unwrap(), [0b1000_0111]);
        assert_eq!(list("", "64").unwrap(), [0, 1]);
        for bad in [",", "1-", "-1", "2-1", "a", "9999999"] {
            assert!(list("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let scheduler = |policy: &str, priority| Scheduler { policy: policy.into(), priority, ..Scheduler::default() };
        assert_eq!(policy(&scheduler("SCHED_RR", 5)).unwrap().priority, 5);
        assert!(policy(&scheduler("SCHED_OTHER", 5)).is_err());
        assert!(policy(&scheduler("SCHED_X", 0)).is_err());
        let mode = |mode: &str, nodes: &str| MemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags: vec![] };
        assert_eq!(memory(&mode("MPOL_BIND", "0")).unwrap(), (2, vec![1]));
        assert!(memory(&mode("MPOL_BIND", "")).is_err());
        assert!(memory(&mode("MPOL_DEFAULT", "0")).is_err());
    }
}
