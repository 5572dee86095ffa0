//! `exec`, `kill` and `delete` on a container whose first process is hostile and has every right over its own namespaces.

use super::*;

const ADMIN: [&str; 5] = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_MKNOD"];

/// A container that has run `script` as a process that may mount.
fn hostile(script: &str) -> Option<Bundle> {
    let bundle = bundle(&format!("{script}; echo ready; while :; do sleep 1; done"))?;
    set_capabilities(&bundle, &ADMIN);
    bundle.edit(|spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    fs::create_dir(bundle.rootfs().join("jail")).unwrap();
    bundle.detached(&["run", "-d"]);
    wait_for_word(&bundle, "ready");
    Some(bundle)
}

fn exec_spec(bundle: &Bundle, process: &Value) -> std::process::Output {
    let path = bundle.path().join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    bundle.call(&["exec", "--process", path.to_str().unwrap(), &bundle.id])
}

/// CVE-2025-52881, from inside: `/proc` of the container is a tmpfs whose files look like a process's.
#[test]
fn entering_a_container_with_a_false_procfs() {
    let fake = "umount /proc; mount -t tmpfs tmpfs /proc; mkdir -p /proc/self/attr /proc/self/fd /proc/1/ns /proc/sys; \
                for f in self/attr/exec self/oom_score_adj 1/oom_score_adj self/uid_map; do echo fake > /proc/$f; done; \
                for n in mnt pid net ipc uts cgroup user; do echo fake > /proc/1/ns/$n; done";
    let Some(bundle) = hostile(fake) else { return };
    fs::create_dir(bundle.rootfs().join("real")).unwrap();
    let script =
        "mount -t proc proc /real; cat /real/self/oom_score_adj /proc/self/oom_score_adj /proc/self/attr/exec; pwd";
    let output = exec_spec(
        &bundle,
        &json!({
            "args": ["sh", "-c", script], "cwd": "/bin", "env": ["PATH=/bin"], "oomScoreAdj": 502, "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ADMIN, "effective": ADMIN, "permitted": ADMIN},
        }),
    );
    assert_eq!(text(&output), "502\nfake\nfake\n/bin\n");
    // It can be looked at and ended as any other.
    assert_eq!(bundle.status(), "running");
    assert!(text(&bundle.call(&["ps", "--format", "json", &bundle.id])).contains(&pid(&bundle).to_string()));
    assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
    bundle.wait_for("stopped");
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
}

/// The first process has another root than its namespace: by chroot(2), and by a mount over `/`.
#[test]
fn entering_a_container_that_moved_its_root() {
    let Some(bundle) = hostile(
        "mount -t tmpfs tmpfs /jail; mkdir /jail/bin; mount --bind /bin /jail/bin; cd /jail; \
                                mkdir old; /bin/busybox pivot_root . old; cd /; umount -l /old",
    ) else {
        return;
    };
    let said =
        text(&bundle.call(&["exec", "--cwd", "/", &bundle.id, "sh", "-c", "ls /; cat /etc/passwd /old/etc/passwd"]));
    assert!(said.starts_with("bin\nold\n") && !said.contains("root:"), "{said}");
    // A working folder that is no longer there is told, not made up from the host's.
    let said = text(&bundle.call(&["exec", "--cwd", "/jail", &bundle.id, "sh", "-c", "echo escaped"]));
    assert!(!said.contains("escaped"), "{said}");
}

/// The terminal of a further process: `/dev/pts` is something else by now.
#[test]
fn entering_a_container_with_a_false_terminal() {
    let console = |bundle: &Bundle| {
        let line = format!("{RUNTIME} --root {0}/state exec -t {1} tty", bundle.path().display(), bundle.id);
        let mut script = std::process::Command::new("script");
        let output = script.args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()).output();
        output.map(|output| text(&output).replace('\r', ""))
    };
    for attack in [
        "umount /dev/pts; touch /dev/pts/ptmx",
        "umount /dev/pts; mknod /dev/pts/ptmx c 5 2; touch /dev/pts/0",
        "umount /dev/pts; rm -f /dev/ptmx; rmdir /dev/pts; /bin/busybox ln -s /proc/1/root/etc /dev/pts",
    ] {
        let Some(bundle) = hostile(&attack.replace("rmdir", "/bin/busybox rmdir")) else { return };
        let Ok(said) = console(&bundle) else {
            println!("skipped: needs script (bsdutils)");
            return;
        };
        assert!(said.contains("terminal: /dev/pts"), "{attack}: {said}");
    }
}

/// CVE-2019-14271's like: lists of users that the container has made a trap of, while `exec -u` looks them up.
#[test]
fn entering_a_container_with_false_lists_of_users() {
    let Some(bundle) = hostile("true") else { return };
    let passwd = bundle.rootfs().join("etc/passwd");
    let secret = bundle.path().join("secret");
    fs::write(&secret, "victim:x:0:0::/:\n").unwrap();
    for target in
        [format!("{}", secret.display()), "/proc/self/fd/9".into(), "/proc/1/root/etc/passwd".into(), "passwd".into()]
    {
        let _ = fs::remove_file(&passwd);
        symlink(&target, &passwd).unwrap();
        let said = text(&bundle.call(&["exec", "-u", "victim", &bundle.id, "id"]));
        assert!(!said.contains("uid="), "{target}: {said}");
    }
}

/// Its user namespace is its own: what a detached `exec` starts there lives on after the runtime has ended.
#[test]
fn a_process_that_entered_outlives_the_runtime() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = ids.clone();
        spec["linux"]["gidMappings"] = ids;
    });
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.path(), open).unwrap();
    bundle.detached(&["run", "-d"]);
    let mut command =
        bundle.command(&["exec", "-d", &bundle.id, "sh", "-c", "sleep 0.5; echo alive > /out; sleep 1000"]);
    assert!(
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap().success()
    );
    let out = bundle.rootfs().join("out");
    for _ in 0..1000 {
        if fs::read_to_string(&out).is_ok_and(|said| said == "alive\n") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it ended with the runtime");
}
