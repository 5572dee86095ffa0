//! Checkpoints by criu, on runc first, then on `atoll-runtime`: in the full host with Debian 12's own kernel, since Debian's
//! criu works on no newer one. Where criu cannot work the refusal names it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::common::*;

/// What criu needs of the kernel, and what it calls, with `tar` for the content of a tmpfs.
const MODULES: [&str; 12] = [
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "netlink_diag",
    "af_packet_diag",
    "nf_tables",
    "nft_compat",
    "xt_mark",
    "nf_conntrack_netlink",
    "tun",
    "veth",
];
const PROGRAMS: [&str; 8] =
    ["criu", PEER, "ip", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore", "tar"];
/// Extensions of iptables, which the dynamic linker does not name.
const EXTENSIONS: [&str; 2] = ["libxt_mark.so", "libxt_standard.so"];
/// Says that this program runs in a container of the machine's, to lock a file there.
const LOCKS: &str = "ATOLL_LOCKS";
/// Of hooks.
const PATH: &str = "PATH=/usr/bin:/usr/sbin:/usr/lib/busybox";

const CASES: [(&str, fn()); 14] = [
    ("a_counter_goes_on", a_counter_goes_on),
    ("it_may_be_left_running", it_may_be_left_running),
    ("what_criu_would_lose_is_refused", what_criu_would_lose_is_refused),
    ("images_do_not_decide_on_mounts", images_do_not_decide_on_mounts),
    ("images_do_not_decide_on_rights", images_do_not_decide_on_rights),
    ("no_link_is_followed", no_link_is_followed),
    ("in_the_foreground", in_the_foreground),
    ("files_stay_locked", files_stay_locked),
    ("connections_stay", connections_stay),
    ("a_network_may_be_left_out", a_network_may_be_left_out),
    ("a_joined_network_is_joined_again", a_joined_network_is_joined_again),
    ("images_do_not_decide_on_limits", images_do_not_decide_on_limits),
    ("systemd_keeps_the_groups", systemd_keeps_the_groups),
    ("without_groups_nothing_comes_back", without_groups_nothing_comes_back),
];

#[test]
fn checkpoints() {
    if std::env::var_os(LOCKS).is_some() {
        return lock_and_count();
    }
    if is_inside() {
        return pass(&CASES);
    }
    let programs = PROGRAMS.map(|program| Command::new(program).arg("--version").output().is_ok());
    if programs.contains(&false) {
        return println!("skipped: needs {PROGRAMS:?}");
    }
    let Some(machine) = Machine::full_host_with_kernel("6.1", &MODULES) else { return };
    PROGRAMS.iter().for_each(|program| machine.add_program(program).unwrap());
    for name in EXTENSIONS {
        let path = Path::new("/usr/lib/x86_64-linux-gnu/xtables").join(name);
        machine.add(&path, path.to_str().unwrap()).unwrap();
    }
    passes_in(&machine, "checkpoint::checkpoints", "");
}

#[test]
fn what_keeps_criu_from_working_is_named() {
    let Some(bundle) = counting(RUNTIME) else { return };
    bundle.detached(&["run", "-d"]);
    let images = bundle.path().join("images");
    let checkpoint = ["checkpoint", "--image-path", images.to_str().unwrap(), &bundle.id];
    let output = bundle.call(&[&["--criu", "/nowhere/criu"], &checkpoint[..]].concat());
    assert!(text(&output).contains("criu cannot work here: /nowhere/criu"), "{}", text(&output));
    let works = Command::new("criu").arg("check").output().is_ok_and(|output| output.status.success());
    if !works && Command::new("criu").arg("--version").output().is_ok() {
        let output = bundle.call(&checkpoint);
        assert!(text(&output).contains("criu cannot work here: criu check: "), "{}", text(&output));
    }
    assert_eq!(bundle.status(), "running", "a refused checkpoint changes nothing");
}

/// Counts in the file `counter`, until a file `stop` ends it.
const COUNT: &str = "i=0; while test ! -e /stop; do i=$((i+1)); echo $i > /counter; sleep 0.1; done; exit 7";

/// A bundle whose program counts in the file `counter` of its root; `/mnt` is the bundle's folder `data`, read-only.
fn counting(runtime: &'static str) -> Option<Bundle> {
    counting_by(runtime, COUNT)
}

/// The same with another script. What its `createRuntime` hook is told is in the bundle's file `hooked`.
fn counting_by(runtime: &'static str, script: &str) -> Option<Bundle> {
    let bundle = bundle_for(runtime, script)?;
    let data = bundle.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("seen"), "data").unwrap();
    fs::create_dir(bundle.rootfs().join("mnt")).unwrap();
    let hook = format!("exec cat > {}", bundle.path().join("hooked").display());
    bundle.edit(|spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", "ro"]}));
        spec["hooks"] = json!({"createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", hook], "env": [PATH]}
        ]});
        spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]
        });
    });
    Some(bundle)
}

fn count(bundle: &Bundle) -> u64 {
    fs::read_to_string(bundle.rootfs().join("counter")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn wait_beyond(bundle: &Bundle, number: u64) {
    for _ in 0..2000 {
        if count(bundle) > number {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the counter stays at {}: {}", count(bundle), bundle.written());
}

/// `checkpoint` or `restore` with the bundle's images; what it says goes to the bundle's file `said`.
fn criu_command(bundle: &Bundle, arguments: &[&str]) -> Command {
    let path = bundle.path();
    let out = fs::File::create(path.join("said")).unwrap();
    let mut command = bundle.command(arguments);
    command.arg("--image-path").arg(path.join("images")).arg("--work-path").arg(path.join("work"));
    if arguments.contains(&"restore") {
        command.arg("-b").arg(&path);
    }
    command.arg(&bundle.id).stdout(out.try_clone().unwrap()).stderr(out);
    command
}

/// What a command of [`criu_command`] said, and the errors in criu's logs.
fn said(bundle: &Bundle) -> String {
    let path = bundle.path();
    let mut said = fs::read_to_string(path.join("said")).unwrap();
    for log in ["dump.log", "restore.log"] {
        let text = fs::read_to_string(path.join("work").join(log)).unwrap_or_default();
        text.lines().filter(|line| line.contains("Error")).for_each(|line| said += &format!("{line}\n"));
    }
    said
}

/// Carries out `checkpoint` or `restore -d`; gives whether that succeeded, and what was said.
fn criu(bundle: &Bundle, arguments: &[&str]) -> (bool, String) {
    let detach: &[&str] = if arguments.contains(&"restore") { &["-d"] } else { &[] };
    let status = criu_command(bundle, &[arguments, detach].concat()).status().unwrap();
    (status.success(), if status.success() { String::new() } else { said(bundle) })
}

#[track_caller]
fn succeeds(bundle: &Bundle, arguments: &[&str]) {
    let (done, said) = criu(bundle, arguments);
    assert!(done, "{arguments:?} of {}: {said}", name(bundle));
}

#[track_caller]
fn is_refused(bundle: &Bundle, arguments: &[&str], word: &str) {
    let (done, said) = criu(bundle, arguments);
    assert!(!done && said.contains(word), "{arguments:?} of {}: {said}", name(bundle));
}

fn name(bundle: &Bundle) -> &'static str {
    if bundle.is_peers() { PEER } else { RUNTIME }
}

/// Runs it in the background until it has begun to count; runc takes only devices that the container has too as standard streams, ours also files.
fn begin(bundle: &Bundle, global: &[&str]) {
    let run = [global, &["run", "-d"]].concat();
    if !bundle.is_peers() {
        bundle.detached(&run);
        return wait_beyond(bundle, 3);
    }
    let path = bundle.path();
    let mut command = bundle.command(&[&run[..], &["-b", path.to_str().unwrap(), &bundle.id]].concat());
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    wait_beyond(bundle, 3);
}

/// Running, then frozen into images.
fn frozen(runtime: &'static str) -> Bundle {
    let bundle = counting(runtime).unwrap();
    begin(&bundle, &[]);
    succeeds(&bundle, &["checkpoint"]);
    bundle
}

/// A case on the peer, then on ours.
fn on_both(script: &str, case: impl Fn(&Bundle)) {
    for runtime in [PEER, RUNTIME] {
        println!("  {runtime}");
        case(&counting_by(runtime, script).unwrap());
    }
}

/// Freezes it and brings it back, with the same options; it counts on.
#[track_caller]
fn comes_back(bundle: &Bundle, global: &[&str], options: &[&str]) {
    succeeds(bundle, &[global, &["checkpoint"], options].concat());
    let before = count(bundle);
    assert!(before > 3);
    succeeds(bundle, &[global, &["restore"], options].concat());
    wait_beyond(bundle, before + 3);
    assert_eq!(bundle.status(), "running", "{}", name(bundle));
}

/// What a program in the container prints.
fn inside_of(bundle: &Bundle, script: &str) -> String {
    text(&bundle.call(&["exec", &bundle.id, "sh", "-c", script])).trim().to_owned()
}

fn state(bundle: &Bundle) -> Value {
    serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap()
}

fn host(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
    text(&output).trim().to_owned()
}

/// Neither a record nor a group of it is left.
#[track_caller]
fn is_gone(bundle: &Bundle) {
    assert!(!bundle.call(&["state", &bundle.id]).status.success(), "{}: its record is left", name(bundle));
    assert!(!Path::new("/sys/fs/cgroup").join(&bundle.id).exists(), "{}: its group is left", name(bundle));
}

fn a_counter_goes_on() {
    for runtime in [PEER, RUNTIME] {
        let bundle = frozen(runtime);
        is_gone(&bundle);
        let before = count(&bundle);
        assert!(before > 3);
        succeeds(&bundle, &["restore"]);
        wait_beyond(&bundle, before + 3);
        assert_eq!(bundle.status(), "running", "{runtime}");
        assert_eq!(inside_of(&bundle, "cat /mnt/seen; touch /mnt/x 2>/dev/null || echo kept"), "datakept", "{runtime}");
        let filtered = "cat /proc/keys | wc -l; cat /proc/1/status | grep -c 'Seccomp:.*2'";
        assert_eq!(inside_of(&bundle, filtered), "0\n1", "{runtime}");
        let state = state(&bundle);
        let members = fs::read_to_string(Path::new("/sys/fs/cgroup").join(&bundle.id).join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|pid| state["pid"] == json!(pid.parse::<i32>().unwrap())), "{runtime}: {members}");
        let hooked: Value = serde_json::from_slice(&fs::read(bundle.path().join("hooked")).unwrap()).unwrap();
        assert_eq!((&hooked["id"], &hooked["pid"]), (&json!(bundle.id), &state["pid"]), "{runtime}: hooks run again");
        assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
        bundle.wait_for("stopped");
        assert!(bundle.call(&["delete", &bundle.id]).status.success());
    }
}

fn it_may_be_left_running() {
    on_both(COUNT, |bundle| {
        begin(bundle, &[]);
        succeeds(bundle, &["checkpoint", "--leave-running"]);
        wait_beyond(bundle, count(bundle) + 3);
        assert_eq!(bundle.status(), "running", "{}", name(bundle));
    });
}

fn what_criu_would_lose_is_refused() {
    let bundle = counting(RUNTIME).unwrap();
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(true));
    bundle.detached(&["run", "-d"]);
    is_refused(&bundle, &["checkpoint"], "does not bring noNewPrivileges back");
    assert_eq!(bundle.status(), "running");
}

/// A restore with another configuration than the images were made with is stopped with `word`, and nothing of it runs.
#[track_caller]
fn check_contradiction(word: &str, change: impl FnOnce(&mut Value)) {
    let bundle = frozen(RUNTIME);
    bundle.edit(change);
    let before = count(&bundle);
    is_refused(&bundle, &["restore"], word);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(count(&bundle), before, "nothing may run");
    is_gone(&bundle);
}

fn images_do_not_decide_on_mounts() {
    // The images have it with fewer attributes than the configuration asks for.
    check_contradiction("/mnt lacks attributes", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.last_mut().unwrap()["options"] = json!(["bind", "ro", "noexec"]);
    });
    // A bind mount that the configuration does not have any more: criu gets no source for it.
    check_contradiction("criu failed", |spec| drop(spec["mounts"].as_array_mut().unwrap().pop()));
    // One more than the images have; its place is there.
    check_contradiction("/bin is missing", |spec| {
        let mount = json!({"destination": "/bin", "type": "tmpfs", "source": "tmpfs"});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    check_contradiction("/proc/version can be written", |spec| {
        spec["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/proc/version"));
    });
    check_contradiction("/proc/meminfo is not what the configuration puts there", |spec| {
        spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/proc/meminfo"));
    });
}

const FAILED_HOOK: &str = "createRuntime hook 0 (\"/bin/sh\") ended with status 3";

fn with_failing_hook(spec: &mut Value) {
    spec["hooks"]["createRuntime"][0] = json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]});
}

fn images_do_not_decide_on_rights() {
    check_contradiction("has capabilities", |spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_KILL"]);
        }
    });
    check_contradiction("may gain privileges", |spec| spec["process"]["noNewPrivileges"] = json!(true));
    check_contradiction(FAILED_HOOK, with_failing_hook);
}

fn no_link_is_followed() {
    let bundle = frozen(RUNTIME);
    let images = bundle.path().join("images");
    fs::rename(&images, bundle.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &images).unwrap();
    is_refused(&bundle, &["restore"], "no link may lead to it");
    let bundle = frozen(RUNTIME);
    fs::remove_dir(bundle.rootfs().join("mnt")).unwrap();
    symlink("/tmp", bundle.rootfs().join("mnt")).unwrap();
    is_refused(&bundle, &["restore"], "find the mount point /mnt");
}

fn in_the_foreground() {
    on_both(COUNT, |bundle| {
        begin(bundle, &[]);
        succeeds(bundle, &["checkpoint"]);
        let before = count(bundle);
        let pid_file = bundle.path().join("pid");
        let mut runtime = criu_command(bundle, &["restore", "--pid-file", pid_file.to_str().unwrap()]).spawn().unwrap();
        wait_beyond(bundle, before + 3);
        assert_eq!(bundle.status(), "running", "{}", name(bundle));
        assert_eq!(state(bundle)["pid"].to_string(), fs::read_to_string(pid_file).unwrap(), "{}", name(bundle));
        fs::write(bundle.rootfs().join("stop"), "").unwrap();
        assert_eq!(runtime.wait().unwrap().code(), Some(7), "{}: {}", name(bundle), said(bundle));
        is_gone(bundle);
    });
}

/// In a container of the machine's: locks a file and counts on as a shell.
fn lock_and_count() {
    let file = fs::File::create("/lock").unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // The copy is not closed by execve, and the lock is both descriptors'.
    let copy = rustix::io::dup(&file).unwrap();
    let error = Command::new("/bin/sh").args(["-c", COUNT]).exec();
    panic!("{error}, {copy:?}");
}

fn files_stay_locked() {
    // What a harness writes would have to be in the file that it goes to when it is restored.
    let test = "/test --exact checkpoint::checkpoints --nocapture --test-threads 1";
    let script = format!("{LOCKS}=1 exec {test} > /dev/null 2>&1");
    on_both(&script, |bundle| {
        fs::copy(std::env::current_exe().unwrap(), bundle.rootfs().join("test")).unwrap();
        begin(bundle, &[]);
        is_refused(bundle, &["checkpoint"], "file locks");
        assert_eq!(bundle.status(), "running", "{}", name(bundle));
        comes_back(bundle, &[], &["--file-locks"]);
        let file = fs::File::open(bundle.rootfs().join("lock")).unwrap();
        let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
        assert_eq!(locked, Err(rustix::io::Errno::WOULDBLOCK), "{}", name(bundle));
    });
}

fn connections_stay() {
    // Each number goes through a connection to the file.
    let script = "sleep 100000 | busybox nc -l -p 5000 | while read i; do echo $i > /counter; done &
        sleep 2; i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done | busybox nc 127.0.0.1 5000";
    on_both(script, |bundle| {
        begin(bundle, &[]);
        is_refused(bundle, &["checkpoint"], "tcp-established");
        assert_eq!(bundle.status(), "running", "{}", name(bundle));
        if !bundle.is_peers() {
            return comes_back(bundle, &[], &["--tcp-established"]);
        }
        // It writes no network namespace into the images, and has no address to connect to when it restores.
        succeeds(bundle, &["checkpoint", "--tcp-established", "--leave-running"]);
        wait_beyond(bundle, count(bundle) + 3);
    });
}

fn a_network_may_be_left_out() {
    on_both(COUNT, |bundle| {
        begin(bundle, &[]);
        host("ip", &["link", "add", "outer", "type", "veth", "peer", "name", "inner"]);
        host("ip", &["link", "set", "inner", "netns", &state(bundle)["pid"].to_string()]);
        assert_eq!(inside_of(bundle, "grep -c inner: /proc/net/dev"), "1", "{}", name(bundle));
        comes_back(bundle, &[], &["--empty-ns", "network"]);
        assert_eq!(inside_of(bundle, "grep -c : /proc/net/dev; grep -c lo: /proc/net/dev"), "1\n1", "{}", name(bundle));
    });
}

fn a_joined_network_is_joined_again() {
    host("ip", &["netns", "add", "joined"]);
    let network = host("stat", &["-Lc", "%i", "/run/netns/joined"]);
    on_both(COUNT, |bundle| {
        bundle.edit(|spec| {
            for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "network" {
                    namespace["path"] = json!("/run/netns/joined");
                }
            }
        });
        begin(bundle, &[]);
        comes_back(bundle, &[], &[]);
        assert_eq!(inside_of(bundle, "stat -Lc %i /proc/1/ns/net"), network, "{}", name(bundle));
    });
    host("ip", &["netns", "del", "joined"]);
}

fn images_do_not_decide_on_limits() {
    let bundle = frozen(RUNTIME);
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 33}}));
    for mode in ["full", "strict"] {
        let word = format!("a restore with --manage-cgroups-mode {mode} is not supported");
        is_refused(&bundle, &["restore", "--manage-cgroups-mode", mode], &word);
        is_gone(&bundle);
    }
    let before = count(&bundle);
    succeeds(&bundle, &["restore", "--manage-cgroups-mode", "soft"]);
    wait_beyond(&bundle, before + 3);
    has_limit(&bundle, "33");
    // The peer has no way to leave groups alone.
    let ignore = ["--manage-cgroups-mode", "ignore"];
    let word = "of a cgroup namespace with --manage-cgroups-mode ignore is not supported";
    is_refused(&bundle, &["checkpoint", ignore[0], ignore[1]], word);
    let bundle = counting(RUNTIME).unwrap();
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"pids": {"limit": 33}});
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    });
    begin(&bundle, &[]);
    comes_back(&bundle, &[], &ignore);
    has_limit(&bundle, "33");
}

/// The group's limit of processes.
#[track_caller]
fn has_limit(bundle: &Bundle, limit: &str) {
    let found = fs::read_to_string(Path::new("/sys/fs/cgroup").join(&bundle.id).join("pids.max")).unwrap();
    assert_eq!(found.trim(), limit, "{}", name(bundle));
}

fn systemd_keeps_the_groups() {
    on_both(COUNT, |bundle| {
        let unit = format!("lib-{}.scope", bundle.id);
        let group = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
        bundle.edit(|spec| {
            spec["linux"]["cgroupsPath"] = json!(format!("system.slice:lib:{}", bundle.id));
            spec["linux"]["resources"] = json!({"pids": {"limit": 50}});
        });
        let global = &["--systemd-cgroup"][..];
        begin(bundle, global);
        succeeds(bundle, &["--systemd-cgroup", "checkpoint"]);
        is_gone(bundle);
        assert!(!group.exists(), "{}", name(bundle));
        // The limit is the configuration's of now, not that of then.
        bundle.edit(|spec| spec["linux"]["resources"]["pids"]["limit"] = json!(40));
        let before = count(bundle);
        succeeds(bundle, &["--systemd-cgroup", "restore"]);
        wait_beyond(bundle, before + 3);
        host("systemctl", &["daemon-reload"]);
        let shown = host("systemctl", &["show", "-p", "ActiveState,TasksMax,Delegate", &unit]);
        for property in ["ActiveState=active", "TasksMax=40", "Delegate=yes"] {
            assert!(shown.lines().any(|line| line == property), "{}: {shown}", name(bundle));
        }
        assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap().trim(), "40", "{}", name(bundle));
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
        let first = state(bundle)["pid"].to_string();
        assert!(members.lines().any(|pid| pid == first), "{}: {members}", name(bundle));
        if !bundle.is_peers() {
            comes_back_without_systemd(bundle);
            assert!(!group.exists());
        }
        assert!(bundle.call(&["--systemd-cgroup", "delete", "-f", &bundle.id]).status.success());
        is_gone(bundle);
        assert!(!group.exists(), "{}", name(bundle));
    });
    // A restore that fails leaves no unit.
    let bundle = frozen(RUNTIME);
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!("");
        with_failing_hook(spec);
    });
    is_refused(&bundle, &["--systemd-cgroup", "restore"], FAILED_HOOK);
    let unit = format!("atoll-{}.scope", bundle.id);
    assert_eq!(host("systemctl", &["show", "-p", "LoadState", &unit]), "LoadState=not-found");
}

/// What was frozen by one keeper comes back by the other; the peer leaves the unit there.
fn comes_back_without_systemd(bundle: &Bundle) {
    succeeds(bundle, &["checkpoint"]);
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id)));
    let before = count(bundle);
    succeeds(bundle, &["restore"]);
    wait_beyond(bundle, before + 3);
    has_limit(bundle, "40");
}

fn without_groups_nothing_comes_back() {
    let bundle = frozen(RUNTIME);
    let before = count(&bundle);
    let read_only = "mount -o remount,bind,ro /sys/fs/cgroup && exec \"$@\"";
    let restore = criu_command(&bundle, &["--rootless", "true", "restore", "-d"]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", read_only, "sh"]).arg(restore.get_program()).args(restore.get_args());
    let output = command.output().unwrap();
    let refusal = "a restore without control groups is not supported";
    assert!(!output.status.success() && text(&output).contains(refusal), "{}", text(&output));
    is_gone(&bundle);
    succeeds(&bundle, &["--rootless", "true", "restore"]);
    wait_beyond(&bundle, before + 3);
    assert!(Path::new("/sys/fs/cgroup").join(&bundle.id).exists());
}
