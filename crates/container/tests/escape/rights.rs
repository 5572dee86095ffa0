//! Cases 16 to 18: what a container's root may do.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

/// CVE-2022-0492, CVE-2023-25809: with the view of the control groups asked for writable, in a cgroup namespace and without,
/// there is no `release_agent`, no group of others, and no way to give itself devices.
#[test]
fn leaving_through_the_control_groups() {
    let script = r#"cd /sys/fs/cgroup; ls release_agent */release_agent unified/cgroup.subtree_control.x 2>/dev/null
        for d in . *; do [ -d $d/docker -o -d $d/init.scope -o -d $d/user.slice ] && echo others in $d; done
        for f in cgroup.procs */cgroup.procs; do while read p; do [ "$p" = 0 ] && echo outside in $f; done < $f; done 2>/dev/null
        [ -e devices/devices.allow ] && (echo 'a *:* rwm' > devices/devices.allow) 2>/dev/null && echo devices
        mkdir /c; mount -t cgroup -o devices none /c 2>/dev/null && echo mounted
        mount -t cgroup2 none /c 2>/dev/null && echo mounted two
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
        (mkdir new) 2>/dev/null && echo new; (mkdir pids/new) 2>/dev/null && echo new in pids; echo end"#;
    for namespace in [true, false] {
        for mode in ["ro", "rw"] {
            let Some(bundle) = bundle(script) else { return };
            bundle.edit(|spec| {
                if !namespace {
                    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
                }
                for mount in spec["mounts"].as_array_mut().unwrap() {
                    if mount["type"] == "cgroup" {
                        mount["options"] = json!(["nosuid", "noexec", "nodev", mode]);
                    }
                }
            });
            let said = text(&bundle.run());
            // What was asked for writable is: groups below its own.
            let said: Vec<&str> = said.lines().filter(|line| mode == "ro" || !line.starts_with("new")).collect();
            assert_eq!(said, ["end"], "cgroup namespace: {namespace}, {mode}");
        }
    }
}

/// CVE-2023-25809: a user namespace over the host's network gets the host's `/sys` in place of a sysfs of its own, with the
/// control groups that its user may own below it.
#[test]
fn writing_to_the_hosts_sysfs() {
    let script = "while read a b c d e f g; do case $e in /sys*) case $f in ro,nosuid,nodev,noexec*) ;; *) echo $e $f;; \
                  esac;; esac; done < /proc/self/mountinfo; (mkdir /sys/fs/cgroup/pids/made-by-test) 2>/dev/null && echo made; \
                  ls /sys/fs | grep cgroup";
    check_with(script, "cgroup", |bundle| {
        bundle.edit(|spec| {
            let linux = &mut spec["linux"];
            linux["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
            linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            // The container's root is the host's: every group on the host is its own.
            let ids = json!([{"containerID": 0, "hostID": 0, "size": 65_536}]);
            linux["uidMappings"] = ids.clone();
            linux["gidMappings"] = ids;
            linux["maskedPaths"] = json!([]);
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "cgroup");
            for mount in mounts.iter_mut().filter(|mount| mount["type"] == "sysfs") {
                mount["options"] = json!(["nosuid", "noexec", "nodev"]);
            }
        });
    });
}

/// CVE-2022-29162: capabilities that any program keeps (inheritable, ambient), by `run` and by `exec --cap`.
#[test]
fn inheritable_capabilities() {
    let script = "grep -e CapInh -e CapAmb /proc/self/status";
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000";
    check_like_peer(script, none, |bundle| set_capabilities(bundle, &["CAP_CHOWN", "CAP_NET_RAW"]));
    let Some(bundle) = bundle("sleep 1000") else { return };
    bundle.detached(&["run", "-d"]);
    let said = text(&bundle.call(&["exec", "--cap", "CAP_CHOWN", &bundle.id, "sh", "-c", script]));
    assert_eq!(said.trim(), none);
    // Even for a user whose capabilities of before would be kept by ambient ones.
    let script = "grep -e CapEff -e CapInh -e CapAmb /proc/self/status; id -G";
    let said = text(&bundle.call(&["exec", "-u", "5:6", "--cap", "CAP_CHOWN", &bundle.id, "sh", "-c", script]));
    assert_eq!(said, format!("CapInh:\t{0}\nCapEff:\t{0}\nCapAmb:\t{0}\n6\n", "0".repeat(16)));
}

/// `exec --cap` gives what it names and nothing else: not the runtime's own.
#[test]
fn capabilities_of_the_runtime_by_exec() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    set_capabilities(&bundle, &["CAP_KILL"]);
    bundle.detached(&["run", "-d"]);
    let script = ["sh", "-c", "grep -e CapPrm -e CapEff -e CapBnd /proc/self/status"];
    for (options, bits) in [(vec![], 0x20), (vec!["--cap", "CAP_CHOWN"], 0x21)] {
        let arguments = [vec!["exec"], options, vec![bundle.id.as_str()], script.to_vec()].concat();
        let said = text(&bundle.call(&arguments));
        assert_eq!(said, format!("CapPrm:\t{bits:016x}\nCapEff:\t{bits:016x}\nCapBnd:\t{bits:016x}\n"));
    }
}

/// Case 17: parameters of the host's kernel, opened for writing (nothing is written).
#[test]
fn writing_kernel_parameters() {
    let script = "for f in core_pattern modprobe hostname panic; do (: >> /proc/sys/kernel/$f) 2>/dev/null && echo $f; done
        for f in sysrq-trigger sys/vm/overcommit_memory sys/fs/binfmt_misc/register irq/0/smp_affinity; do \
        (: >> /proc/$f) 2>/dev/null && echo $f; done; mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; echo end";
    check_like_peer(script, "end", |_| {});
}

/// Case 17: devices, with every right to make them, where the configuration has no rule for any.
#[test]
fn opening_devices_that_no_rule_allows() {
    // fuse and kvm need no other right than to be opened.
    let numbers = [("c", "10 229"), ("c", "10 232"), ("c", "1 1"), ("c", "1 11"), ("b", "8 0"), ("b", "254 0")];
    let one = |(kind, numbers): &(&str, &str)| {
        format!("rm -f /n; mknod /n {kind} {numbers} && (: < /n) 2>/dev/null && echo opened {numbers}; ")
    };
    let script = numbers.iter().map(one).collect::<String>() + "rm /n; mknod /n c 1 3; : < /n && echo null";
    let with = |resources: Option<Value>| {
        let script = script.clone();
        move |bundle: &Bundle| {
            set_capabilities(
                bundle,
                &["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO", "CAP_SYSLOG", "CAP_NET_ADMIN"],
            );
            bundle.edit(|spec| {
                spec["process"]["args"] = json!(["sh", "-c", script]);
                match &resources {
                    Some(resources) => spec["linux"]["resources"] = resources.clone(),
                    None => drop(spec["linux"].as_object_mut().unwrap().remove("resources")),
                }
            });
        }
    };
    check_like_peer("", "null", with(None));
    check_like_peer("", "null", with(Some(json!({"pids": {"limit": 100}}))));
    // One that is allowed by name stays the only one.
    let fuse = json!({"devices": [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]});
    check_like_peer("", "opened 10 229\nnull", with(Some(fuse)));
}

/// Case 17: a change of limits brings no device back.
#[test]
fn devices_after_an_update() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    set_capabilities(&bundle, &["CAP_MKNOD"]);
    bundle.detached(&["run", "-d"]);
    let limits = bundle.path().join("limits");
    let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"});
    fs::write(&limits, json!({"pids": {"limit": 50}, "devices": [rule]}).to_string()).unwrap();
    assert!(bundle.call(&["update", "-r", limits.to_str().unwrap(), &bundle.id]).status.success());
    let script =
        "for n in 200 229; do mknod /n$n c 10 $n; (: < /n$n) 2>/dev/null && echo opened $n; done; echo > /dev/null";
    assert_eq!(text(&bundle.call(&["exec", &bundle.id, "sh", "-c", script])), "opened 200\n");
}

/// A set-uid program under `no_new_privs`, and groups of the caller.
#[test]
fn more_rights_by_a_set_uid_program() {
    for (no_new_privileges, expected) in [(false, "Uid:\t1000\t0\t0\t0"), (true, "Uid:\t1000\t1000\t1000\t1000")] {
        let change = |bundle: &Bundle| {
            if !add_perl(bundle) {
                return;
            }
            let program = bundle.rootfs().join("cat");
            fs::copy("/usr/bin/cat", &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
            bundle.edit(|spec| {
                spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            });
        };
        check_like_peer("/cat /proc/self/status | grep Uid", expected, change);
    }
    // The runtime's own groups are not the container's.
    let Some(bundle) = bundle("id -G") else { return };
    let (state, path) = (bundle.path().join("state"), bundle.path());
    let mut command = Command::new("setpriv");
    command.args(["--groups", "5,6,7", RUNTIME, "--root"]).arg(state);
    let output = command.args(["run", "-b", path.to_str().unwrap(), &bundle.id]).output().unwrap();
    assert_eq!(text(&output), "0\n");
}

/// Case 18, CVE-2020-15257: sockets of the host without a path.
#[test]
fn connecting_to_an_abstract_socket() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("atoll-escape-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let program = format!(
        r#"socket($s, 1, 1, 0); print connect($s, pack("S a*", 1, "\0{name}")) ? "connected" : "refused: $!";"#
    );
    check_perl(&program, "refused: Connection refused", |_| {});
}

/// Case 18: keys of the caller's session.
#[test]
fn reading_the_callers_keys() {
    // Both ask for a key of the same name; the caller has made it.
    let ask = format!(
        r#"($t, $d) = ("user", "atoll-escape"); $k = syscall({}, $t, $d, 0, 0); print $k > 0 ? "found" : "none";"#,
        libc::SYS_request_key
    );
    let Some(bundle) = perl(&ask) else { return };
    let caller = format!(
        r#"$n = "atoll-test"; syscall({}, 1, $n) > 0 or die; ($t, $d, $p) = ("user", "atoll-escape", "secret");
           syscall({}, $t, $d, $p, 6, -3) > 0 or die "add: $!"; syscall({}, 5, -3, 0x3f3f3f3f);
           {ask} $| = 1; print "\n"; exec @ARGV;"#,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_keyctl
    );
    let path = bundle.path();
    for (option, expected) in [(vec![], "found\nnone"), (vec!["--no-new-keyring"], "found\nfound")] {
        let mut command = Command::new(PERL);
        command.args(["-e", &caller, RUNTIME, "--root"]).arg(bundle.path().join("state")).arg("run").args(option);
        let output = command.args(["-b", path.to_str().unwrap(), &bundle.id]).output().unwrap();
        assert_eq!(text(&output), expected);
    }
}

/// Case 18: typing into a terminal that is shared with the host, where the container has no terminal of its own.
#[test]
fn typing_into_a_shared_terminal() {
    // TIOCSTI; TIOCSCTTY would take the terminal over.
    let attack = r#"$c = "x"; $e = ioctl(STDIN, 0x540e, 1) ? "taken" : "not taken";
        print -t STDIN ? "terminal " : "none ", $e, " ", ioctl(STDIN, 0x5412, $c) ? "typed" : "refused", "\n";"#;
    let Some(bundle) = perl(attack) else { return };
    set_capabilities(&bundle, &["CAP_KILL"]);
    let path = bundle.path();
    // script(1) makes the terminal, and leads its session.
    let line = format!("{RUNTIME} --root {}/state run -b {} {}", path.display(), path.display(), bundle.id);
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()).output();
    let Ok(output) = output else {
        println!("skipped: needs script (bsdutils)");
        return;
    };
    assert_eq!(text(&output).replace('\r', "").trim(), "terminal not taken refused");
}

/// Case 18: a neighbour's processes, where the pid namespace is shared with the host but the rights are not.
#[test]
fn looking_into_processes_of_the_host() {
    let script = "for f in root/etc/hostname environ maps cwd/. fd/0 exe; do (: < /proc/1/$f) 2>/dev/null && echo $f; done; \
                  readlink /proc/1/exe; echo end";
    check_like_peer(script, "end", |bundle| {
        bundle.edit(|spec| spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid"));
        set_capabilities(bundle, &["CAP_CHOWN"]);
    });
}

/// Case 18: sockets to the hypervisor, io_uring and the like, by a filter with the rules of Docker's.
#[test]
fn system_calls_that_the_filter_denies() {
    // A kernel looks at the low half only.
    let low = |index: u32, value: u64| json!([{"index": index, "value": 0xffff_ffff_u64, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]);
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "ptrace", "bpf", "userfaultfd",
                "perf_event_open", "unshare", "setns", "mount", "open_by_handle_at"],
             "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": low(0, 38)},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": low(0, 40)},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": low(1, 0x5412)},
        ],
    });
    let numbers = [libc::SYS_io_uring_setup, libc::SYS_keyctl, libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_unshare];
    let numbers = numbers.map(|number| number.to_string()).join(", ");
    let attack = format!(
        r#"for $n ({numbers}) {{ $r = syscall($n, 0x10000000, 0, 0, 0); print "$n ", $!+0, "\n" unless $r == -1 && $!+0 == 1; }}
           for $f (38, 40, 40 + (1 << 32)) {{ $r = syscall({}, $f, 1, 0); print "family $f: $r ", $!+0, "\n" unless $r == -1 && $!+0 == 1; }}
           $c = "x"; for $q (0x5412, 0x5412 + (1 << 32)) {{ $r = syscall({}, 0, $q, $c); print "ioctl $q\n" unless $!+0 == 1; }}
           print socket($s, 1, 1, 0) ? "unix" : "none";"#,
        libc::SYS_socket,
        libc::SYS_ioctl
    );
    for no_new_privileges in [true, false] {
        check_perl(&attack, "unix", |bundle| {
            bundle.edit(|spec| {
                spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                spec["linux"]["seccomp"] = filter.clone();
            });
        });
    }
}
