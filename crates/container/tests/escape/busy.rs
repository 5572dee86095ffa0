//! Cases 17 and 22: the runtime under load, and inputs that are too long, too many or without an end.

use super::*;

/// CVE-2021-43784: lists of a configuration that are longer than a length field of a message.
#[test]
fn overflowing_the_messages_of_the_set_up() {
    let ranges = |count: u32| {
        let one = |index: u32| json!({"containerID": index * 10, "hostID": 100_000_000 + index * 10, "size": 10});
        (0..count).map(one).collect::<Vec<_>>()
    };
    let with_ranges = |count: u32| {
        move |bundle: &Bundle| {
            bundle.edit(|spec| {
                spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                spec["linux"]["uidMappings"] = json!(ranges(count));
                spec["linux"]["gidMappings"] = json!(ranges(count));
            });
        }
    };
    // The kernel takes 340 ranges, of at most a page of text.
    check_refused("more than 340 ranges", with_ranges(341));
    check_refused("map the ids", with_ranges(340));
    check_refused("more than 4096 mounts", |bundle| {
        let mount = json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs"});
        bundle.edit(|spec| spec["mounts"] = json!(vec![mount; 4097]));
    });
    check_refused("no name of an interface", |bundle| {
        bundle.edit(|spec| spec["linux"]["netDevices"] = json!({"lo": {"name": "x".repeat(70_000)}}));
    });
    // Long ones that are allowed arrive whole: paths, options, variables, groups.
    check_with("ls /mounts | wc -l; echo ${#LONG}; id -G | wc -w", "300\n100000\n1001", |bundle| {
        bundle.edit(|spec| {
            spec["process"]["env"].as_array_mut().unwrap().push(json!(format!("LONG={}", "x".repeat(100_000))));
            spec["process"]["user"]["additionalGids"] = json!((1..1001).collect::<Vec<_>>());
            spec["annotations"] = json!({"long": "x".repeat(1 << 20)});
            let mounts = spec["mounts"].as_array_mut().unwrap();
            for index in 0..300 {
                let destination = format!("/mounts/{}{index}", "d".repeat(200));
                mounts.push(json!({"destination": destination, "type": "tmpfs", "source": "s".repeat(200),
                    "options": ["size=64k", "mode=0700", "nosuid"]}));
            }
        });
    });
}

/// A configuration without an end.
#[test]
fn filling_the_runtimes_memory_with_a_configuration() {
    for endless in ["/dev/zero", "long"] {
        let Some(bundle) = bundle("echo escaped") else { return };
        let path = bundle.path().join("config.json");
        fs::remove_file(&path).unwrap();
        match endless {
            "long" => fs::write(&path, vec![b' '; 17 << 20]).unwrap(),
            _ => symlink(endless, &path).unwrap(),
        }
        let said = text(&limited(&bundle, &["run", "-b", bundle.path().to_str().unwrap(), &bundle.id]));
        assert!(said.contains("more than 16777216 bytes"), "{endless}: {said}");
    }
}

/// Calls the runtime with an address space that a list read whole would not fit in.
fn limited(bundle: &Bundle, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -v 400000; exec \"$@\"", "sh", RUNTIME, "--root"]).arg(bundle.path().join("state"));
    command.args(arguments).stdin(std::process::Stdio::null()).output().unwrap()
}

/// Lists of users of the image that are too long, one endless line, no files at all, or devices.
#[test]
fn filling_the_runtimes_memory_with_lists_of_users() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let etc = bundle.rootfs().join("etc");
    fs::create_dir(&etc).unwrap();
    bundle.detached(&["run", "-d"]);
    let path = bundle.path();
    let Some(other) = super::bundle("echo up") else { return };
    other.edit(|spec| spec["root"]["path"] = json!(bundle.rootfs()));
    for (name, make) in [
        ("long", r#"yes user:x:5:5::/: | head -c 50000000 > passwd; yes group:x:5:user | head -c 50000000 > group"#),
        ("sparse", "truncate -s 1T passwd; truncate -s 1T group"),
        (
            "line",
            "head -c 50000000 /dev/zero | tr '\\0' 'x' > passwd; printf 'user:x:5:5::/:\\n' >> passwd; cp passwd group",
        ),
        ("fifo", "mkfifo passwd group"),
        ("device", "mknod passwd c 1 5; mknod group c 1 5"),
        ("terminal", "mknod passwd c 5 0; mknod group c 5 2"),
        ("folder", "mkdir passwd group"),
        ("link", "ln -s passwd group; ln -s /dev/zero passwd"),
    ] {
        let script = format!("cd {}; rm -rf passwd group; {make}", etc.display());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let said = text(&limited(&bundle, &["exec", "-u", "missing", &bundle.id, "id"]));
        assert!(said.contains("unable to find user missing"), "{name}: {said}");
        let said = text(&limited(&bundle, &["exec", "-u", "7:missing", &bundle.id, "id"]));
        assert!(said.contains("unable to find group missing"), "{name}: {said}");
        let said = text(&limited(&other, &["run", "-b", other.path().to_str().unwrap(), &other.id]));
        assert_eq!(said, "up\n", "{name}");
    }
    // A device is not even opened.
    let opened = path.join("trace");
    let script = format!("cd {}; rm -rf passwd group; mknod passwd c 10 200", etc.display());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let mut trace = std::process::Command::new("strace");
    trace.args(["-f", "-e", "trace=openat,openat2", "-o", opened.to_str().unwrap(), RUNTIME, "--root"]);
    let Ok(_) = trace.arg(path.join("state")).args(["exec", "-u", "7", &bundle.id, "true"]).output() else {
        println!("skipped the trace: needs strace");
        return;
    };
    let trace = fs::read_to_string(&opened).unwrap();
    let lines: Vec<&str> = trace.lines().filter(|line| line.contains("/etc/passwd")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("O_PATH")), "{lines:?}");
}

/// A fork bomb within its limit: the container is still seen, stopped, killed and removed.
#[test]
fn keeping_a_container_alive_by_forks() {
    let bomb = r#"$SIG{$_} = "IGNORE" for qw(TERM INT HUP); $| = 1; print "ready\n"; fork while 1;"#;
    for end in ["delete", "kill", "pause"] {
        let Some(bundle) = perl(bomb) else { return };
        bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 200}}));
        bundle.detached(&["run", "-d"]);
        wait_for_word(&bundle, "ready");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let call = |arguments: &[&str]| {
            let output = bundle.call(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        };
        match end {
            "kill" => {
                call(&["kill", "--all", &bundle.id, "TERM"]);
                call(&["kill", "--all", &bundle.id, "KILL"]);
                bundle.wait_for("stopped");
            }
            "pause" => {
                call(&["pause", &bundle.id]);
                assert_eq!(bundle.status(), "paused");
            }
            _ => {}
        }
        call(&["delete", "--force", &bundle.id]);
        assert!(!Path::new("/sys/fs/cgroup/pids").join(&bundle.id).exists(), "a group is left");
    }
}

/// A process outside of the container's pid namespace would outlive it; and a full group takes no further process: `exec` says
/// so and leaves nothing.
#[test]
fn entering_a_full_container() {
    let Some(bundle) = bundle("for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo ready; wait") else { return };
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    bundle.detached(&["run", "-d"]);
    wait_for_word(&bundle, "ready");
    let output = bundle.call(&["exec", &bundle.id, "true"]);
    assert!(!output.status.success() && !text(&output).is_empty());
    assert!(bundle.call(&["delete", "--force", &bundle.id]).status.success());
}
