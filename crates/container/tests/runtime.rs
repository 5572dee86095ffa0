//! `atoll-runtime` on real namespaces with a busybox root: its features.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use common::*;
use serde_json::{Value, json};

#[test]
fn exit_codes() {
    check_code(&["sh", "-c", "exit 0"], 0);
    check_code(&["sh", "-c", "exit 77"], 77);
    // The first process of a pid namespace is deaf to signals without a handler from inside.
    check_code(&["sh", "-c", "kill -TERM $$; exit 5"], 5);
    check_code(&["nothing-here"], 1);
    check_code(&["/nothing/here"], 1);
    check_code(&["/bin"], 1);
    check_code(&["/proc/version"], 1);
}

#[test]
fn namespaces_are_its_own() {
    check("echo $$", "1");
    check("hostname", "atoll");
    check("cat /proc/self/cgroup | grep -v ':/$'; echo done", "done");
    check("ls /proc/sys/net/ipv4/conf | grep -v -e all -e default -e lo -e eql -e 0$; echo done", "done");
}

#[test]
fn the_hosts_mounts_are_gone() {
    // Every mount below the root is one that the configuration or a mask made; the root itself is there once.
    check("cat /proc/self/mountinfo | grep -c ' / / '; grep -c sandboxing /proc/self/mountinfo", "0\n0");
    check(
        "while read a b c d e f; do echo $e; done < /proc/self/mountinfo | grep -v -e '^/proc' -e '^/sys' -e '^/dev'",
        "/",
    );
}

#[test]
fn capabilities_and_privileges() {
    let only_kill = |bundle: &Bundle| {
        bundle.edit(|spec| {
            let one = json!(["CAP_KILL"]);
            spec["process"]["capabilities"] =
                json!({"bounding": one, "effective": one, "permitted": one, "inheritable": one, "ambient": one});
        });
    };
    let all = "0000000000000020\n".repeat(5);
    check_with("while read a b; do case $a in Cap*) echo $b;; esac; done < /proc/self/status", all.trim(), only_kill);
    check("grep -c 'NoNewPrivs:.1' /proc/self/status", "1");
    check_with("id -u; id -g; id -G", "1000\n1001\n1001 5", |bundle| {
        bundle.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5]}));
    });
}

#[test]
fn limits() {
    check_with("ulimit -n; umask", "100\n0077", |bundle| {
        bundle.edit(|spec| {
            spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
            spec["process"]["user"]["umask"] = json!(0o077);
        });
    });
    let resources = json!({
        "memory": {"limit": 33_554_432, "swap": 33_554_432}, "pids": {"limit": 17},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    let script =
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us";
    if !Path::new("/sys/fs/cgroup/devices").exists() {
        println!("skipped: needs version 1 controllers");
        return;
    }
    check_with(script, "33554432\n17\n512\n50000", |bundle| {
        bundle.edit(|spec| spec["linux"]["resources"] = resources.clone());
    });
    // The device is made but cannot be opened; the default ones can.
    check_with(
        "cat /dev/kmsg 2>&1 >/dev/null | grep -c permitted; echo ok > /dev/null && echo ok",
        "1\nok",
        |bundle| {
            bundle.edit(|spec| {
                spec["linux"]["resources"] = resources.clone();
                spec["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
            });
        },
    );
}

#[test]
fn mounts_and_volumes() {
    check_with(
        "cat /mnt/deep/file; (echo x > /mnt/deep/new) 2>/dev/null || echo read-only; stat -c %a /t",
        "hello\nread-only\n1777",
        |bundle| {
            let volume = bundle.path().join("volume");
            fs::create_dir(&volume).unwrap();
            fs::write(volume.join("file"), "hello\n").unwrap();
            bundle.edit(|spec| {
                let mounts = spec["mounts"].as_array_mut().unwrap();
                mounts.push(
                    json!({"destination": "/mnt/deep", "type": "bind", "source": "volume", "options": ["rbind", "ro"]}),
                );
                mounts.push(json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}));
            });
        },
    );
    check_with("cat /etc/one", "file", |bundle| {
        fs::write(bundle.path().join("one"), "file").unwrap();
        bundle.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/etc/one", "type": "bind", "source": "one", "options": ["bind"]}));
        });
    });
    check_with("touch /x 2>/dev/null || echo read-only", "read-only", |bundle| {
        bundle.edit(|spec| spec["root"]["readonly"] = json!(true));
    });
}

#[test]
fn masks_and_read_only_paths() {
    check("cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l", "0\n0");
    check("(echo 1 > /proc/sysrq-trigger) 2>/dev/null || echo no", "no");
    check("(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo no", "no");
}

#[test]
fn sysctl_and_oom_score() {
    check_with("cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj", "1\n500", |bundle| {
        bundle.edit(|spec| {
            spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            spec["process"]["oomScoreAdj"] = json!(500);
        });
    });
    check_refused("not separate", |bundle| {
        bundle.edit(|spec| spec["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/x"}));
    });
}

#[test]
fn seccomp_is_installed() {
    for no_new_privileges in [true, false] {
        check_with(
            "echo x; mkdir /y 2>/dev/null; /bin/busybox mkdir /y 2>&1",
            "x\nmkdir: can't create directory '/y': Operation not permitted",
            |bundle| {
                bundle.edit(|spec| {
                    spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                    spec["linux"]["seccomp"] = json!({
                        "defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
                    });
                });
            },
        );
    }
}

#[test]
fn life_of_a_container() {
    let Some(bundle) = bundle("echo started; sleep 1000") else { return };
    bundle.detached(&["create"]);
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.written(), "");
    assert!(bundle.call(&["start", &bundle.id]).status.success());
    bundle.wait_for("running");
    assert!(!bundle.call(&["start", &bundle.id]).status.success());
    assert!(!bundle.call(&["delete", &bundle.id]).status.success());
    let output = bundle.call(&[
        "exec",
        "-e",
        "A=b",
        &bundle.id,
        "sh",
        "-c",
        "echo $A; grep -c sleep /proc/1/cmdline; hostname; exit 3",
    ]);
    assert_eq!((text(&output).as_str(), output.status.code()), ("b\n1\natoll\n", Some(3)));
    assert_eq!(bundle.call(&["exec", &bundle.id, "nothing"]).status.code(), Some(255));
    assert!(bundle.call(&["pause", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.call(&["resume", &bundle.id]).status.success());
    assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
    bundle.wait_for("stopped");
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
    assert!(text(&bundle.call(&["state", &bundle.id])).contains("does not exist"));
}

#[test]
fn a_created_container_reports_why_it_does_not_start() {
    let Some(bundle) = bundle("") else { return };
    bundle.edit(|spec| spec["process"]["args"] = json!(["nothing-here"]));
    let path = bundle.path();
    let output = bundle.call(&["create", "-b", path.to_str().unwrap(), &bundle.id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("executable file not found in $PATH"), "{}", text(&output));
    assert!(text(&bundle.call(&["state", &bundle.id])).contains("does not exist"), "nothing is left");
    // What only the user may not execute shows at the start, and ends the container.
    fs::copy(BUSYBOX, bundle.rootfs().join("mine")).unwrap();
    fs::set_permissions(bundle.rootfs().join("mine"), fs::Permissions::from_mode(0o700)).unwrap();
    bundle.edit(|spec| {
        spec["process"]["args"] = json!(["/mine"]);
        spec["process"]["user"] = json!({"uid": 5, "gid": 5});
    });
    bundle.detached(&["create"]);
    let output = bundle.call(&["start", &bundle.id]);
    assert!(text(&output).contains("permission denied"), "{}", text(&output));
    bundle.wait_for("stopped");
}

#[test]
fn names_are_taken_once() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    bundle.detached(&["run", "-d"]);
    let output = bundle.run();
    assert!(text(&output).contains("exists"), "{}", text(&output));
    bundle.wait_for("running");
}

#[test]
fn signals_are_forwarded() {
    let Some(bundle) = bundle("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done") else { return };
    let path = bundle.path();
    let mut child =
        bundle.command(&["run", "-b", path.to_str().unwrap(), &bundle.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let with = |path: &'static str, value: Value| {
        move |bundle: &Bundle| bundle.edit(|spec| *spec.pointer_mut(path).unwrap() = value)
    };
    check_refused("id 0", with("/linux/namespaces", json!([{"type": "mount"}, {"type": "user"}])));
    check_refused("version", with("/ociVersion", json!("9.0.0")));
    check_refused("intelRdt", |bundle| bundle.edit(|spec| spec["linux"]["intelRdt"] = json!({"closID": "a"})));
    check_refused("AppArmor", |bundle| bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!("web")));
}
