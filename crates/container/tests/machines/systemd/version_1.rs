//! Hosts where the controllers are in version 1.

use std::process::Command;

use serde_json::{Value, json};

use super::*;

/// Files of controllers of version 1.
#[track_caller]
fn check_v1_files(below: &str, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let controller = name.split('.').next().unwrap();
        check_files(&folder(controller).join(below), &[(name, value)]);
    }
}

pub(super) fn limits_of_version_1() {
    on_both("sleep 1000", |bundle| {
        let unit = format!("docker-{}.scope", bundle.id);
        let below = format!("system.slice/{unit}");
        bundle.with_path(&format!("system.slice:docker:{}", bundle.id));
        bundle.edit(|spec| {
            spec["linux"]["resources"] = json!({
                "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                "cpu": {"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0"},
                "pids": {"limit": 50},
                "blockIO": {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1_048_576}]},
                "network": {"classID": 7},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]
            });
        });
        bundle.detached(&["--systemd-cgroup", "create"]);
        let properties = [
            ("Slice", "system.slice"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("ActiveState", "active"),
            ("MemoryLimit", "67108864"),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("CPUShares", "512"),
            ("TasksMax", "50"),
            ("DevicePolicy", "strict"),
        ];
        let files = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "100663296"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.shares", "512"),
            ("cpuset.cpus", "0"),
            ("pids.max", "50"),
            ("blkio.throttle.read_bps_device", "7:0 1048576"),
            ("net_cls.classid", "7"),
            ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ];
        check_unit(false, &unit, &properties);
        check_v1_files(&below, &files);
        bundle.succeeds(&["start", &bundle.id]);
        host(systemctl(false).arg("daemon-reload"));
        check_v1_files(&below, &files);
        assert_eq!(members(bundle, &below), 1);

        bundle.succeeds(&["update", "--memory", "128m", "--memory-swap", "160m", "--pids-limit", "20", &bundle.id]);
        bundle.succeeds(&["update", "--cpu-quota", "20000", "--cpuset-cpus", "1", &bundle.id]);
        let properties =
            [("MemoryLimit", "134217728"), ("TasksMax", "20"), ("CPUQuotaPerSecUSec", "200ms"), ("CPUShares", "512")];
        let files = [
            ("memory.limit_in_bytes", "134217728"),
            ("memory.memsw.limit_in_bytes", "167772160"),
            ("pids.max", "20"),
            ("cpu.cfs_quota_us", "20000"),
            ("cpuset.cpus", "1"),
        ];
        for _ in 0..2 {
            check_unit(false, &unit, &properties);
            check_v1_files(&below, &files);
            host(systemctl(false).arg("daemon-reload"));
        }
        lives_and_ends(bundle, &unit, &below);
    });
}

fn lives_and_ends(bundle: &Bundle, unit: &str, below: &str) {
    bundle.succeeds(&["exec", "-d", &bundle.id, "sh", "-c", SLEEP]);
    assert_eq!(members(bundle, below), 2);
    let events = bundle.call(&["events", "--stats", &bundle.id]);
    let event: Value = serde_json::from_slice(&events.stdout).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 128 << 20);
    assert_eq!(event["data"]["pids"]["current"], 2);
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    bundle.succeeds(&["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    check_v1_files(below, &[("freezer.state", "FROZEN")]);
    bundle.succeeds(&["resume", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    bundle.succeeds(&["pause", &bundle.id]);
    bundle.succeeds(&["delete", "-f", &bundle.id]);
    check_gone(false, unit, below);
}

pub(super) fn an_ordinary_user_is_refused() {
    host(systemctl(false).args(["start", "user@1000.service"]));
    let bundle = bundle("echo escaped").unwrap();
    let path = bundle.path();
    host(Command::new("chown").args(["-hR", "1000:1000"]).arg(&path));
    let output =
        as_user(&bundle, &["--systemd-cgroup", "run", "-b", path.to_str().unwrap(), &bundle.id]).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains("an ordinary user's systemd keeps is not supported"), "{said}");
}
