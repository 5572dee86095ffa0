//! Names of units, where their groups are, and limits as properties.

use super::super::{CpuLimits, Limits, MemoryLimits};
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
    assert_eq!(of_writes(&limits.plan(|_| false).unwrap()), expected);
    let cpu = |cpu| of_writes(&Limits { cpu, ..Limits::default() }.plan(|_| false).unwrap());
    let idle = cpu(CpuLimits { idle: Some(true), ..CpuLimits::default() });
    assert_eq!(idle, [("CPUWeight".to_owned(), Value::Uint64(0))]);
    let open = cpu(CpuLimits { quota: Some(-1), ..CpuLimits::default() });
    assert_eq!(open[1], ("CPUQuotaPerSecUSec".to_owned(), Value::Uint64(u64::MAX)));
    for bad in ["1-0", "x", "0-99999999999", "9999", "", "1,,2"] {
        assert!(cpu(CpuLimits { cpus: bad.into(), ..CpuLimits::default() }).is_empty(), "{bad}");
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
