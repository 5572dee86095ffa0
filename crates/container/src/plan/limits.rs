//! `linux.resources` as the limits of a control group.
//!
//! What the specification leaves to the runtime is added: the devices that every container may use. Block I/O, huge
//! pages, network classes, RDMA and the rarer memory and CPU knobs are refused by name.

use atoll_oci::runtime::{DeviceRule, DeviceType, Resources};
use atoll_sys::cgroup::{DeviceAccess, Limits};

use crate::error::PlanError;

/// What every container may use: making nodes, its default devices, terminals (config-linux.md, "Default Devices").
const ALWAYS_ALLOWED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Judges `linux.resources`.
///
/// # Errors
/// [`PlanError`], naming what cannot be limited.
pub fn plan(resources: &Resources) -> Result<Limits, PlanError> {
    refuse(resources)?;
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    // 0 means "not given" where Go's structs cannot tell.
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let mut devices = resources.devices.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    if devices.iter().any(|device| !device.allow) {
        devices.extend(ALWAYS_ALLOWED.map(|rule| DeviceAccess { allow: true, rule: rule.to_owned() }));
    }
    Ok(Limits {
        memory: given(memory.limit),
        memory_and_swap: given(memory.swap),
        memory_reservation: given(memory.reservation),
        swappiness: memory.swappiness,
        cpu_shares: cpu.shares.filter(|shares| *shares != 0),
        cpu_quota: given(cpu.quota),
        cpu_period: cpu.period.filter(|period| *period != 0),
        cpus: cpu.cpus,
        mems: cpu.mems,
        pids: given(resources.pids.map(|pids| pids.limit)),
        devices,
        unified: resources.unified.iter().map(|(file, value)| (file.clone(), value.clone())).collect(),
    })
}

fn refuse(resources: &Resources) -> Result<(), PlanError> {
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let io = resources.block_io.clone().unwrap_or_default();
    let some = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let refused = [
        (io != Default::default(), "limiting block I/O"),
        (!resources.hugepage_limits.is_empty(), "limiting huge pages"),
        (
            resources.network.as_ref().is_some_and(|net| net.class_id.is_some() || !net.priorities.is_empty()),
            "a network class",
        ),
        (!resources.rdma.is_empty(), "limiting RDMA"),
        (some(memory.kernel) || some(memory.kernel_tcp), "limiting kernel memory"),
        (memory.disable_oom_killer == Some(true), "switching the out-of-memory killer off"),
        (memory.use_hierarchy == Some(false), "memory accounting without hierarchy"),
        (cpu.burst.is_some_and(|burst| burst != 0), "a CPU burst"),
        (some(cpu.realtime_runtime) || cpu.realtime_period.is_some_and(|p| p != 0), "limiting real-time CPU time"),
        (some(cpu.idle), "an idle CPU group"),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, what)) => Err(PlanError::unsupported(*what)),
        None => Ok(()),
    }
}

fn device(rule: &DeviceRule) -> Result<DeviceAccess, PlanError> {
    let typ = match rule.typ {
        None | Some(DeviceType::All) => 'a',
        Some(DeviceType::Block) => 'b',
        Some(DeviceType::Char) => 'c',
        Some(DeviceType::Fifo) => return Err(PlanError::invalid("a device rule for FIFOs")),
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => "*".to_owned(),
        Some(value) => value.to_string(),
    };
    if rule.access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(PlanError::invalid(format!("access {:?} of a device rule is not of r, w and m", rule.access)));
    }
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    // The kernel takes `a` for everything, whatever numbers follow.
    if typ == 'a' && (rule.major.is_some_and(|n| n >= 0) || rule.minor.is_some_and(|n| n >= 0) || access.len() < 3) {
        return Err(PlanError::unsupported("a device rule for all kinds with numbers or access"));
    }
    Ok(DeviceAccess {
        allow: rule.allow,
        rule: format!("{typ} {}:{} {access}", number(rule.major), number(rule.minor)),
    })
}
