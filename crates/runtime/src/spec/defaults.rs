//! Docker's defaults that do not depend on the workload (moby, `daemon/pkg/oci/defaults.go`), as data.

use std::collections::BTreeMap;

use atoll_oci::runtime::{DeviceRule, DeviceType};

/// Hidden from every workload: they tell about the host or reach into it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Readable only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Character devices that every workload may use: null, zero, full, random, urandom, tty, ptmx. Docker's list also has
/// the host's console (5:1), which a workload's /dev/console is not: it is left out.
const DEVICES: [(i64, i64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
/// Major number of pseudo-terminals.
const PTS: i64 = 136;

pub(super) fn masked_paths(thermal: &[String]) -> Vec<String> {
    MASKED.iter().map(|path| (*path).to_owned()).chain(thermal.iter().cloned()).collect()
}

pub(super) fn readonly_paths() -> Vec<String> {
    READ_ONLY.iter().map(|path| (*path).to_owned()).collect()
}

/// Last group that the kernel takes for `ping_group_range`.
const LAST_GROUP: u32 = 0x7fff_ffff;

/// In a network of its own a workload may use low ports and ping without privileges, whichever of the `groups` it is in.
pub(super) fn network_sysctls(groups: u32) -> BTreeMap<String, String> {
    let last = groups.saturating_sub(1).min(LAST_GROUP);
    [("net.ipv4.ip_unprivileged_port_start", "0".to_owned()), ("net.ipv4.ping_group_range", format!("0 {last}"))]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Everything, for the privileged.
pub(super) fn any_device() -> Vec<DeviceRule> {
    vec![DeviceRule { allow: true, typ: None, major: None, minor: None, access: "rwm".to_owned() }]
}

/// Nothing but nodes (which cannot be opened), the harmless devices, and `more`.
pub(super) fn device_rules(more: Vec<DeviceRule>) -> Vec<DeviceRule> {
    let rule = |typ, major, minor, access: &str| DeviceRule {
        allow: true,
        typ: Some(typ),
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![DeviceRule { allow: false, typ: None, major: None, minor: None, access: "rwm".to_owned() }];
    rules.push(rule(DeviceType::Char, None, None, "m"));
    rules.push(rule(DeviceType::Block, None, None, "m"));
    rules.extend(DEVICES.map(|(major, minor)| rule(DeviceType::Char, Some(major), Some(minor), "rwm")));
    rules.push(rule(DeviceType::Char, Some(PTS), None, "rwm"));
    rules.extend(more);
    rules
}
