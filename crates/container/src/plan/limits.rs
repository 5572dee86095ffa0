//! `linux.resources` as the limits of a control group (runtime-spec config-linux.md, "Control groups").
//!
//! What the specification leaves to the runtime is added: the devices that every container may use.

use atoll_oci::runtime::{BlockIo, Cpu, DeviceRule, DeviceType, Memory, Resources};
use atoll_sys::cgroup::{CpuLimits, DeviceAccess, DeviceAccessBits, DeviceKind, IoLimits, Limits, MemoryLimits, Rate};

use crate::error::PlanError;

/// What every container may use beside making nodes: its default devices and terminals, as kind, major and minor number
/// (config-linux.md, "Default Devices").
const ALWAYS_ALLOWED: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// The limits of a new container's group: a device that no rule names is denied.
///
/// # Errors
/// As [`plan`].
pub(super) fn of_a_new_group(resources: &Resources) -> Result<Limits, PlanError> {
    Ok(Limits { devices: devices(&resources.devices)?, ..plan(resources)? })
}

/// Judges `linux.resources` as a change of limits: what is not given stays.
///
/// # Errors
/// [`PlanError`], naming what cannot be limited.
pub fn plan(resources: &Resources) -> Result<Limits, PlanError> {
    let given_devices = if resources.devices.is_empty() { Vec::new() } else { devices(&resources.devices)? };
    let network = resources.network.clone().unwrap_or_default();
    Ok(Limits {
        memory: memory(&resources.memory.clone().unwrap_or_default())?,
        cpu: cpu(&resources.cpu.clone().unwrap_or_default())?,
        io: io(&resources.block_io.clone().unwrap_or_default())?,
        pids: given(resources.pids.map(|pids| pids.limit)),
        hugepages: resources.hugepage_limits.iter().map(|limit| (limit.page_size.clone(), limit.limit)).collect(),
        rdma: resources.rdma.iter().map(|(name, max)| (name.clone(), max.hca_handles, max.hca_objects)).collect(),
        network_class: network.class_id.filter(|class| *class != 0),
        network_priorities: network.priorities.into_iter().map(|given| (given.name, given.priority)).collect(),
        devices: given_devices,
        unified: resources.unified.iter().map(|(file, value)| (file.clone(), value.clone())).collect(),
    })
}

/// 0 means "not given" where Go's structs cannot tell.
fn given<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn memory(wanted: &Memory) -> Result<MemoryLimits, PlanError> {
    if wanted.use_hierarchy == Some(false) {
        return Err(PlanError::unsupported("memory accounting without hierarchy"));
    }
    if wanted.swappiness.is_some_and(|value| value > 100) {
        return Err(PlanError::invalid("memory.swappiness is above 100"));
    }
    Ok(MemoryLimits {
        limit: given(wanted.limit),
        with_swap: given(wanted.swap),
        reservation: given(wanted.reservation),
        kernel: given(wanted.kernel),
        kernel_tcp: given(wanted.kernel_tcp),
        swappiness: wanted.swappiness,
        no_oom_killer: wanted.disable_oom_killer == Some(true),
        check_use: wanted.check_before_update,
    })
}

fn cpu(wanted: &Cpu) -> Result<CpuLimits, PlanError> {
    let idle = match wanted.idle {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(other) => return Err(PlanError::invalid(format!("cpu.idle {other} is neither 0 nor 1"))),
    };
    Ok(CpuLimits {
        shares: given(wanted.shares),
        quota: given(wanted.quota),
        period: given(wanted.period),
        burst: wanted.burst,
        realtime_runtime: given(wanted.realtime_runtime),
        realtime_period: given(wanted.realtime_period),
        idle,
        cpus: wanted.cpus.clone(),
        mems: wanted.mems.clone(),
    })
}

fn io(wanted: &BlockIo) -> Result<IoLimits, PlanError> {
    let numbers = |major: i64, minor: i64| {
        let number = |number: i64| u32::try_from(number).ok();
        let bad = || PlanError::invalid(format!("blockIO: {major}:{minor} is no device"));
        Ok::<_, PlanError>((number(major).ok_or_else(bad)?, number(minor).ok_or_else(bad)?))
    };
    let weights = wanted.weight_device.iter().map(|by| {
        let (weight, leaf) = (given(by.weight), given(by.leaf_weight));
        Ok((numbers(by.major, by.minor)?, weight, leaf))
    });
    let all = [
        (Rate::ReadBytes, &wanted.throttle_read_bps_device),
        (Rate::WriteBytes, &wanted.throttle_write_bps_device),
        (Rate::Reads, &wanted.throttle_read_iops_device),
        (Rate::Writes, &wanted.throttle_write_iops_device),
    ];
    let rates = all.into_iter().flat_map(|(rate, list)| list.iter().map(move |by| (rate, by)));
    Ok(IoLimits {
        weight: given(wanted.weight),
        leaf_weight: given(wanted.leaf_weight),
        weights: weights.collect::<Result<_, PlanError>>()?,
        rates: rates
            .map(|(rate, by)| Ok((rate, numbers(by.major, by.minor)?, by.rate)))
            .collect::<Result<_, PlanError>>()?,
    })
}

/// A whole list of rules: it begins with everything denied, and ends with what every container may use.
fn devices(rules: &[DeviceRule]) -> Result<Vec<DeviceAccess>, PlanError> {
    let rules = rules.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    Ok(std::iter::once(DeviceAccess::everything(false)).chain(rules).chain(always_allowed()).collect())
}

fn always_allowed() -> impl Iterator<Item = DeviceAccess> {
    let make = [DeviceKind::Char, DeviceKind::Block].map(|kind| DeviceAccess {
        kind,
        access: DeviceAccessBits::MAKE,
        ..DeviceAccess::everything(true)
    });
    let known = ALWAYS_ALLOWED.map(|(major, minor)| DeviceAccess {
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        ..DeviceAccess::everything(true)
    });
    make.into_iter().chain(known)
}

fn device(rule: &DeviceRule) -> Result<DeviceAccess, PlanError> {
    let kind = match rule.typ {
        None | Some(DeviceType::All) => DeviceKind::All,
        Some(DeviceType::Block) => DeviceKind::Block,
        Some(DeviceType::Char) => DeviceKind::Char,
        Some(DeviceType::Fifo) => return Err(PlanError::invalid("a device rule for FIFOs")),
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(PlanError::invalid(format!("number {value} of a device rule is out of range"))),
        },
    };
    let access = DeviceAccessBits::parse(&rule.access)
        .ok_or_else(|| PlanError::invalid(format!("access {:?} of a device rule is not of r, w and m", rule.access)))?;
    Ok(DeviceAccess { allow: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
}
