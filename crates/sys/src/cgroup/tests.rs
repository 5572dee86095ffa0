//! Layouts of real hosts, plans of limits, and (as root) one real group.

use super::limits::Write;
use super::*;

const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
    32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

fn text(mounts: &str, own: &str, path: &str) -> String {
    Cgroup::at(&Layout::parse(mounts, own), path, "name").unwrap().to_string()
}

#[test]
fn hybrid_hosts() {
    let own = "9:name=systemd:/\n4:memory:/outer/x\n1:cpu,cpuacct:/\n0::/\n";
    assert_eq!(
        text(HYBRID, own, "/atoll/a"),
        "name=systemd /sys/fs/cgroup/systemd/atoll/a\nmemory /sys/fs/cgroup/memory/atoll/a\n\
         cpu,cpuacct /sys/fs/cgroup/cpu/atoll/a\n- /sys/fs/cgroup/unified/atoll/a\n"
    );
    assert!(text(HYBRID, own, "").contains("memory /sys/fs/cgroup/memory/outer/x/name\n"));
    assert!(text(HYBRID, own, "b").contains("memory /sys/fs/cgroup/memory/outer/x/b\n"));
}

#[test]
fn unified_hosts_and_namespaces() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(text(mounts, "0::/user.slice\n", "x"), "- /sys/fs/cgroup/user.slice/x\n");
    let seen_from_below = "30 23 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(text(seen_from_below, "0::/box/in\n", "x"), "- /sys/fs/cgroup/in/x\n");
}

#[test]
fn paths_that_are_refused() {
    let layout = Layout::parse(HYBRID, "0::/\n");
    for path in ["/", "//", "/a/../b", "..", "a/.", "system.slice:docker:x", "a\0b"] {
        assert!(matches!(Cgroup::at(&layout, path, "n"), Err(Error::Path { .. })), "{path:?}");
    }
    assert!(matches!(Cgroup::at(&Layout::default(), "/a", "n"), Err(Error::NotMounted)));
}

#[test]
fn text_round_trips() {
    let group = Cgroup::at(&Layout::parse(HYBRID, "4:memory:/\n0::/\n"), "/a b/c", "").unwrap();
    assert_eq!(group.to_string().parse::<Cgroup>().unwrap(), group);
    for bad in ["", "memory", "memory relative", "\n"] {
        assert!(bad.parse::<Cgroup>().is_err(), "{bad:?}");
    }
}

#[track_caller]
fn check(plan: Result<Vec<Write>, Error>, expected: &[(&str, &str)]) {
    let plan = plan.unwrap();
    let plan: Vec<_> = plan.iter().map(|write| (write.file.as_str(), write.value.as_str())).collect();
    assert_eq!(plan, expected);
}

#[test]
fn plans() {
    let limits = Limits {
        memory: Some(1000),
        memory_and_swap: Some(3000),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        pids: Some(7),
        ..Limits::default()
    };
    check(
        limits.plan_v1(),
        &[
            ("memory.limit_in_bytes", "1000"),
            ("memory.memsw.limit_in_bytes", "3000"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("pids.max", "7"),
        ],
    );
    check(
        limits.plan_v2(),
        &[("memory.max", "1000"), ("memory.swap.max", "2000"), ("cpu.max", "50000 100000"), ("pids.max", "7")],
    );
    let open = Limits { memory: Some(-1), memory_and_swap: Some(-1), pids: Some(-1), ..Limits::default() };
    check(open.plan_v2(), &[("memory.max", "max"), ("memory.swap.max", "max"), ("pids.max", "max")]);
    let none = Limits { cpu_quota: Some(-1), ..Limits::default() };
    check(none.plan_v2(), &[("cpu.max", "max 100000")]);
    for (shares, weight) in [(2, "1"), (1024, "39"), (262_144, "10000"), (1, "1")] {
        check(Limits { cpu_shares: Some(shares), ..Limits::default() }.plan_v2(), &[("cpu.weight", weight)]);
    }
}

#[test]
fn what_a_version_cannot_do_is_refused() {
    let devices = vec![DeviceAccess { allow: false, rule: "a *:* rwm".into() }];
    assert!(matches!(Limits { devices, ..Limits::default() }.plan_v2(), Err(Error::Unsupported { .. })));
    let unified = vec![("memory.high".to_owned(), "1".to_owned())];
    assert!(matches!(Limits { unified, ..Limits::default() }.plan_v1(), Err(Error::Unsupported { .. })));
}

#[test]
fn a_real_group_is_filled_frozen_killed_and_removed() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let layout = Layout::read().unwrap();
    let name = format!("atoll-sys-test-{}", std::process::id());
    let group = Cgroup::at(&layout, "", &name).unwrap();
    group.create_v2(&layout).unwrap();
    if let Err(error) = group.create_v1(&layout) {
        println!("skipped: no control groups can be made here: {error}");
        return;
    }
    let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    group.place(pid, false).unwrap();
    assert_eq!(group.pids().unwrap(), [pid]);
    group.freeze(true).unwrap();
    assert!(group.is_frozen());
    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    group.remove().unwrap();
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}
