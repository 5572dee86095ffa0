//! Control groups that systemd keeps: the full host, booted once with version 2 of control groups alone and once hybrid; on
//! runc first where it can do the same.

mod devices;
mod version_1;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use devices::{device_rules_outlive_a_reload, devices_that_systemd_cannot_keep};
use serde_json::{Value, json};
use version_1::{an_ordinary_user_is_refused, limits_of_version_1};

use super::*;
use crate::common::*;

/// The machine's ordinary user.
const USER: u32 = 1000;
const USER_RUNTIME: &str = "/run/user/1000";
/// One more process, which keeps none of our pipes.
const SLEEP: &str = "exec sleep 1000 > /dev/null 2>&1";

const ANYWHERE: [(&str, fn()); 5] = [
    ("scopes_are_where_the_path_says", scopes_are_where_the_path_says),
    ("device_rules_outlive_a_reload", device_rules_outlive_a_reload),
    ("a_dead_runtime_leaves_a_unit_that_delete_removes", a_dead_runtime_leaves_a_unit_that_delete_removes),
    ("failures_leave_no_unit", failures_leave_no_unit),
    ("through_the_bus", through_the_bus),
];
const UNIFIED: [(&str, fn()); 5] = [
    ("limits_are_properties_and_files", limits_are_properties_and_files),
    ("limits_of_devices_and_pages", limits_of_devices_and_pages),
    ("annotations_are_properties", annotations_are_properties),
    ("namespaces_of_others", namespaces_of_others),
    ("an_ordinary_users_session", an_ordinary_users_session),
];
const HYBRID: [(&str, fn()); 3] = [
    ("limits_of_version_1", limits_of_version_1),
    ("devices_that_systemd_cannot_keep", devices_that_systemd_cannot_keep),
    ("an_ordinary_user_is_refused", an_ordinary_user_is_refused),
];

#[test]
fn unified() {
    if is_inside() {
        assert!(has_peer() && !has_version_1(), "the machine has the peer, and no other groups");
        return pass(ANYWHERE.iter().chain(&UNIFIED));
    }
    let Some(machine) = Machine::full_host() else { return };
    passes_in(&machine, "systemd::unified", "");
}

#[test]
fn hybrid() {
    if is_inside() {
        assert!(has_peer() && has_version_1(), "the machine has the peer, and both kinds of groups");
        return pass(ANYWHERE.iter().chain(&HYBRID));
    }
    let Some(machine) = Machine::hybrid_host() else { return };
    passes_in(&machine, "systemd::hybrid", "");
}

/// A case on the peer, then on ours.
fn on_both(script: &str, case: impl Fn(&Bundle)) {
    for runtime in [PEER, RUNTIME] {
        let bundle = bundle_for(runtime, script).unwrap();
        println!("  {runtime}");
        case(&bundle);
    }
}

impl Bundle {
    fn with_path(&self, path: &str) {
        self.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    }

    fn in_foreground(&self) -> Output {
        let path = self.path();
        self.call(&["--systemd-cgroup", "run", "-b", path.to_str().unwrap(), &self.id])
    }

    fn keeps_running(&self) {
        self.detached(&["--systemd-cgroup", "run", "-d"]);
        assert_eq!(self.status(), "running");
    }

    fn succeeds(&self, arguments: &[&str]) {
        let output = self.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }

    fn is_killed_and_deleted(&self) {
        self.succeeds(&["kill", &self.id, "KILL"]);
        self.wait_for("stopped");
        self.succeeds(&["delete", &self.id]);
    }
}

fn host(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The system's systemctl, or that of the ordinary user.
fn systemctl(user: bool) -> Command {
    let mut command = Command::new("/usr/bin/systemctl");
    if user {
        command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", USER_RUNTIME).arg("--user");
    }
    command
}

/// A unit has these properties, as systemctl writes them.
#[track_caller]
fn check_unit(user: bool, unit: &str, expected: &[(&str, &str)]) {
    let said = host(systemctl(user).args(["show", unit]));
    for (name, value) in expected {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        assert_eq!(line, Some(*value), "{name} of {unit}");
    }
}

#[track_caller]
fn check_gone(user: bool, unit: &str, below: &str) {
    check_unit(user, unit, &[("LoadState", "not-found")]);
    for folder in folders(below) {
        assert!(!folder.exists(), "{} is left", folder.display());
    }
}

#[track_caller]
fn check_files(folder: &Path, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let said = fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(said.trim(), *value, "{name}");
    }
}

fn folder(below: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(below)
}

/// A group's folder in every hierarchy of the host.
fn folders(below: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let folders: Vec<_> = fields
        .filter(|fields| fields[2].starts_with("cgroup"))
        .map(|fields| Path::new(fields[1]).join(below))
        .collect();
    assert!(!folders.is_empty() && has_version_1() == (folders.len() > 8), "{mounts}");
    folders
}

fn has_version_1() -> bool {
    Path::new("/sys/fs/cgroup/memory").exists()
}

/// How many processes the container's group has, the same number in every hierarchy. The peer makes no group for `misc`, and
/// leaves its processes in the slice's for `devices` where the slice is new: its empty ones do not count.
#[track_caller]
fn members(bundle: &Bundle, below: &str) -> usize {
    let count = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs")).map(|text| text.lines().count());
    let mut counts: Vec<_> = folders(below).into_iter().map(|folder| (count(&folder).unwrap_or(0), folder)).collect();
    counts.retain(|(count, _)| !bundle.is_peers() || *count > 0);
    assert!(counts.iter().all(|(count, _)| *count == counts[0].0), "{counts:?}");
    counts[0].0
}

fn limits_are_properties_and_files() {
    on_both("sleep 1000", |bundle| {
        let unit = format!("docker-{}.scope", bundle.id);
        let below = format!("system.slice/{unit}");
        let group = folder(&below);
        bundle.with_path(&format!("system.slice:docker:{}", bundle.id));
        bundle.edit(|spec| {
            spec["linux"]["resources"] = json!({
                "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                "cpu": {"quota": 50_000, "period": 100_000, "shares": 1024, "cpus": "0"},
                "pids": {"limit": 50},
                "unified": {"memory.high": "50331648"}
            });
        });
        bundle.detached(&["--systemd-cgroup", "create"]);
        let properties = [
            ("Slice", "system.slice"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("ActiveState", "active"),
            ("MemoryAccounting", "yes"),
            ("MemoryMax", "67108864"),
            ("MemorySwapMax", "33554432"),
            ("MemoryLow", "33554432"),
            ("MemoryHigh", "50331648"),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("CPUWeight", "39"),
            ("AllowedCPUs", "0"),
            ("TasksMax", "50"),
        ];
        let files = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("memory.high", "50331648"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "39"),
            ("cpuset.cpus", "0"),
            ("pids.max", "50"),
        ];
        check_unit(false, &unit, &properties);
        check_files(&group, &files);
        bundle.succeeds(&["start", &bundle.id]);
        host(systemctl(false).arg("daemon-reload"));
        check_files(&group, &files);

        bundle.succeeds(&["update", "--memory", "80m", "--memory-swap", "160m", "--pids-limit", "20", &bundle.id]);
        bundle.succeeds(&["update", "--cpu-quota", "20000", "--cpu-period", "50000", "--cpuset-cpus", "1", &bundle.id]);
        check_unit(false, &unit, &[("MemoryMax", "83886080"), ("MemorySwapMax", "83886080"), ("TasksMax", "20")]);
        check_unit(false, &unit, &[("CPUQuotaPerSecUSec", "400ms"), ("AllowedCPUs", "1"), ("CPUWeight", "39")]);
        let files = [("memory.max", "83886080"), ("pids.max", "20"), ("cpu.max", "20000 50000"), ("cpuset.cpus", "1")];
        check_files(&group, &files);
        host(systemctl(false).arg("daemon-reload"));
        check_files(&group, &files);

        bundle.succeeds(&["exec", "-d", &bundle.id, "sh", "-c", SLEEP]);
        assert_eq!(members(bundle, &below), 2);
        bundle.succeeds(&["pause", &bundle.id]);
        assert_eq!(bundle.status(), "paused");
        bundle.succeeds(&["resume", &bundle.id]);
        assert_eq!(bundle.status(), "running");
        bundle.is_killed_and_deleted();
        check_gone(false, &unit, &below);
    });
}

/// What systemd writes anew at a reload is a property, the rest it leaves alone: weights, rates, huge pages.
fn limits_of_devices_and_pages() {
    on_both("sleep 1000", |bundle| {
        let unit = format!("lib-{}.scope", bundle.id);
        let below = format!("system.slice/{unit}");
        bundle.with_path(&format!(":lib:{}", bundle.id));
        bundle.edit(|spec| {
            spec["linux"]["resources"] = json!({
                "blockIO": {
                    "weight": 300,
                    "throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1_048_576}],
                    "throttleWriteIOPSDevice": [{"major": 7, "minor": 1, "rate": 50}]
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]
            });
        });
        bundle.keeps_running();
        let rates = "7:1 rbps=max wbps=max riops=max wiops=50\n7:0 rbps=1048576 wbps=max riops=max wiops=max";
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let check = |weight: &str| {
            check_files(&folder(&below), &[("io.bfq.weight", weight), ("hugetlb.2MB.max", "4194304")]);
            assert_eq!(sorted(&fs::read_to_string(folder(&below).join("io.max")).unwrap()), sorted(rates));
        };
        check("default 300");
        host(systemctl(false).arg("daemon-reload"));
        // The peer tells systemd of no weight, which has its own then.
        check(if bundle.is_peers() { "default 100" } else { "default 300" });
        if !bundle.is_peers() {
            check_unit(false, &unit, &[("IOWeight", "2300")]);
            bundle.succeeds(&["update", "--blkio-weight", "50", &bundle.id]);
            check_unit(false, &unit, &[("IOWeight", "50")]);
            host(systemctl(false).arg("daemon-reload"));
            check("default 50");
        }
        bundle.is_killed_and_deleted();
        check_gone(false, &unit, &below);
    });
}

fn scopes_are_where_the_path_says() {
    on_both("sleep 1000", |bundle| {
        let id = bundle.id.as_str();
        let default = if bundle.is_peers() { "runc" } else { "atoll" };
        for (path, below) in [
            (String::new(), format!("system.slice/{default}-{id}.scope")),
            (format!(":lib:{id}"), format!("system.slice/lib-{id}.scope")),
            (format!("-.slice:lib:{id}"), format!("lib-{id}.scope")),
            (
                format!("one-two-three.slice:lib:{id}"),
                format!("one.slice/one-two.slice/one-two-three.slice/lib-{id}.scope"),
            ),
        ] {
            bundle.with_path(&path);
            bundle.keeps_running();
            assert_eq!(members(bundle, &below), 1, "{path}");
            bundle.is_killed_and_deleted();
            check_gone(false, below.rsplit('/').next().unwrap(), &below);
        }
        for bad in ["/a/b", "a:b", "system:a:b", "a--b.slice:c:d"] {
            bundle.with_path(bad);
            assert!(!bundle.in_foreground().status.success(), "{bad}");
        }
    });
}

fn annotations_are_properties() {
    on_both("sleep 1000", |bundle| {
        bundle.with_path(&format!(":lib:{}", bundle.id));
        bundle.edit(|spec| {
            spec["annotations"] = json!({
                "org.systemd.property.TimeoutStopSec": "7",
                "org.systemd.property.MemoryMin": "uint64 1048576",
                "org.systemd.property.Documentation": "['https://example.com/a']"
            });
        });
        bundle.keeps_running();
        let properties =
            [("TimeoutStopUSec", "7s"), ("MemoryMin", "1048576"), ("Documentation", "https://example.com/a")];
        check_unit(false, &format!("lib-{}.scope", bundle.id), &properties);
    });
    for (name, value) in [("MemoryMin", "lots"), ("No.Name", "1"), ("PIDs", "[uint32 1]"), ("NoSuchProperty", "1")] {
        let bundle = bundle("echo escaped").unwrap();
        bundle.edit(|spec| spec["annotations"] = json!({format!("org.systemd.property.{name}"): value}));
        let output = bundle.in_foreground();
        assert!(!output.status.success() && text(&output).contains(name), "{}", text(&output));
        check_unit(false, &format!("atoll-{}.scope", bundle.id), &[("LoadState", "not-found")]);
    }
}

fn a_dead_runtime_leaves_a_unit_that_delete_removes() {
    on_both("sleep 1000", |bundle| {
        bundle.with_path(&format!(":lib:{}", bundle.id));
        let unit = format!("lib-{}.scope", bundle.id);
        let path = bundle.path();
        let mut command = bundle.command(&["--systemd-cgroup", "run", "-b", path.to_str().unwrap(), &bundle.id]);
        let mut runtime = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        while !bundle.call(&["state", &bundle.id]).status.success() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        bundle.wait_for("running");
        runtime.kill().unwrap();
        runtime.wait().unwrap();
        check_unit(false, &unit, &[("ActiveState", "active")]);
        bundle.succeeds(&["delete", "-f", &bundle.id]);
        check_gone(false, &unit, &format!("system.slice/{unit}"));
    });
}

fn failures_leave_no_unit() {
    // The program is none; the group is too small for it; the kernel refuses a limit.
    for (change, code) in [
        (json!({"process": {"args": ["/nothing"]}}), 1),
        (json!({"linux": {"resources": {"memory": {"limit": 20 << 20, "swap": 20 << 20}}}}), 137),
        (json!({"linux": {"resources": {"unified": {"memory.max": "much"}}}}), 1),
    ] {
        let bundle = bundle("dd if=/dev/zero of=/dev/null bs=100M count=1").unwrap();
        bundle.edit(|spec| {
            if change["process"].is_object() {
                spec["process"]["args"] = change["process"]["args"].clone();
            } else {
                spec["linux"]["resources"] = change["linux"]["resources"].clone();
            }
        });
        let output = bundle.in_foreground();
        assert_eq!(output.status.code(), Some(code), "{change}: {}", text(&output));
        let unit = format!("atoll-{}.scope", bundle.id);
        check_gone(false, &unit, &format!("system.slice/{unit}"));
    }
    // A scope of somebody else's with the name is left alone.
    let taken = bundle("sleep 1000").unwrap();
    taken.with_path(":lib:taken");
    taken.keeps_running();
    let second = bundle("echo escaped").unwrap();
    second.with_path(":lib:taken");
    let output = second.in_foreground();
    assert!(!output.status.success() && text(&output).contains("has processes already"), "{}", text(&output));
    assert_eq!(taken.status(), "running");
}

fn namespaces_of_others() {
    let first = bundle("sleep 1000").unwrap();
    first.keeps_running();
    let state: Value = serde_json::from_slice(&first.call(&["state", &first.id]).stdout).unwrap();
    let pid = &state["pid"];
    let second = bundle("ps | grep -c sleep").unwrap();
    second.edit(|spec| {
        for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
    });
    let output = second.in_foreground();
    assert!(output.status.success() && text(&output).trim() != "0", "{}", text(&output));
    let third = bundle("cat /proc/self/cgroup; cat /proc/self/uid_map | tr -s ' '").unwrap();
    third.edit(|spec| {
        let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = ids.clone();
        spec["linux"]["gidMappings"] = ids;
    });
    fs::set_permissions(third.path(), fs::Permissions::from_mode(0o755)).unwrap();
    host(Command::new("chown").args(["-hR", "100000:100000"]).arg(third.rootfs()));
    assert_eq!(text(&third.in_foreground()).trim(), "0::/\n 0 100000 65536");
}

fn through_the_bus() {
    let private = "/run/systemd/private";
    host(Command::new("/bin/busybox").args(["mount", "--bind", "/dev/null", private]));
    let bundle = bundle("sleep 1000").unwrap();
    bundle.keeps_running();
    let unit = format!("atoll-{}.scope", bundle.id);
    let below = format!("system.slice/{unit}");
    bundle.succeeds(&["update", "--pids-limit", "20", &bundle.id]);
    check_unit(false, &unit, &[("TasksMax", "20")]);
    check_files(&folder(if has_version_1() { "pids" } else { "" }).join(&below), &[("pids.max", "20")]);
    bundle.is_killed_and_deleted();
    host(Command::new("/bin/busybox").args(["umount", private]));
    check_gone(false, &unit, &below);
}

/// As [`Bundle::command`], by the ordinary user.
fn as_user(bundle: &Bundle, arguments: &[&str]) -> Command {
    let mut command = bundle.command(arguments);
    command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", USER_RUNTIME);
    command
}

fn an_ordinary_users_session() {
    host(systemctl(false).args(["start", "user@1000.service"]));
    on_both("sleep 1000", |bundle| {
        fs::remove_file(bundle.path().join("config.json")).unwrap();
        let path = bundle.path();
        let path = path.to_str().unwrap();
        host(Command::new(RUNTIME).args(["spec", "--rootless", "-b", path]));
        bundle.edit(|spec| {
            spec["process"]["args"] = json!(["sleep", "1000"]);
            spec["linux"]["uidMappings"][0]["hostID"] = json!(USER);
            spec["linux"]["gidMappings"][0]["hostID"] = json!(USER);
            spec["linux"]["cgroupsPath"] = json!(format!("app.slice:lib:{}", bundle.id));
            spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
        });
        host(Command::new("chown").args(["-hR", "1000:1000"]).arg(path));
        let out = fs::File::create(bundle.path().join("out")).unwrap();
        let mut run = as_user(bundle, &["--systemd-cgroup", "run", "-d", "-b", path, &bundle.id]);
        run.stderr(out.try_clone().unwrap()).stdout(out);
        assert!(run.status().unwrap().success(), "{}", bundle.written());
        assert!(bundle.is_peers() || bundle.written().is_empty(), "{}", bundle.written());

        let unit = format!("lib-{}.scope", bundle.id);
        let below = format!("user.slice/user-1000.slice/user@1000.service/app.slice/{unit}");
        let group = folder(&below);
        check_unit(true, &unit, &[("MemoryMax", "67108864"), ("TasksMax", "50"), ("Slice", "app.slice")]);
        check_files(&group, &[("memory.max", "67108864"), ("pids.max", "50")]);
        let call = |arguments: &[&str]| host(&mut as_user(bundle, arguments));
        call(&["update", "--memory", "32m", "--pids-limit", "20", &bundle.id]);
        check_unit(true, &unit, &[("MemoryMax", "33554432"), ("TasksMax", "20")]);
        check_files(&group, &[("memory.max", "33554432"), ("pids.max", "20")]);
        call(&["pause", &bundle.id]);
        check_files(&group, &[("cgroup.freeze", "1")]);
        call(&["resume", &bundle.id]);
        call(&["exec", "-d", &bundle.id, "sh", "-c", SLEEP]);
        // The peer leaves what is executed in the caller's group.
        if !bundle.is_peers() {
            assert_eq!(call(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]).trim(), "0::/");
            assert_eq!(members(bundle, &below), 2);
        }
        call(&["delete", "-f", &bundle.id]);
        check_gone(true, &unit, &below);
    });
    // Without a session there is nobody to ask.
    let bundle = bundle("").unwrap();
    let path = bundle.path();
    host(Command::new("chown").args(["-hR", "1000:1000"]).arg(&path));
    let mut run = as_user(&bundle, &["--systemd-cgroup", "run", "-b", path.to_str().unwrap(), &bundle.id]);
    let output = run.env("XDG_RUNTIME_DIR", "/run/user/nobody").output().unwrap();
    assert!(text(&output).contains("systemd is not running: there is no /run/user/nobody/bus"), "{}", text(&output));
}
