//! Cases 5 to 8 and 11: what an image or a configuration puts in the place of the system's own files.

use std::process::Command;

use super::*;

/// Cases 3 and 8, CVE-2025-31133, CVE-2026-88265: the image's null device is a link to a kernel parameter.
#[test]
fn an_images_dev_null_is_never_used() {
    check_with("stat -c %t:%T /dev/null; cat /proc/timer_list | wc -c", "1:3\n0", |bundle| {
        fs::create_dir(bundle.rootfs().join("dev")).unwrap();
        symlink("/proc/sys/kernel/core_pattern", bundle.rootfs().join("dev/null")).unwrap();
    });
    // Also where the configuration mounts nothing at /dev.
    check_with("stat -c %t:%T /dev/null", "1:3", |bundle| {
        fs::create_dir(bundle.rootfs().join("dev")).unwrap();
        symlink("/etc/passwd", bundle.rootfs().join("dev/null")).unwrap();
        bundle.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        });
    });
}

/// Cases 5 and 6, CVE-2019-19921, CVE-2023-27561, CVE-2026-41579: `/dev`, `/proc` or `/sys` of the image is a link.
#[test]
fn places_of_the_system_as_links() {
    for name in ["dev", "proc", "sys"] {
        for inside in [false, true] {
            let Some(bundle) = bundle("echo escaped") else { return };
            let outside = folder(&bundle, "outside");
            fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
            let target = if inside { Path::new("/elsewhere") } else { outside.as_path() };
            symlink(target, bundle.rootfs().join(name)).unwrap();
            let said = text(&bundle.run());
            assert!(said.contains("mount point") && !said.contains("escaped"), "{said}");
            assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
            assert_eq!(fs::read_dir(bundle.rootfs().join("elsewhere")).unwrap().count(), 0);
        }
    }
}

/// Case 7, CVE-2026-88264: a console of the image that leads to the host is written, changed or given away.
#[test]
fn an_images_console_is_never_used() {
    let Some(bundle) = bundle("tty; stat -c %t /dev/console; [ -t 0 ] && echo terminal") else { return };
    let target = bundle.path().join("made-on-host");
    fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(&target, bundle.rootfs().join("dev/console")).unwrap();
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    let output = bundle.run();
    assert_eq!(text(&output).replace('\r', ""), "/dev/pts/0\n88\nterminal\n");
    assert!(!target.exists());
}

/// Case 5, CVE-2019-16884, CVE-2025-52881: a volume at `/proc` takes what the runtime writes for the process.
#[test]
fn a_procfs_that_is_none() {
    let script = "cat /real/self/oom_score_adj /real/sys/net/ipv4/ip_forward /proc/self/oom_score_adj \
                  /proc/sys/net/ipv4/ip_forward";
    let fake = |bundle: &Bundle, at: &str, below: &str| {
        let volume = folder(bundle, "volume");
        for file in ["self/oom_score_adj", "1/oom_score_adj", "sys/net/ipv4/ip_forward", "self/attr/exec"] {
            if let Some(file) = file.strip_prefix(below) {
                let path = volume.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "fake\n").unwrap();
            }
        }
        bundle.edit(|spec| {
            spec["process"]["oomScoreAdj"] = json!(501);
            spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        });
        add_bind(bundle, &volume, at, "rw");
        let real = json!({"destination": "/real", "type": "proc", "source": "proc"});
        bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(real));
    };
    check_with(script, "501\n1\nfake\nfake", |bundle| {
        bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc"));
        fake(bundle, "/proc", "");
    });
    // Over the real one, and below it: a parameter is written to the real one, or nothing starts.
    check_refused("sysctl", |bundle| fake(bundle, "/proc/sys", "sys/"));
}

/// Case 5: the runtime itself is called where `/proc` is no procfs.
#[test]
fn a_procfs_that_is_none_on_the_host() {
    let Some(bundle) = bundle("echo escaped") else { return };
    bundle.edit(|spec| spec["process"]["oomScoreAdj"] = json!(501));
    let fake = folder(&bundle, "fake");
    fs::create_dir_all(fake.join("self/task/1")).unwrap();
    fs::write(fake.join("self/exe"), "").unwrap();
    fs::write(fake.join("self/oom_score_adj"), "fake").unwrap();
    let script = r#"set -e; cd "$1"; shift
        for file in cgroup mountinfo uid_map status; do cat /proc/self/$file > self/$file; done
        mount --bind /bin/busybox self/exe; mount -o remount,bind,ro self/exe
        mount --rbind . /proc; exec "$@""#;
    let (state, path) = (bundle.path().join("state"), bundle.path());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&fake).arg(RUNTIME).arg("--root").arg(state);
    let output = command.args(["run", "-b", path.to_str().unwrap(), &bundle.id]).output().unwrap();
    assert!(text(&output).contains("procfs: /proc is none"), "{}", text(&output));
    assert_eq!(fs::read_to_string(fake.join("self/oom_score_adj")).unwrap(), "fake");
}

/// Case 12, CVE-2021-30465: the destination of a mount leads out of the root.
#[test]
fn destinations_that_lead_out() {
    for link in ["/outside-of-test", "../../../../outside-of-test"] {
        check_with("ls /outside-of-test/vol", "inside", |bundle| {
            let volume = folder(bundle, "volume");
            fs::write(volume.join("inside"), "").unwrap();
            fs::create_dir(bundle.rootfs().join("outside-of-test")).unwrap();
            symlink(link, bundle.rootfs().join("way")).unwrap();
            add_bind(bundle, &volume, "/way/vol", "rw");
        });
        assert!(!Path::new("/outside-of-test").exists());
    }
}

/// Case 11, CVE-2026-94603: what an image or a caller notes beside the configuration is no policy.
#[test]
fn annotations_as_policy() {
    let script = "grep -e CapEff -e Seccomp: -e NoNewPrivs /proc/self/status; ls /dev/vda /dev/fuse 2>/dev/null; \
                  readlink /proc/self/ns/user; cat /proc/sys/kernel/core_pattern > /dev/null; \
                  : >> /proc/sys/kernel/core_pattern; echo $$";
    let run = |annotations: Value| {
        let bundle = bundle(script)?;
        bundle.edit(|spec| {
            spec["annotations"] = annotations;
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
        });
        Some(text(&bundle.run()))
    };
    let Some(without) = run(json!({})) else { return };
    assert!(without.contains("Seccomp:\t2") && without.contains("NoNewPrivs:\t1"), "{without}");
    let with = run(json!({
        "run.oci.seccomp": "none", "run.oci.keep_original_groups": "1", "run.oci.systemd.subgroup": "x",
        "run.oci.handler": "krun", "run.oci.mount_context_type": "context", "run.oci.hooks.stderr": "/made-by-test",
        "run.oci.delegate-cgroup": "x", "org.systemd.property.DevicePolicy": "'auto'",
        "io.podman.annotations.seccomp": "unconfined", "io.podman.annotations.privileged": "TRUE",
        "io.podman.annotations.apparmor": "unconfined", "io.podman.annotations.userns": "host",
        "org.criu.config": "/etc/passwd", "io.kubernetes.cri.untrusted-workload": "false",
        "org.opencontainers.image.security": "unconfined",
    }));
    assert_eq!(with.unwrap(), without);
    assert!(!Path::new("/made-by-test").exists());
}

/// A hook of the container's own (`startContainer`) is a program of the image: it has no more rights than the container's.
#[test]
fn an_images_hook_with_the_runtimes_rights() {
    check_like_peer("cat /log", "1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1", |bundle| {
        let log = bundle.rootfs().join("log");
        fs::write(&log, "").unwrap();
        std::os::unix::fs::chown(&log, Some(1000), Some(1000)).unwrap();
        let hook = "exec > /log; id -u; grep -e CapEff -e NoNewPrivs /proc/self/status";
        bundle.edit(|spec| {
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            spec["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
        });
    });
}
