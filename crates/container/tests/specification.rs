//! What the runtime specification says of namespaces, mounts, hooks and processes, case by case: on runc first where it can
//! do the same, then on `atoll-runtime`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::*;
use serde_json::{Value, json};

fn add(bundle: &Bundle, path: &str, value: Value) {
    bundle.edit(|spec| {
        let at = path.rsplit_once('/').unwrap();
        match spec.pointer_mut(path) {
            Some(Value::Array(values)) => values.push(value),
            _ => spec.pointer_mut(at.0).unwrap()[at.1] = value,
        }
    });
}

/// A user namespace whose ids start at 100000; the bundle's files belong to its root.
fn with_user_namespace(bundle: &Bundle) {
    add(bundle, "/linux/namespaces", json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    add(bundle, "/linux/uidMappings", ids.clone());
    add(bundle, "/linux/gidMappings", ids);
    assert!(Command::new("chown").args(["-hR", "100000:100000"]).arg(bundle.rootfs()).status().unwrap().success());
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_user_namespace_maps_ids() {
    check_like_peer("id -u; cat /proc/self/uid_map | tr -s ' '", "0\n 0 100000 65536", with_user_namespace);
    // What root inside makes belongs to its number outside; devices are there and work.
    let Some(bundle) =
        bundle("touch /made; echo x > /dev/null && cat /dev/null; dd if=/dev/zero bs=1 count=1 2>&- | wc -c")
    else {
        return;
    };
    with_user_namespace(&bundle);
    assert_eq!(text(&bundle.run()).trim(), "1");
    assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), 100_000);
}

#[test]
fn a_user_namespace_keeps_masks_limits_and_users() {
    check_like_peer("cat /proc/cmdline; ls /sys/firmware; id -u; id -G", "5\n5 6", |bundle| {
        with_user_namespace(bundle);
        add(bundle, "/linux/maskedPaths", json!("/proc/cmdline"));
        add(bundle, "/process/user", json!({"uid": 5, "gid": 5, "additionalGids": [6]}));
    });
    // A bind mount whose source only the host's root reaches.
    check_like_peer("cat /mnt/secret", "seen", |bundle| {
        with_user_namespace(bundle);
        let closed = bundle.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("secret"), "seen").unwrap();
        let folder = bundle.path().join("closed-above");
        fs::create_dir(&folder).unwrap();
        fs::rename(&closed, folder.join("in")).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let source = folder.join("in");
        add(
            bundle,
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "ro"]}),
        );
    });
}

#[test]
fn exec_enters_a_user_namespace() {
    for runtime in has_peer().then_some(PEER).into_iter().chain([RUNTIME]) {
        let Some(bundle) = bundle_for(runtime, "sleep 100") else { return };
        with_user_namespace(&bundle);
        bundle.detached(&["run", "-d"]);
        let exec = |options: &[&str], script: &str| {
            let arguments = [&["exec"], options, &[&bundle.id, "sh", "-c", script]].concat();
            text(&bundle.call(&arguments)).trim().to_owned()
        };
        let ids = "id -u; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; touch /by-exec";
        assert_eq!(exec(&[], ids), "0\n 0 100000 65536\n 0 100000 65536", "{runtime}");
        assert_eq!(fs::metadata(bundle.rootfs().join("by-exec")).unwrap().uid(), 100_000, "{runtime}");
        assert_eq!(exec(&["-u", "7:8"], "id -u; id -g"), "7\n8", "{runtime}");

        // The three of the configuration; CAP_SYS_CHROOT too when it is asked for; a user has those of the bounding set alone.
        let capabilities = "grep -e CapPrm -e CapEff -e CapBnd /proc/self/status | cut -f2 | tr '\\n' ' '";
        let (few, more) = ("0000000020000420", "0000000020040420");
        assert_eq!(exec(&[], capabilities), [few; 3].join(" "), "{runtime}");
        assert_eq!(exec(&["--cap", "CAP_SYS_CHROOT"], capabilities), [more; 3].join(" "), "{runtime}");
        let none = "0000000000000000";
        assert_eq!(exec(&["-u", "7:8"], capabilities), [none, none, few].join(" "), "{runtime}");
        // They hold inside only: devices are the host's.
        assert_eq!(exec(&["--cap", "CAP_MKNOD"], "mknod /null c 1 3 2> /dev/null; echo $?"), "1", "{runtime}");

        let pid_file = bundle.path().join("pid");
        let arguments =
            ["exec", "-d", "-u", "7:8", "--pid-file", pid_file.to_str().unwrap(), &bundle.id, "sleep", "99"];
        let mut detached = bundle.command(&arguments);
        assert!(detached.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success(), "{runtime}");
        let pid = fs::read_to_string(pid_file).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(ids("Uid:"), ["100007"; 4].join("\t"), "{runtime}");
        assert_eq!(ids("Gid:"), ["100008"; 4].join("\t"), "{runtime}");
        let state: Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_eq!(namespace(&pid), namespace(&state["pid"].to_string()), "{runtime}");
    }
}

#[test]
fn exec_enters_a_group_below_the_containers() {
    let hierarchy = Path::new("/sys/fs/cgroup/pids");
    let runtimes = if has_peer() { vec![PEER, RUNTIME] } else { vec![RUNTIME] };
    for runtime in runtimes {
        let Some(bundle) = bundle_for(runtime, "sleep 100") else { return };
        bundle.detached(&["run", "-d"]);
        let exec = |group: &str| {
            let script = "grep -e pids -e cpuset /proc/self/cgroup | cut -d: -f2- | tr '\\n' ' '";
            text(&bundle.call(&["exec", "--cgroup", group, &bundle.id, "sh", "-c", script]))
        };
        if !hierarchy.exists() {
            assert!(exec("pids:sub").contains("controller"), "{runtime}: {}", exec("pids:sub"));
            continue;
        }
        let sub = hierarchy.join(&bundle.id).join("sub");
        fs::create_dir(&sub).unwrap();
        let seen = exec("pids:sub");
        assert!(seen.contains("pids:/sub ") && seen.contains("cpuset:/ "), "{runtime}: {seen}");
        assert!(!bundle.call(&["exec", "--cgroup", "nothing:sub", &bundle.id, "true"]).status.success(), "{runtime}");
        fs::remove_dir(sub).unwrap();
    }
}

#[test]
fn namespaces_of_others_are_joined() {
    let Some(first) = bundle("sleep 100") else { return };
    with_user_namespace(&first);
    first.detached(&["run", "-d"]);
    let state: Value = serde_json::from_slice(&first.call(&["state", &first.id]).stdout).unwrap();
    let ns = |kind: &str| format!("/proc/{}/ns/{kind}", state["pid"]);
    let links = |kinds: &[&str]| {
        let link = |kind: &&str| fs::read_link(ns(kind)).unwrap().to_str().unwrap().to_owned();
        kinds.iter().map(link).collect::<Vec<_>>().join("\n")
    };
    // All of a pod's, its user namespace and its processes included.
    let kinds = ["user", "pid", "net", "ipc", "uts"];
    let expected = links(&kinds);
    check_like_peer("for n in user pid net ipc uts; do readlink /proc/self/ns/$n; done", &expected, |bundle| {
        let name = |kind: &str| if kind == "net" { "network".to_owned() } else { kind.to_owned() };
        let mut joined: Vec<Value> = kinds.iter().map(|kind| json!({"type": name(kind), "path": ns(kind)})).collect();
        joined.push(json!({"type": "mount"}));
        bundle.edit(|spec| {
            spec["linux"]["namespaces"] = json!(joined);
            let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["uidMappings"] = ids.clone();
            spec["linux"]["gidMappings"] = ids;
            spec.as_object_mut().unwrap().remove("hostname");
        });
        assert!(Command::new("chown").args(["-hR", "100000:100000"]).arg(bundle.rootfs()).status().unwrap().success());
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    });
    // A new user namespace over somebody else's network.
    let expected = links(&["net"]);
    check_like_peer("readlink /proc/self/ns/net", &expected, |bundle| {
        bundle.edit(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            let network = namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap();
            network["path"] = json!(ns("net"));
            // A new sysfs is for who owns the network.
            spec["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
        });
        with_user_namespace(bundle);
    });
}

#[test]
fn a_time_namespace_shifts_the_clocks() {
    let script = "read up rest < /proc/uptime; [ ${up%.*} -gt 1000000 ] && echo later";
    check_with(script, "later", |bundle| {
        add(bundle, "/linux/namespaces", json!({"type": "time"}));
        add(bundle, "/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}}));
    });
    let Some(bundle) = bundle("sleep 100") else { return };
    add(&bundle, "/linux/namespaces", json!({"type": "time"}));
    add(&bundle, "/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    bundle.detached(&["run", "-d"]);
    assert_eq!(text(&bundle.call(&["exec", &bundle.id, "sh", "-c", script])).trim(), "later");
}

/// A script of the host that appends its state and where it is to the bundle's file `hooks`.
fn hook(bundle: &Bundle, stage: &str) -> Value {
    let path = bundle.path().join(format!("{stage}.sh"));
    let log = bundle.path().join("hooks");
    let text = format!(
        "#!/bin/sh\nread state\necho \"{stage} $1 $NAME $(echo $state | grep -o '\"status\":\"[a-z]*\"')\" >> {}\n",
        log.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!([{"path": path, "args": ["hook", "one"], "env": ["NAME=x", "PATH=/bin:/usr/bin"], "timeout": 60}])
}

#[test]
fn hooks_run_in_their_order_with_the_state() {
    let change = |bundle: &Bundle| {
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        let mut hooks: serde_json::Map<String, Value> =
            host.iter().map(|stage| ((*stage).to_owned(), hook(bundle, stage))).collect();
        let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer $(grep -o '\"status\":\"[a-z]*\"') > /log"]}]);
        hooks.insert("startContainer".into(), inside);
        bundle.edit(|spec| spec["hooks"] = Value::Object(hooks));
    };
    let expected = "prestart one x \"status\":\"creating\"\ncreateRuntime one x \"status\":\"creating\"\n\
                    createContainer one x \"status\":\"creating\"\npoststart one x \"status\":\"{poststart}\"\n\
                    poststop one x \"status\":\"stopped\"\n";
    // runc 1.1 tells the state before the start here (docs/COMPATIBILITY.md).
    for (runtime, poststart) in [(PEER, "created"), (RUNTIME, "running")] {
        if runtime == PEER && !has_peer() {
            continue;
        }
        let expected = expected.replace("{poststart}", poststart);
        let Some(bundle) = bundle_for(runtime, "cat /log") else { return };
        change(&bundle);
        let output = text(&bundle.run());
        assert_eq!(output.trim(), "startContainer \"status\":\"created\"", "{runtime}");
        assert_eq!(fs::read_to_string(bundle.path().join("hooks")).unwrap(), expected, "{runtime}");
    }
}

#[test]
fn a_hook_that_fails_or_hangs_stops_the_creation() {
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        check_refused("said why", |bundle| {
            let failing = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo said why; exit 3"]}]);
            bundle.edit(|spec| spec["hooks"] = json!({stage: failing}));
        });
    }
    let Some(bundle) = bundle("sleep 100") else { return };
    bundle.edit(|spec| spec["hooks"] = json!({"poststart": [{"path": "/bin/false"}]}));
    assert!(text(&bundle.run()).contains("poststart hook 0"));
    assert!(!bundle.call(&["state", &bundle.id]).status.success(), "nothing is left");
    check_refused("did not end within 1 s", |bundle| {
        let hanging = json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
        bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": hanging}));
    });
}

#[test]
fn id_mapped_mounts_change_owners() {
    let mapping = json!([{"containerID": 0, "hostID": 300_000, "size": 65_536}]);
    for option in ["idmap", "ridmap"] {
        check_with("stat -c %u /mnt /mnt/f", "300000\n300007", |bundle| {
            let source = bundle.path().join("source");
            fs::create_dir(&source).unwrap();
            fs::write(source.join("f"), "").unwrap();
            chown(source.join("f"), Some(7), Some(7)).unwrap();
            let mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", option],
                "uidMappings": mapping, "gidMappings": mapping});
            add(bundle, "/mounts", mount);
        });
    }
    // With the container's own mapping what is root's outside is root's inside.
    check_with("stat -c %u /mnt", "0", |bundle| {
        with_user_namespace(bundle);
        let source = bundle.path().join("source");
        fs::create_dir(&source).unwrap();
        add(
            bundle,
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"]}),
        );
    });
}

#[test]
fn a_tmpfs_can_begin_with_what_the_image_has() {
    check_like_peer(
        "cat /data/f /data/sub/g; stat -c %a /data/sub; readlink /data/l; mount | grep -c ' /data '",
        "fg700\nf\n1",
        |bundle| {
            let sub = bundle.rootfs().join("data/sub");
            fs::create_dir_all(&sub).unwrap();
            fs::write(bundle.rootfs().join("data/f"), "f").unwrap();
            fs::write(sub.join("g"), "g").unwrap();
            fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::symlink("f", bundle.rootfs().join("data/l")).unwrap();
            add(
                bundle,
                "/mounts",
                json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
            );
        },
    );
}

#[test]
fn processes_are_scheduled_as_they_shall() {
    check_with("cat /proc/self/stat | cut -d' ' -f 19,41", "5 3", |bundle| {
        add(bundle, "/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
        add(bundle, "/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    });
    check_with("cat /proc/self/personality", "00000008", |bundle| {
        add(bundle, "/linux/personality", json!({"domain": "LINUX32"}));
    });
    check_with(
        "grep -c 'bind:0\\|default' /proc/self/numa_maps > /n; [ $(cat /n) -gt 0 ] && echo numa",
        "numa",
        |bundle| {
            add(bundle, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
        },
    );
    let Some(bundle) = bundle("sleep 100") else { return };
    bundle.detached(&["run", "-d"]);
    let process = bundle.path().join("process.json");
    let args = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    let json = json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {}, "execCPUAffinity": {"initial": "0-1", "final": "0"}});
    fs::write(&process, json.to_string()).unwrap();
    let output = bundle.call(&["exec", "--process", process.to_str().unwrap(), &bundle.id]);
    assert_eq!(text(&output).trim(), "Cpus_allowed_list:\t0");
}

#[test]
fn the_listener_of_a_filter_answers_for_the_kernel() {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    let Some(bundle) = bundle("mkdir /denied; ls -d /denied || echo kept out") else { return };
    let socket = bundle.path().join("seccomp.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    add(
        &bundle,
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "m",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    let answering = std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let (message, fd) = atoll_sys::fd::receive(&connection, 1 << 16).unwrap().unwrap();
        let state: Value = serde_json::from_slice(&message).unwrap();
        let notifications = fd.unwrap();
        // struct seccomp_notif is 80 bytes: id, pid, flags, then the call; struct seccomp_notif_resp 24: id, value, error, flags.
        let mut notification = [0_u64; 10];
        // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes 80 bytes into the zeroed array.
        let received = unsafe { libc::ioctl(notifications.as_raw_fd(), 0xc050_2100, notification.as_mut_ptr()) };
        assert_eq!(received, 0);
        let errno = u64::from((-libc::EROFS).cast_unsigned());
        let mut response = [notification[0], 0, errno];
        // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads 24 bytes of the array.
        let sent = unsafe { libc::ioctl(notifications.as_raw_fd(), 0xc018_2101, response.as_mut_ptr()) };
        assert_eq!(sent, 0);
        let mut rest = Vec::new();
        let _ = (&connection).read_to_end(&mut rest);
        state
    });
    let output = text(&bundle.run());
    assert!(output.contains("Read-only file system") && output.contains("kept out"), "{output}");
    let state = answering.join().unwrap();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "m");
    assert_eq!(state["state"]["id"], json!(bundle.id));
    assert!(state["pid"].as_i64().unwrap() > 1);
}

#[test]
fn an_interface_of_the_host_moves_in_with_its_addresses() {
    let ip = Command::new("ip").arg("-V").output().map(|output| text(&output)).unwrap_or_default();
    if !rustix::process::geteuid().is_root() || !ip.contains("iproute2") {
        println!("skipped: needs root and iproute2");
        return;
    }
    // In a network namespace of its own, so that the host never sees the interface.
    let Some(bundle) = bundle("cat /proc/net/dev | grep -c inside; cat /proc/net/fib_trie | grep -c 10.99.7.1") else {
        return;
    };
    add(&bundle, "/linux/netDevices", json!({"test0": {"name": "inside"}}));
    let line = format!(
        "ip link add test0 type veth peer name test1 && ip addr add 10.99.7.1/24 dev test0 && {RUNTIME} --root {} run -b {} {}",
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id
    );
    let output = Command::new("unshare").args(["-n", "sh", "-c", &line]).output().unwrap();
    let text = text(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"1"), "{text}");
    assert!(lines.get(1).is_some_and(|count| count.parse::<u32>().unwrap() > 0), "{text}");
}

/// The runtime as an ordinary user, who owns the bundle.
fn as_user(bundle: &Bundle, arguments: &[&str]) -> String {
    assert!(Command::new("chown").args(["-hR", "12345:12345"]).arg(bundle.path()).status().unwrap().success());
    let state = bundle.path().join("state");
    let mut command = Command::new(RUNTIME);
    command.uid(12345).gid(12345).arg("--root").arg(state);
    text(&command.args(arguments).stdin(std::process::Stdio::null()).output().unwrap())
}

#[test]
fn an_ordinary_user_runs_containers() {
    let Some(bundle) = bundle("") else { return };
    let path = bundle.path();
    let path = path.to_str().unwrap();
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(as_user(&bundle, &["spec", "--rootless", "-b", path]), "");
    bundle.edit(|spec| {
        spec["root"]["readonly"] = json!(false);
        spec["process"]["args"] =
            json!(["sh", "-c", "id -u; hostname; touch /mine; cat /proc/self/uid_map | tr -s ' '"]);
    });
    let output = as_user(&bundle, &["run", "-b", path, &bundle.id]);
    let lines: Vec<&str> = output.lines().filter(|line| !line.contains("warning: no control groups")).collect();
    assert_eq!(lines, ["0", "atoll", " 0 12345 1"], "{output}");
    assert_eq!(fs::metadata(bundle.rootfs().join("mine")).unwrap().uid(), 12345);
    assert_eq!(fs::read_dir(bundle.path().join("state")).unwrap().count(), 0, "a record is left");
}
