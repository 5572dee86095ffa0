//! Limits of a creation, and changes of them (`ContainerUpdate`).

use atoll_model::{BlockIo, DeviceRate, Oom, Rate, Realtime, Resources, Restart, Ulimit, size};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use super::bad::BadRequest;
use super::config::{BlkioConfig, HostConfig, RestartPolicy, ThrottleDevice, UlimitRequest};
use super::refuse;
use super::restart::restart;

/// Weights of block devices that there are.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// The limits of a creation.
pub(super) fn resources(host: &HostConfig) -> Result<Resources, BadRequest> {
    let resources = Resources {
        memory: positive("HostConfig.Memory", host.memory)?,
        memory_swap: (host.memory_swap != 0).then_some(host.memory_swap),
        memory_reservation: positive("HostConfig.MemoryReservation", host.memory_reservation)?,
        nano_cpus: positive("HostConfig.NanoCpus", host.nano_cpus)?,
        cpu_quota: (host.cpu_quota > 0).then_some(host.cpu_quota),
        cpu_period: positive("HostConfig.CpuPeriod", host.cpu_period)?,
        cpu_shares: positive("HostConfig.CpuShares", host.cpu_shares)?,
        cpuset_cpus: list("HostConfig.CpusetCpus", &host.cpuset_cpus)?,
        cpuset_mems: list("HostConfig.CpusetMems", &host.cpuset_mems)?,
        pids: (host.pids_limit > 0).then_some(host.pids_limit),
        ulimits: host.ulimits.iter().map(ulimit).collect::<Result<_, _>>()?,
        realtime: Realtime {
            period: positive("HostConfig.CpuRealtimePeriod", host.cpu_realtime_period)?,
            runtime: (host.cpu_realtime_runtime != 0).then_some(host.cpu_realtime_runtime),
        },
        swappiness: swappiness(host.memory_swappiness)?,
        oom: Oom {
            kill_disable: host.oom_kill_disable.unwrap_or(false),
            score_adj: i32::try_from(host.oom_score_adj)
                .ok()
                .filter(|score| (-1000..=1000).contains(score))
                .ok_or_else(|| {
                    let why = format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj);
                    BadRequest::invalid("HostConfig.OomScoreAdj", why)
                })?,
        },
        block_io: block_io(&host.blkio)?,
        cgroup_parent: cgroup_parent(&host.cgroup_parent)?,
        storage: storage(&host.storage_opt)?,
    };
    check(&resources)?;
    Ok(resources)
}

/// What limits of a workload may not be together, whether it is new or changed.
fn check(resources: &Resources) -> Result<(), BadRequest> {
    let Resources { memory, memory_swap, memory_reservation, realtime, .. } = resources;
    let (quota, period) = (resources.cpu_quota, resources.cpu_period);
    if resources.nano_cpus.is_some() && (quota.is_some() || period.is_some()) {
        return Err(BadRequest::invalid("HostConfig.NanoCpus", "it cannot be set together with CpuPeriod or CpuQuota"));
    }
    let below = |value: Option<i64>, memory: u64| {
        value.is_some_and(|value| value >= 0 && u64::try_from(value).is_ok_and(|value| value < memory))
    };
    if memory.is_some_and(|memory| below(*memory_swap, memory)) {
        return Err(BadRequest::invalid("HostConfig.MemorySwap", "it is memory and swap together, so at least Memory"));
    }
    if let (Some(memory), Some(reservation)) = (memory, memory_reservation)
        && reservation > memory
    {
        let why = "Minimum memory limit can not be less than memory reservation limit, see usage";
        return Err(BadRequest::invalid("HostConfig.MemoryReservation", why));
    }
    if let (Some(period), Some(runtime)) = (realtime.period, realtime.runtime)
        && u64::try_from(runtime).is_ok_and(|runtime| runtime > period)
    {
        let why = "cpu real-time runtime cannot be higher than cpu real-time period";
        return Err(BadRequest::invalid("HostConfig.CpuRealtimeRuntime", why));
    }
    Ok(())
}

/// None for zero.
pub(super) fn positive(option: &str, value: i64) -> Result<Option<u64>, BadRequest> {
    let value = u64::try_from(value).map_err(|_| BadRequest::invalid(option, format!("{value} is negative")))?;
    Ok((value > 0).then_some(value))
}

fn list(option: &str, text: &str) -> Result<Option<String>, BadRequest> {
    let valid = text.bytes().all(|byte| byte.is_ascii_digit() || b"-,".contains(&byte));
    match text {
        "" => Ok(None),
        text if valid => Ok(Some(text.to_owned())),
        text => Err(BadRequest::invalid(option, format!("{text:?} is no list such as 0-2,4"))),
    }
}

fn ulimit(asked: &UlimitRequest) -> Result<Ulimit, BadRequest> {
    let invalid = |why: String| Err(BadRequest::invalid("HostConfig.Ulimits", why));
    if !Ulimit::NAMES.contains(&asked.name.as_str()) {
        return invalid(format!("there is no limit {:?}: the names are {}", asked.name, Ulimit::NAMES.join(" ")));
    }
    if asked.soft < -1 || asked.hard < -1 || (asked.hard != -1 && (asked.soft == -1 || asked.soft > asked.hard)) {
        return invalid(format!(
            "{}: the soft limit {} is above the hard limit {}",
            asked.name, asked.soft, asked.hard
        ));
    }
    Ok(Ulimit { name: asked.name.clone(), soft: asked.soft, hard: asked.hard })
}

/// -1 is how clients say that nothing is asked for.
fn swappiness(asked: Option<i64>) -> Result<Option<u64>, BadRequest> {
    match asked {
        None | Some(-1) => Ok(None),
        Some(value) => match u64::try_from(value) {
            Ok(value) if value <= 100 => Ok(Some(value)),
            _ => {
                let why = format!("Invalid value: {value}, valid memory swappiness range is 0-100");
                Err(BadRequest::invalid("HostConfig.MemorySwappiness", why))
            }
        },
    }
}

fn cgroup_parent(asked: &str) -> Result<Option<String>, BadRequest> {
    let invalid = |why: &str| Err(BadRequest::invalid("HostConfig.CgroupParent", format!("{asked:?}: {why}")));
    if asked.split('/').any(|part| matches!(part, "." | "..")) || asked.contains(['\0', '\n']) {
        return invalid("it may not have . or .. in it, nor ends of lines");
    }
    if asked.contains(':') || asked.ends_with(".slice") {
        return invalid("slices of systemd's are not supported: name a path such as /limits/web");
    }
    Ok((!asked.is_empty()).then(|| asked.to_owned()))
}

/// What the writable layer takes at most; there is no other option of storage.
fn storage(options: &BTreeMap<String, String>) -> Result<Option<u64>, BadRequest> {
    let invalid = |why: String| Err(BadRequest::invalid("HostConfig.StorageOpt", why));
    let mut limit = None;
    for (name, value) in options {
        if !name.eq_ignore_ascii_case("size") {
            return invalid(format!("unknown option {name}: there is size alone"));
        }
        limit = match size(value, 1024) {
            Some(bytes) if bytes > 0 => Some(bytes),
            _ => return invalid(format!("invalid size {value:?}: write one such as 10G")),
        };
    }
    Ok(limit)
}

/// The options of storage as `HostConfig` has them, for `inspect`.
pub(super) fn storage_opt(limit: Option<u64>) -> BTreeMap<String, String> {
    limit.map(|bytes| ("size".to_owned(), bytes.to_string())).into_iter().collect()
}

fn block_io(asked: &BlkioConfig) -> Result<BlockIo, BadRequest> {
    let weights = asked.blkio_weight_device.iter().map(|by| Ok((block_device(&by.path)?, weight(by.weight)?)));
    let kinds = [
        (Rate::ReadBytes, &asked.blkio_device_read_bps),
        (Rate::WriteBytes, &asked.blkio_device_write_bps),
        (Rate::Reads, &asked.blkio_device_read_iops),
        (Rate::Writes, &asked.blkio_device_write_iops),
    ];
    let rates = kinds.into_iter().flat_map(|(rate, list)| list.iter().map(move |by| (rate, by)));
    Ok(BlockIo {
        weight: if asked.blkio_weight == 0 { None } else { Some(weight(asked.blkio_weight)?) },
        weights: weights.collect::<Result<_, BadRequest>>()?,
        rates: rates
            .map(|(rate, by)| Ok(DeviceRate { rate, path: block_device(&by.path)?, limit: by.rate }))
            .collect::<Result<_, BadRequest>>()?,
    })
}

fn weight(asked: u16) -> Result<u16, BadRequest> {
    if WEIGHTS.contains(&asked) {
        return Ok(asked);
    }
    Err(BadRequest::invalid("HostConfig.BlkioWeight", "Range of blkio weight is from 10 to 1000"))
}

fn block_device(path: &str) -> Result<String, BadRequest> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.to_owned());
    }
    Err(BadRequest::invalid("block device", format!("{path:?} must be an absolute path")))
}

/// The limits of block devices as `HostConfig` has them, for `inspect`.
pub(super) fn blkio_config(limits: &BlockIo) -> BlkioConfig {
    let of = |rate: Rate| {
        let fitting = limits.rates.iter().filter(move |by| by.rate == rate);
        fitting.map(|by| ThrottleDevice { path: by.path.clone(), rate: by.limit }).collect()
    };
    BlkioConfig {
        blkio_weight: limits.weight.unwrap_or(0),
        blkio_weight_device: limits
            .weights
            .iter()
            .map(|(path, weight)| super::config::WeightDevice { path: path.clone(), weight: *weight })
            .collect(),
        blkio_device_read_bps: of(Rate::ReadBytes),
        blkio_device_write_bps: of(Rate::WriteBytes),
        blkio_device_read_iops: of(Rate::Reads),
        blkio_device_write_iops: of(Rate::Writes),
    }
}

/// `POST /containers/{id}/update`: zero, or an empty text, leaves a limit as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, ContainerUpdate")]
pub struct UpdateRequest {
    pub blkio_weight: u16,
    pub cpu_shares: i64,
    pub nano_cpus: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: i64,
    pub cpu_realtime_runtime: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub memory: i64,
    pub memory_swap: i64,
    pub memory_reservation: i64,
    /// 0 and -1 take the limit away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// An empty name leaves the policy as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// What version 1.50 of the Docker API lists for an update and holds from the creation on.
const FIXED: [&str; 20] = [
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CgroupParent",
    "CpuCount",
    "CpuPercent",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "Init",
    "KernelMemory",
    "KernelMemoryTCP",
    "MemorySwappiness",
    "NanoCPUs",
    "OomKillDisable",
    "Ulimits",
];

/// Its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    /// What of it was not done.
    pub warnings: Vec<String>,
}

/// Why a change of limits is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUpdate {
    /// The request makes no sense.
    #[error(transparent)]
    Bad(#[from] BadRequest),
    /// It does not go with the limits that there are.
    #[error("Conflicting options: {0}")]
    Conflict(&'static str),
}

impl UpdateRequest {
    /// The restart policy that is asked for, if one is.
    ///
    /// # Errors
    /// As [`restart`].
    pub fn restart(&self) -> Result<Option<Restart>, BadRequest> {
        self.restart_policy.as_ref().filter(|policy| !policy.name.is_empty()).map(restart).transpose()
    }

    /// The limits that a workload with these has afterwards.
    ///
    /// # Errors
    /// [`BadUpdate`].
    pub fn applied(&self, to: &Resources) -> Result<Resources, BadUpdate> {
        refuse::among(&FIXED, "", &self.rest)?;
        self.check_conflicts(to)?;
        let mut new = to.clone();
        fn set<T>(place: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *place = value;
            }
        }
        set(&mut new.cpu_shares, positive("CpuShares", self.cpu_shares)?);
        set(&mut new.nano_cpus, positive("NanoCpus", self.nano_cpus)?);
        set(&mut new.cpu_period, positive("CpuPeriod", self.cpu_period)?);
        set(&mut new.cpuset_cpus, list("CpusetCpus", &self.cpuset_cpus)?);
        set(&mut new.cpuset_mems, list("CpusetMems", &self.cpuset_mems)?);
        set(&mut new.memory, positive("Memory", self.memory)?);
        set(&mut new.memory_swap, (self.memory_swap != 0).then_some(self.memory_swap));
        set(&mut new.memory_reservation, positive("MemoryReservation", self.memory_reservation)?);
        set(&mut new.realtime.period, positive("CpuRealtimePeriod", self.cpu_realtime_period)?);
        set(&mut new.realtime.runtime, (self.cpu_realtime_runtime != 0).then_some(self.cpu_realtime_runtime));
        if self.blkio_weight != 0 {
            new.block_io.weight = Some(weight(self.blkio_weight)?);
        }
        // Below zero they take a limit away.
        if self.cpu_quota != 0 {
            new.cpu_quota = Some(self.cpu_quota).filter(|quota| *quota > 0);
        }
        if let Some(limit) = self.pids_limit {
            new.pids = Some(limit).filter(|limit| *limit > 0);
        }
        check(&new)?;
        Ok(new)
    }

    fn check_conflicts(&self, to: &Resources) -> Result<(), BadUpdate> {
        let conflict = |holds: bool, what| if holds { Err(BadUpdate::Conflict(what)) } else { Ok(()) };
        let nanos = self.nano_cpus > 0;
        conflict(nanos && to.cpu_period.is_some(), "Nano CPUs cannot be updated as CPU Period has already been set")?;
        conflict(nanos && to.cpu_quota.is_some(), "Nano CPUs cannot be updated as CPU Quota has already been set")?;
        let by_nanos = to.nano_cpus.is_some();
        conflict(by_nanos && self.cpu_period > 0, "CPU Period cannot be updated as NanoCPUs has already been set")?;
        conflict(by_nanos && self.cpu_quota > 0, "CPU Quota cannot be updated as NanoCPUs has already been set")?;
        let swap = to.memory_swap.filter(|swap| *swap > 0);
        conflict(
            self.memory_swap == 0 && swap.is_some_and(|swap| self.memory > swap),
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(change: &Value, to: &Resources) -> Result<Resources, BadUpdate> {
        super::super::parse::<UpdateRequest>(change.to_string().as_bytes()).expect("JSON").applied(to)
    }

    fn with_memory() -> Resources {
        Resources { memory: Some(100 << 20), memory_swap: Some(200 << 20), ..Resources::default() }
    }

    #[test]
    fn what_is_not_named_stays() {
        let before = Resources { pids: Some(9), cpu_shares: Some(7), ..with_memory() };
        assert_eq!(update(&json!({}), &before).expect("nothing is asked for"), before);
        let after = update(&json!({"CpuShares": 512, "PidsLimit": 0, "BlkioWeight": 20}), &before).expect("valid");
        assert_eq!((after.cpu_shares, after.pids, after.block_io.weight), (Some(512), None, Some(20)));
        assert_eq!((after.memory, after.memory_swap), (before.memory, before.memory_swap));
        let quota = Resources { cpu_quota: Some(5000), ..Resources::default() };
        assert_eq!(update(&json!({"CpuQuota": -1}), &quota).expect("valid").cpu_quota, None);
    }

    #[test]
    fn a_restart_policy_without_a_name_is_none() {
        let check = |policy: Value, expected: Option<Restart>| {
            let request: UpdateRequest = serde_json::from_value(json!({"RestartPolicy": policy})).expect("JSON");
            assert_eq!(request.restart(), Ok(expected));
        };
        check(json!({"Name": "always"}), Some(Restart::Always));
        check(json!({"Name": "on-failure", "MaximumRetryCount": 3}), Some(Restart::OnFailure { max: 3 }));
        check(json!({"Name": "", "MaximumRetryCount": 0}), None);
    }

    #[test]
    fn what_holds_from_the_creation_on_is_refused_by_name() {
        let refused = update(&json!({"Ulimits": [{"Name": "nofile"}]}), &Resources::default());
        assert!(matches!(refused, Err(BadUpdate::Bad(BadRequest::Unsupported { option, .. })) if option == "Ulimits"));
        update(&json!({"Ulimits": [], "Devices": null}), &Resources::default()).expect("nothing is asked for");
    }

    #[test]
    fn contradictions() {
        let check = |change: Value, to: &Resources, words: &str| {
            let said = update(&change, to).expect_err("a contradiction").to_string();
            assert!(said.contains(words), "{change}: {said}");
        };
        let nanos = Resources { nano_cpus: Some(5), ..Resources::default() };
        let quota = Resources { cpu_quota: Some(5000), ..Resources::default() };
        check(json!({"NanoCpus": 5}), &quota, "Nano CPUs cannot be updated as CPU Quota");
        check(json!({"CpuQuota": 5000}), &nanos, "CPU Quota cannot be updated as NanoCPUs");
        check(json!({"CpuPeriod": 5000}), &nanos, "CPU Period cannot be updated as NanoCPUs");
        check(json!({"Memory": 300 << 20}), &with_memory(), "update the memoryswap at the same time");
        check(json!({"MemorySwap": 50 << 20}), &with_memory(), "at least Memory");
        check(json!({"MemoryReservation": 150 << 20}), &with_memory(), "memory reservation");
        check(json!({"Memory": -1}), &with_memory(), "negative");
        check(json!({"BlkioWeight": 5}), &with_memory(), "10 to 1000");
        check(json!({"CpusetCpus": "x"}), &with_memory(), "no list");
        update(&json!({"Memory": 300 << 20, "MemorySwap": -1}), &with_memory()).expect("both at once");
    }
}
