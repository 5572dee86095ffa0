//! Checkpoints by criu, on runc first, then on `atoll-runtime`: in a machine with Debian 12's own kernel, since Debian's criu
//! works on no newer one. Where criu cannot work the refusal names it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use atoll_testkit::machine::Machine;
use common::*;
use serde_json::{Value, json};

/// Says that this program runs in the machine.
const INSIDE: &str = "ATOLL_IN_MACHINE";
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

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return println!("checkpoints: test");
    }
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    what_keeps_criu_from_working_is_named();
    let programs = PROGRAMS.map(|program| Command::new(program).arg("--version").output().is_ok());
    if programs.contains(&false) {
        return println!("skipped: needs {PROGRAMS:?}");
    }
    let Some(machine) = Machine::with_kernel("6.1", &MODULES, "cgroup_no_v1=all") else { return };
    let own = std::env::current_exe().unwrap();
    machine.add(&own, own.to_str().unwrap()).unwrap();
    machine.add(Path::new(RUNTIME), RUNTIME).unwrap();
    PROGRAMS.iter().for_each(|program| machine.add_program(program).unwrap());
    for name in EXTENSIONS {
        let path = Path::new("/usr/lib/x86_64-linux-gnu/xtables").join(name);
        machine.add(&path, path.to_str().unwrap()).unwrap();
    }
    let outcome = machine.run(&format!("export {INSIDE}=1 RUST_BACKTRACE=0\n{}\n", own.display())).unwrap();
    println!("{}", outcome.output);
    assert_eq!(outcome.code, Some(0), "in the machine");
    println!("test checkpoints ... ok");
}

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

fn inside() {
    for (name, case) in [
        ("a_counter_goes_on", a_counter_goes_on as fn()),
        ("it_may_be_left_running", it_may_be_left_running),
        ("what_criu_would_lose_is_refused", what_criu_would_lose_is_refused),
        ("images_do_not_decide_on_mounts", images_do_not_decide_on_mounts),
        ("images_do_not_decide_on_rights", images_do_not_decide_on_rights),
        ("no_link_is_followed", no_link_is_followed),
    ] {
        case();
        println!("test {name} ... ok");
    }
}

/// A bundle whose program counts in the file `counter` of its root; `/mnt` is the bundle's folder `data`, read-only.
fn counting(runtime: &'static str) -> Option<Bundle> {
    let script = "i=0; while true; do i=$((i+1)); echo $i > /counter; sleep 0.1; done";
    let bundle = bundle_for(runtime, script)?;
    let data = bundle.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("seen"), "data").unwrap();
    fs::create_dir(bundle.rootfs().join("mnt")).unwrap();
    bundle.edit(|spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", "ro"]}));
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

/// Carries out `checkpoint` or `restore -d` with the bundle's images; the streams are files.
fn criu(bundle: &Bundle, arguments: &[&str]) -> (bool, String) {
    let path = bundle.path();
    let images = path.join("images");
    let work = path.join("work");
    let out = fs::File::create(path.join("said")).unwrap();
    let mut command = bundle.command(arguments);
    command.arg("--image-path").arg(&images).arg("--work-path").arg(&work);
    if arguments[0] == "restore" {
        command.arg("-d").arg("-b").arg(&path);
    }
    let status = command.arg(&bundle.id).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    let mut said = fs::read_to_string(path.join("said")).unwrap();
    if !status.success() {
        for log in ["dump.log", "restore.log"] {
            let text = fs::read_to_string(work.join(log)).unwrap_or_default();
            let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).collect();
            said += &errors.join("\n");
        }
    }
    (status.success(), said)
}

/// Runs it in the background; runc takes only devices that the container has too as standard streams, ours also files.
fn begin(bundle: &Bundle, runtime: &str) {
    if runtime == RUNTIME {
        return bundle.detached(&["run", "-d"]);
    }
    let path = bundle.path();
    let mut command = bundle.command(&["run", "-d", "-b", path.to_str().unwrap(), &bundle.id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
}

/// Running, then frozen into images.
fn frozen(runtime: &'static str) -> Bundle {
    let bundle = counting(runtime).unwrap();
    begin(&bundle, runtime);
    wait_beyond(&bundle, 3);
    let (done, said) = criu(&bundle, &["checkpoint"]);
    assert!(done, "{runtime}: {said}");
    bundle
}

fn a_counter_goes_on() {
    for runtime in [PEER, RUNTIME] {
        let bundle = frozen(runtime);
        assert!(!bundle.call(&["state", &bundle.id]).status.success(), "{runtime}: nothing is left of it");
        let before = count(&bundle);
        assert!(before > 3);
        let (done, said) = criu(&bundle, &["restore"]);
        assert!(done, "{runtime}: {said}");
        wait_beyond(&bundle, before + 3);
        assert_eq!(bundle.status(), "running", "{runtime}");
        let exec = |script: &str| text(&bundle.call(&["exec", &bundle.id, "sh", "-c", script])).trim().to_owned();
        assert_eq!(exec("cat /mnt/seen; touch /mnt/x 2>/dev/null || echo kept"), "datakept", "{runtime}");
        assert_eq!(exec("cat /proc/keys | wc -l; cat /proc/1/status | grep -c 'Seccomp:.*2'"), "0\n1", "{runtime}");
        let state: Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
        let members = fs::read_to_string(Path::new("/sys/fs/cgroup").join(&bundle.id).join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|pid| state["pid"] == json!(pid.parse::<i32>().unwrap())), "{runtime}: {members}");
        assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
        bundle.wait_for("stopped");
        assert!(bundle.call(&["delete", &bundle.id]).status.success());
    }
}

fn it_may_be_left_running() {
    for runtime in [PEER, RUNTIME] {
        let bundle = counting(runtime).unwrap();
        begin(&bundle, runtime);
        wait_beyond(&bundle, 3);
        let (done, said) = criu(&bundle, &["checkpoint", "--leave-running"]);
        assert!(done, "{runtime}: {said}");
        let before = count(&bundle);
        wait_beyond(&bundle, before + 3);
        assert_eq!(bundle.status(), "running", "{runtime}");
    }
}

fn what_criu_would_lose_is_refused() {
    let bundle = counting(RUNTIME).unwrap();
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(true));
    bundle.detached(&["run", "-d"]);
    let (done, said) = criu(&bundle, &["checkpoint"]);
    assert!(!done && said.contains("does not bring noNewPrivileges back"), "{said}");
    assert_eq!(bundle.status(), "running");
}

/// A restore with another configuration than the images were made with is stopped with `word`, and nothing of it runs.
#[track_caller]
fn check_contradiction(word: &str, change: impl FnOnce(&mut Value)) {
    let bundle = frozen(RUNTIME);
    bundle.edit(change);
    let before = count(&bundle);
    let (done, said) = criu(&bundle, &["restore"]);
    assert!(!done && said.contains(word), "{word}: {said}");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(count(&bundle), before, "nothing may run");
    assert!(!bundle.call(&["state", &bundle.id]).status.success(), "nothing is left of it");
    assert!(!Path::new("/sys/fs/cgroup").join(&bundle.id).exists(), "no group is left");
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

fn images_do_not_decide_on_rights() {
    check_contradiction("has capabilities", |spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_KILL"]);
        }
    });
    check_contradiction("may gain privileges", |spec| spec["process"]["noNewPrivileges"] = json!(true));
}

fn no_link_is_followed() {
    let bundle = frozen(RUNTIME);
    let images = bundle.path().join("images");
    fs::rename(&images, bundle.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &images).unwrap();
    let (done, said) = criu(&bundle, &["restore"]);
    assert!(!done && said.contains("no link may lead to it"), "{said}");
    let bundle = frozen(RUNTIME);
    fs::remove_dir(bundle.rootfs().join("mnt")).unwrap();
    symlink("/tmp", bundle.rootfs().join("mnt")).unwrap();
    let (done, said) = criu(&bundle, &["restore"]);
    assert!(!done && said.contains("find the mount point /mnt"), "{said}");
}
