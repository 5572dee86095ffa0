//! A kernel with version 2 of control groups alone, where the neighbours' cases pass too.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::common::*;

const CASES: [(&str, fn()); 5] = [
    ("limits_are_in_the_groups_files", limits_are_in_the_groups_files),
    ("devices_are_filtered", devices_are_filtered),
    ("limits_change", limits_change),
    ("groups_are_frozen", groups_are_frozen),
    ("memory_ends", memory_ends),
];

#[test]
fn pure_v2() {
    if is_inside() {
        return pass(&CASES);
    }
    let Some(machine) = Machine::new("cgroup_no_v1=all") else { return };
    let own = std::env::current_exe().unwrap();
    let mut neighbours = String::new();
    for neighbour in ["runtime", "specification"] {
        let program = newest(own.parent().unwrap(), neighbour);
        machine.add(&program, program.to_str().unwrap()).unwrap();
        writeln!(neighbours, "{} --test-threads 1 || exit 1", program.display()).unwrap();
    }
    passes_in(&machine, "unified::pure_v2", &neighbours);
}

/// The test program of this name that was built last.
fn newest(folder: &Path, name: &str) -> PathBuf {
    let ours = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) && path.extension().is_none()
    };
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(ours);
    paths.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).expect("the neighbour is built")
}

fn with_resources(resources: Value) -> impl Fn(&Bundle) {
    move |bundle| bundle.edit(|spec| spec["linux"]["resources"] = resources.clone())
}

fn limits_are_in_the_groups_files() {
    let resources = json!({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 1024, "cpus": "0", "burst": 1000},
        "pids": {"limit": 50},
        "unified": {"memory.high": "50331648"}
    });
    let files = "memory.max memory.low memory.high cpu.max cpu.max.burst cpu.weight cpuset.cpus pids.max";
    check_with(
        &format!("cd /sys/fs/cgroup; cat {files}; cat /proc/self/cgroup"),
        "67108864\n33554432\n50331648\n50000 100000\n1000\n39\n0\n50\n0::/",
        with_resources(resources),
    );
    check_with("cat /sys/fs/cgroup/cpu.idle", "1", with_resources(json!({"cpu": {"idle": 1}})));
    check_refused("swappiness", with_resources(json!({"memory": {"swappiness": 5}})));
    check_refused("no memory.nothing", with_resources(json!({"unified": {"memory.nothing": "1"}})));
}

fn devices_are_filtered() {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}
    ]);
    let change = |bundle: &Bundle| {
        bundle.edit(|spec| {
            spec["linux"]["resources"] = json!({"devices": rules});
            for set in ["bounding", "effective", "permitted"] {
                let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
                set.extend([json!("CAP_MKNOD"), json!("CAP_SYSLOG")]);
            }
        });
    };
    let script = "dd if=/dev/zero of=/dev/null bs=1 count=1 2>&- && echo default
        mknod /mem c 1 1 && dd if=/mem of=/dev/null bs=1 count=1 2>&1 | grep -o 'not permitted'
        mknod /kmsg c 1 11 && (: < /kmsg) && echo read; (: > /kmsg) 2>&- || echo not written";
    check_with(script, "default\nnot permitted\nread\nnot written", change);
}

fn limits_change() {
    let bundle = bundle("sleep 1000").unwrap();
    bundle.detached(&["run", "-d"]);
    let update = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["update"].iter().chain(arguments).chain([&bundle.id.as_str()]).copied().collect();
        let output = bundle.call(&arguments);
        assert!(output.status.success(), "{}", text(&output));
    };
    update(&["--memory", "64m", "--memory-swap", "64m", "--pids-limit", "20", "--cpu-quota", "1000"]);
    update(&["--memory", "32m", "--memory-swap", "128m"]);
    let output = bundle.call(&[
        "exec",
        &bundle.id,
        "sh",
        "-c",
        "cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max",
    ]);
    assert_eq!(text(&output).trim(), "33554432\n100663296\n20\n1000 100000");
    let events = bundle.call(&["events", "--stats", &bundle.id]);
    let event: Value = serde_json::from_slice(&events.stdout).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 32 << 20);
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert_eq!(event["data"]["pids"]["current"], 1);
}

fn groups_are_frozen() {
    let bundle = bundle("sleep 1000 & sleep 1000 & wait").unwrap();
    bundle.detached(&["run", "-d"]);
    assert!(bundle.call(&["pause", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "paused");
    assert!(!bundle.call(&["exec", &bundle.id, "true"]).status.success());
    assert!(bundle.call(&["resume", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "running");
    assert!(bundle.call(&["kill", "--all", &bundle.id, "KILL"]).status.success());
    bundle.wait_for("stopped");
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
    assert!(!Path::new("/sys/fs/cgroup").join(&bundle.id).exists(), "a group is left");
}

fn memory_ends() {
    let bundle = bundle("dd if=/dev/zero of=/dev/null bs=100M count=1").unwrap();
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"memory": {"limit": 20 << 20, "swap": 20 << 20}}));
    assert_eq!(bundle.run().status.code(), Some(137));
}
