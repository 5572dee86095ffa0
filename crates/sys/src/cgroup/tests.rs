//! Layouts of real hosts, plans of limits, and (as root) one real group.

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
    assert_eq!(text(mounts, "0::/user.slice/mine\n", "x"), "- /sys/fs/cgroup/user.slice/x\n");
    assert_eq!(text(mounts, "0::/\n", "x"), "- /sys/fs/cgroup/x\n");
    let seen_from_below = "30 23 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(text(seen_from_below, "0::/box/in\n", "x"), "- /sys/fs/cgroup/x\n");
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
    assert_eq!(Cgroup::none().to_string().parse::<Cgroup>().unwrap(), Cgroup::none());
    for line in ["unit system a-b.slice c.scope", "unit user user.slice d-e.scope"] {
        let text = format!("- /sys/fs/cgroup/x\n{line}\n");
        let group: Cgroup = text.parse().unwrap();
        assert!(group.is_in_systemd() && group.to_string() == text, "{text}");
    }
    for bad in [
        "",
        "memory",
        "memory relative",
        "\n",
        "unit system a.slice b.scope\n",
        "- /a\nunit system a b.scope\n",
        "- /a\nunit system a.slice b.service\n",
        "- /a\nunit root a.slice b.scope\n",
        "- /a\nunit user a.slice b.scope\nunit user a.slice b.scope\n",
    ] {
        assert!(bad.parse::<Cgroup>().is_err(), "{bad:?}");
    }
}

#[track_caller]
fn check(limits: &Limits, v1: bool, expected: &[(&str, &str)]) {
    let plan = limits.plan(|_| v1).unwrap();
    let plan: Vec<_> = plan.iter().map(|write| (write.file.as_str(), write.value.as_str())).collect();
    assert_eq!(plan, expected);
}

fn memory(limit: i64, with_swap: i64) -> MemoryLimits {
    MemoryLimits { limit: Some(limit), with_swap: Some(with_swap), ..MemoryLimits::default() }
}

#[test]
fn plans() {
    let cpu = CpuLimits { quota: Some(50_000), period: Some(100_000), burst: Some(9), ..CpuLimits::default() };
    let limits = Limits { memory: memory(1000, 3000), cpu, pids: Some(7), ..Limits::default() };
    check(
        &limits,
        true,
        &[
            ("memory.limit_in_bytes", "1000"),
            ("memory.memsw.limit_in_bytes", "3000"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_burst_us", "9"),
            ("pids.max", "7"),
        ],
    );
    check(
        &limits,
        false,
        &[
            ("memory.max", "1000"),
            ("memory.swap.max", "2000"),
            ("cpu.max", "50000 100000"),
            ("cpu.max.burst", "9"),
            ("pids.max", "7"),
        ],
    );
    let open = Limits { memory: memory(-1, -1), pids: Some(-1), ..Limits::default() };
    check(&open, false, &[("memory.max", "max"), ("memory.swap.max", "max"), ("pids.max", "max")]);
    let cpu = |cpu| Limits { cpu, ..Limits::default() };
    check(&cpu(CpuLimits { quota: Some(-1), ..CpuLimits::default() }), false, &[("cpu.max", "max 100000")]);
    check(&cpu(CpuLimits { idle: Some(true), shares: Some(9), ..CpuLimits::default() }), true, &[("cpu.idle", "1")]);
    for (shares, weight) in [(2, "1"), (1024, "39"), (262_144, "10000"), (1, "1")] {
        check(&cpu(CpuLimits { shares: Some(shares), ..CpuLimits::default() }), false, &[("cpu.weight", weight)]);
    }
}

#[test]
fn plans_of_devices_pages_and_packets() {
    let io = IoLimits {
        weight: Some(100),
        weights: vec![((8, 0), Some(50), None)],
        rates: vec![(Rate::ReadBytes, (8, 0), 5), (Rate::Writes, (8, 16), 6)],
        ..IoLimits::default()
    };
    let limits = Limits {
        io,
        hugepages: vec![("2MB".into(), 7)],
        rdma: vec![("mlx0".into(), Some(1), None)],
        ..Limits::default()
    };
    check(
        &limits,
        true,
        &[
            ("blkio.weight", "100"),
            ("blkio.weight_device", "8:0 50"),
            ("blkio.throttle.read_bps_device", "8:0 5"),
            ("blkio.throttle.write_iops_device", "8:16 6"),
            ("hugetlb.2MB.limit_in_bytes", "7"),
            ("hugetlb.2MB.rsvd.limit_in_bytes", "7"),
            ("rdma.max", "mlx0 hca_handle=1"),
        ],
    );
    check(
        &limits,
        false,
        &[
            ("io.bfq.weight", "100"),
            ("io.bfq.weight", "8:0 50"),
            ("io.max", "8:0 rbps=5"),
            ("io.max", "8:16 wiops=6"),
            ("hugetlb.2MB.max", "7"),
            ("hugetlb.2MB.rsvd.max", "7"),
            ("rdma.max", "mlx0 hca_handle=1"),
        ],
    );
    let devices = ["- a *:* rwm", "+ a 1:* r"].map(device_rule).to_vec();
    let denied = Limits { devices, network_class: Some(3), ..Limits::default() };
    check(
        &denied,
        true,
        &[
            ("net_cls.classid", "3"),
            ("devices.deny", "a *:* rwm"),
            ("devices.allow", "b 1:* r"),
            ("devices.allow", "c 1:* r"),
        ],
    );
}

#[test]
fn what_a_version_cannot_do_is_refused() {
    let refused =
        |limits: Limits| assert!(matches!(limits.plan(|_| false), Err(Error::Unsupported { .. })), "{limits:?}");
    refused(Limits { network_class: Some(1), ..Limits::default() });
    refused(Limits { memory: MemoryLimits { swappiness: Some(1), ..Default::default() }, ..Limits::default() });
    refused(Limits { memory: memory(5, 1), ..Limits::default() });
    refused(Limits { cpu: CpuLimits { realtime_runtime: Some(1), ..Default::default() }, ..Limits::default() });
    refused(Limits { unified: vec![("../x".into(), "1".into())], ..Limits::default() });
}

#[test]
fn limits_of_a_real_group_go_up_and_down() {
    let layout = Layout::read().unwrap();
    let group = Cgroup::at(&layout, "", &format!("atoll-limit-test-{}", std::process::id())).unwrap();
    if let Err(error) = group.create_v2(&layout).and_then(|_| group.create_v1(&layout)) {
        return println!("skipped: no control groups can be made here: {error}");
    }
    let limit = |bytes: i64| Limits { memory: memory(bytes, bytes), ..Limits::default() };
    for bytes in [64 << 20, 128 << 20, 32 << 20] {
        group.limit(&limit(bytes)).unwrap();
        assert_eq!(group.stats().memory.limit, u64::try_from(bytes).ok());
    }
    let cpu = |quota, period| CpuLimits { quota: Some(quota), period: Some(period), ..CpuLimits::default() };
    for (quota, period) in [(5_000, 10_000), (500_000, 1_000_000), (1_000, 10_000)] {
        group.limit(&Limits { cpu: cpu(quota, period), ..Limits::default() }).unwrap();
    }
    let unified = Limits { unified: vec![("no.such.file".into(), "1".into())], ..Limits::default() };
    let missing = group.limit(&unified);
    group.remove().unwrap();
    assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
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
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("/bin/sleep");
    let inside = group.clone();
    // SAFETY: the closure writes files and nothing else.
    unsafe { command.arg("1000").pre_exec(move || inside.enter(false).map_err(io::Error::other)) };
    let mut child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(group.pids().unwrap(), [pid]);
    group.freeze(true).unwrap();
    assert!(group.is_frozen());
    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    group.remove().unwrap();
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}
