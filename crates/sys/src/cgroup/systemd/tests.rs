//! Names of units, where their groups are, and limits as properties.

use std::fs;

use super::super::{CpuLimits, IoLimits, Limits, MemoryLimits};
use super::*;

#[track_caller]
fn check(path: &str, owner: Owner, folder: &str) {
    let unit = Unit::parse(path, "id", owner).map(|unit| unit.folder());
    assert_eq!(unit.as_deref(), Ok(folder), "{path}");
}

#[test]
fn notation() {
    check("system.slice:docker:abc", Owner::System, "/system.slice/docker-abc.scope");
    check(":docker:abc", Owner::System, "/system.slice/docker-abc.scope");
    check(":docker:abc", Owner::User, "/user.slice/docker-abc.scope");
    check("", Owner::System, "/system.slice/atoll-id.scope");
    check("-.slice:a:b", Owner::System, "/a-b.scope");
    check("a-b-c.slice::d", Owner::System, "/a.slice/a-b.slice/a-b-c.slice/d.scope");
    let long = "x".repeat(250);
    for bad in [
        "/a/b",
        "a:b",
        "a:b:c:d",
        "system.slice:a:",
        "system.slice:a:b.slice",
        "system:a:b",
        "a--b.slice:c:d",
        "-a.slice:b:c",
        "a-.slice:b:c",
        ".slice:b:c",
        "x/y.slice:a:b",
        "../y.slice:a:b",
        ":a:b/c",
        ":a:b c",
        ":a:b\0",
        ":ä:b",
        &format!(":a:{long}"),
    ] {
        assert!(Unit::parse(bad, "id", Owner::System).is_err(), "{bad:?}");
    }
    // One name, not a step upward.
    check(":a:..", Owner::System, "/system.slice/a-...scope");
}

#[test]
fn addresses() {
    for (address, path) in [
        ("unix:path=/run/user/1/bus", "/run/user/1/bus"),
        ("unix:path=/b,guid=0", "/b"),
        ("unix:path=/b;unix:path=/c", "/b"),
    ] {
        assert_eq!(bus_path(address).unwrap(), Path::new(path));
    }
    for bad in ["unix:abstract=/tmp/x", "unix:path=b", "unix:path=/a%20b", "tcp:host=x", ""] {
        assert!(matches!(bus_path(bad), Err(Error::Address(_))), "{bad}");
    }
}

/// The properties of limits for a new group.
fn properties(limits: &Limits, v1: bool) -> Vec<(String, Value)> {
    of_writes(&limits.plan(|_| v1).unwrap(), v1.then_some(Path::new("/nothing")))
}

#[track_caller]
fn check_properties(limits: &Limits, v1: bool, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), Value::Uint64(*value))).collect();
    assert_eq!(properties(limits, v1), expected);
}

#[test]
fn limits_are_properties() {
    let limits = Limits {
        memory: MemoryLimits { limit: Some(1000), with_swap: Some(3000), reservation: Some(7), ..Default::default() },
        cpu: CpuLimits {
            quota: Some(50_001),
            period: Some(100_000),
            shares: Some(1024),
            cpus: "0-2,9".into(),
            mems: "0".into(),
            burst: Some(5),
            ..Default::default()
        },
        pids: Some(-1),
        unified: vec![("memory.high".into(), "9".into()), ("memory.min".into(), "bad".into())],
        ..Limits::default()
    };
    let bytes = |bytes: &[u8]| Value::Array("y".into(), bytes.iter().map(|byte| Value::Byte(*byte)).collect());
    let expected = [
        ("MemoryMax", Value::Uint64(1000)),
        ("MemorySwapMax", Value::Uint64(2000)),
        ("MemoryLow", Value::Uint64(7)),
        ("CPUWeight", Value::Uint64(39)),
        ("CPUQuotaPeriodUSec", Value::Uint64(100_000)),
        ("CPUQuotaPerSecUSec", Value::Uint64(510_000)),
        ("AllowedCPUs", bytes(&[7, 2])),
        ("AllowedMemoryNodes", bytes(&[1])),
        ("TasksMax", Value::Uint64(u64::MAX)),
        ("MemoryHigh", Value::Uint64(9)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(properties(&limits, false), expected);
    let cpu = |cpu| properties(&Limits { cpu, ..Limits::default() }, false);
    let idle = cpu(CpuLimits { idle: Some(true), ..CpuLimits::default() });
    assert_eq!(idle, [("CPUWeight".to_owned(), Value::Uint64(0))]);
    let open = cpu(CpuLimits { quota: Some(-1), ..CpuLimits::default() });
    assert_eq!(open[1], ("CPUQuotaPerSecUSec".to_owned(), Value::Uint64(u64::MAX)));
    for bad in ["1-0", "x", "0-99999999999", "9999", "", "1,,2"] {
        assert!(cpu(CpuLimits { cpus: bad.into(), ..CpuLimits::default() }).is_empty(), "{bad}");
    }
}

#[test]
fn limits_of_version_1_are_properties() {
    let limits = Limits {
        memory: MemoryLimits { limit: Some(1000), with_swap: Some(3000), reservation: Some(7), ..Default::default() },
        cpu: CpuLimits { quota: Some(5000), period: Some(20_000), shares: Some(1), ..Default::default() },
        io: IoLimits { weight: Some(500), ..Default::default() },
        pids: Some(9),
        ..Limits::default()
    };
    let expected = [
        ("MemoryLimit", 1000),
        ("CPUShares", 2),
        ("BlockIOWeight", 500),
        ("TasksMax", 9),
        ("CPUQuotaPeriodUSec", 20_000),
        ("CPUQuotaPerSecUSec", 250_000),
    ];
    check_properties(&limits, true, &expected);
    let cpu = CpuLimits { quota: Some(-1), idle: Some(true), ..CpuLimits::default() };
    let memory = MemoryLimits { limit: Some(-1), ..MemoryLimits::default() };
    let quota = [("CPUQuotaPeriodUSec", 100_000), ("CPUQuotaPerSecUSec", u64::MAX)];
    check_properties(
        &Limits { cpu, memory, ..Limits::default() },
        true,
        &[&[("MemoryLimit", u64::MAX)], &quota[..]].concat(),
    );
    // What is not changed is as it was.
    let writes = |cpu| Limits { cpu, ..Limits::default() }.plan(|_| true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cpu.cfs_quota_us"), "30000\n").unwrap();
    fs::write(folder.path().join("cpu.cfs_period_us"), "60000\n").unwrap();
    for (cpu, period, per_second) in [
        (CpuLimits { quota: Some(6000), ..CpuLimits::default() }, 60_000, 100_000),
        (CpuLimits { period: Some(300_000), ..CpuLimits::default() }, 300_000, 100_000),
    ] {
        let [period, per_second] = [period, per_second].map(Value::Uint64);
        let expected = [("CPUQuotaPeriodUSec", period), ("CPUQuotaPerSecUSec", per_second)];
        assert_eq!(
            of_writes(&writes(cpu), Some(folder.path())),
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }
}

#[test]
fn weights_are_what_systemd_makes_of_them() {
    let io = |weight| Limits { io: IoLimits { weight: Some(weight), ..Default::default() }, ..Limits::default() };
    for (weight, property) in [(10, 10), (100, 100), (101, 111), (500, 4500), (1000, 10_000)] {
        check_properties(&io(weight), false, &[("IOWeight", property)]);
        // systemd's own way back.
        let back = if property <= 100 { property } else { 100 + (property - 100) * 900 / 9900 };
        assert_eq!(back, u64::from(weight));
    }
    let unified = |value: &str| Limits { unified: vec![("io.weight".into(), value.into())], ..Limits::default() };
    for (value, expected) in [("default 7", Some(7)), ("7", Some(7)), ("8:0 7", None), ("0", None), ("x", None)] {
        check_properties(
            &unified(value),
            false,
            &expected.map(|weight| ("IOWeight", weight)).into_iter().collect::<Vec<_>>(),
        );
    }
}

#[track_caller]
fn check_devices(rules: &[&str], expected: Option<(&str, &[(&str, &str)])>) {
    let rules: Vec<_> = rules.iter().map(|rule| crate::cgroup::device_rule(rule)).collect();
    let list = |devices| ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), devices));
    let pair = |(name, access): &(&str, &str)| Value::Struct(vec![Value::text(*name), Value::text(*access)]);
    let expected = expected.map(|(policy, devices)| {
        let devices = devices.iter().map(pair).collect();
        vec![("DevicePolicy".to_owned(), Value::text(policy)), list(Vec::new()), list(devices)]
    });
    assert_eq!(of_devices(&rules), expected, "{rules:?}");
}

#[test]
fn device_rules_are_properties() {
    assert_eq!(of_devices(&[]), Some(Vec::new()));
    let none = "- a *:* rwm";
    check_devices(&[none], Some(("strict", &[])));
    check_devices(&[none, "+ a *:* rwm"], Some(("auto", &[])));
    check_devices(
        &[none, "+ c 1:3 r", "+ c 1:3 w", "+ b 8:* r", "+ c *:* m", "+ a *:* r"],
        Some(("strict", &[("/dev/char/1:3", "rw"), ("block-8", "r"), ("char-*", "rm"), ("block-*", "r")])),
    );
    // What is taken back as a whole is gone; an access that was not given may be denied.
    check_devices(
        &[none, "+ c 1:3 rw", "+ c 1:5 rw", "- c 1:3 w", "- c 1:5 rw"],
        Some(("strict", &[("/dev/char/1:3", "r")])),
    );
    check_devices(&[none, "+ c 1:3 r", "- c *:* rwm"], Some(("strict", &[])));
    check_devices(&[none, "+ c 1:* r", "- c 1:5 w", "- b 1:5 r"], Some(("strict", &[("char-1", "r")])));
    check_devices(&["- c 1:1 r", none, "+ c 1:3 r"], Some(("strict", &[("/dev/char/1:3", "r")])));
    // Many but for some, and a minor number of any major one.
    for rules in
        [&["- c 1:1 r"][..], &["+ a *:* rwm", "- b *:* w"], &[none, "+ c 1:* r", "- c 1:5 r"], &[none, "+ c *:3 r"]]
    {
        check_devices(rules, None);
    }
}

#[test]
fn no_systemd_is_said() {
    if Path::new(RUNNING).exists() {
        return println!("skipped: systemd is running");
    }
    let error = manager_folder(Owner::System).unwrap_err();
    assert_eq!(error.to_string(), "systemd is not running: there is no /run/systemd/system");
}
