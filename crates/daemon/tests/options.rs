//! Options of `docker run` and `docker create` by the stock client: each is seen from inside the workload or in its control
//! group, and in what `inspect` says.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use atoll_testkit::TempHost;
use support::stock::{host, ok, run};
use support::{IMAGE, finish};

/// What a program in a new container writes.
#[track_caller]
fn inside(host: &TempHost, options: &[&str], command: &[&str]) -> String {
    ok(host, &[&["run", "--rm"], options, &[IMAGE], command].concat())
}

#[track_caller]
fn sleeper(host: &TempHost, name: &str, options: &[&str]) -> String {
    ok(host, &[&["run", "-d", "--name", name], options, &[IMAGE, "sleep", "1000"]].concat())
}

#[track_caller]
fn shown(host: &TempHost, name: &str, field: &str) -> String {
    ok(host, &["inspect", "-f", &format!("{{{{json .HostConfig.{field}}}}}"), name])
}

#[track_caller]
fn refused(host: &TempHost, options: &[&str], words: &str) {
    let ran = run(host, &[&["run", "--rm"], options, &[IMAGE, "true"]].concat());
    assert!(ran.code == Some(125) && ran.err.contains(words), "{options:?}: {ran:?}");
}

fn own_namespace(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display().to_string()
}

/// Whether a controller is version 1's here.
fn is_v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
}

#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn skip(why: &str) {
    println!("skipped: {why}");
}

#[test]
fn namespaces_of_the_host() {
    let Some(host) = host() else { return };
    let check = |option: &str, kind: &str, expected: bool| {
        let own = inside(&host, &[option], &["readlink", &format!("/proc/self/ns/{kind}")]) == own_namespace(kind);
        assert_eq!(own, expected, "{option} {kind}");
    };
    check("--pid=host", "pid", true);
    check("--ipc=host", "ipc", true);
    check("--uts=host", "uts", true);
    check("--cgroupns=host", "cgroup", true);
    check("--userns=host", "user", true);
    check("--init", "pid", false);
    check("--cgroupns=private", "cgroup", false);
    check("--ipc=private", "ipc", false);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    assert_eq!(inside(&host, &["--uts=host"], &["hostname"]), name.trim());
    let id = sleeper(&host, "all", &["--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host", "--userns=host"]);
    for (field, mode) in [
        ("PidMode", "host"),
        ("IpcMode", "host"),
        ("UTSMode", "host"),
        ("CgroupnsMode", "host"),
        ("UsernsMode", "host"),
    ] {
        assert_eq!(shown(&host, "all", field), format!("{mode:?}"), "{field}");
    }
    // The end of one that has no pid namespace of its own takes all of its processes.
    ok(&host, &["exec", "-d", "all", "sleep", "987654"]);
    ok(&host, &["rm", "-f", &id]);
    let left = std::fs::read_dir("/proc").expect("/proc").flatten();
    let left = left.filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00987654\0"))
    });
    assert_eq!(left.count(), 0);
    refused(&host, &["--uts=host", "--hostname=own"], "conflicting options");
    refused(&host, &["--ipc=container:nobody"], "No such container: nobody");
    let bad = post(&host, "/containers/create", r#"{"Image": "busybox:test", "HostConfig": {"UsernsMode": "remap"}}"#);
    assert!(bad.starts_with("HTTP/1.1 400") && bad.contains("invalid user namespace mode: remap"), "{bad}");
}

#[test]
fn namespaces_of_another_container() {
    let Some(host) = host() else { return };
    let id = sleeper(&host, "one", &["--ipc=shareable", "--hostname=donor", "--shm-size=1m"]);
    ok(&host, &["exec", "one", "sh", "-c", "echo there > /dev/shm/file"]);
    let of_one = |kind: &str| ok(&host, &["exec", "one", "readlink", &format!("/proc/self/ns/{kind}")]);
    let check = |option: &str, kind: &str| {
        assert_eq!(inside(&host, &[option], &["readlink", &format!("/proc/self/ns/{kind}")]), of_one(kind), "{option}");
    };
    check("--pid=container:one", "pid");
    check("--ipc=container:one", "ipc");
    check("--network=container:one", "net");
    assert!(inside(&host, &["--pid=container:one"], &["ps"]).contains("sleep 1000"));
    // Shared memory goes with the objects, and so does its limit.
    assert_eq!(inside(&host, &["--ipc=container:one"], &["cat", "/dev/shm/file"]), "there");
    let full = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1k count=4000 2>/dev/null; wc -c < /dev/shm/big"];
    let written: u32 = inside(&host, &["--ipc=container:one"], &full).parse().expect("a number");
    assert!(written > 0 && written <= 1 << 20, "{written}");
    // A network comes with its names.
    let files = ["cat", "/etc/hosts", "/etc/hostname"];
    assert_eq!(
        inside(&host, &["--network=container:one"], &files),
        ok(&host, &[&["exec", "one"], &files[..]].concat())
    );
    assert_eq!(inside(&host, &["--network=container:one"], &["hostname"]), "donor");
    sleeper(&host, "two", &["--pid=container:one", "--ipc=container:one", "--network=container:one"]);
    for field in ["PidMode", "IpcMode", "NetworkMode"] {
        assert_eq!(shown(&host, "two", field), format!("\"container:{id}\""));
    }
    assert_eq!(ok(&host, &["exec", "two", "cat", "/dev/shm/file"]), "there");
    ok(&host, &["rm", "-f", "two"]);
    sleeper(&host, "closed", &[]);
    refused(
        &host,
        &["--ipc=container:closed"],
        "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
    );
    refused(&host, &["--network=container:one", "-p", "1:1"], "conflicting options");
    ok(&host, &["stop", "-t", "0", "one"]);
    for (option, what) in [("--pid", "PID"), ("--ipc", "IPC"), ("--network", "network")] {
        refused(&host, &[option, "container:one"], &format!("cannot join {what} of a non running container"));
    }
}

#[test]
fn a_container_without_shared_memory() {
    let Some(host) = host() else { return };
    assert_eq!(inside(&host, &["--ipc=none"], &["sh", "-c", "grep -c ' /dev/shm ' /proc/mounts || true"]), "0");
    assert_eq!(inside(&host, &[], &["grep", "-c", " /dev/shm ", "/proc/mounts"]), "1");
}

#[test]
fn kernel_parameters() {
    let Some(host) = host() else { return };
    let options = ["--sysctl", "kernel.msgmax=4097", "--sysctl", "net.ipv4.ip_forward=1"];
    let files = ["cat", "/proc/sys/kernel/msgmax", "/proc/sys/net/ipv4/ip_forward"];
    assert_eq!(inside(&host, &options, &files), "4097\n1");
    sleeper(&host, "web", &options);
    assert_eq!(shown(&host, "web", "Sysctls"), r#"{"kernel.msgmax":"4097","net.ipv4.ip_forward":"1"}"#);
    refused(&host, &["--sysctl", "kernel.panic=1"], "kernel.panic");
    refused(&host, &["--network=host", "--sysctl", "net.ipv4.ip_forward=1"], "net.ipv4.ip_forward");
}

#[test]
fn memory_and_its_end() {
    let Some(host) = host() else { return };
    sleeper(&host, "web", &["--oom-score-adj=321", "--memory=64m", "--memory-swappiness=7", "--oom-kill-disable"]);
    for exec in
        [&["exec", "web", "cat", "/proc/1/oom_score_adj"][..], &["exec", "web", "cat", "/proc/self/oom_score_adj"]]
    {
        assert_eq!(ok(&host, exec), "321");
    }
    assert_eq!(shown(&host, "web", "OomScoreAdj"), "321");
    assert_eq!(
        (shown(&host, "web", "Memory").as_str(), shown(&host, "web", "MemorySwap").as_str()),
        ("67108864", "134217728")
    );
    refused(&host, &["--oom-score-adj=1001"], "[-1000, 1000]");
    refused(&host, &["--memory-swappiness=101"], "0-100");
    if is_v1("memory") {
        assert_eq!(ok(&host, &["exec", "web", "cat", "/sys/fs/cgroup/memory/memory.swappiness"]), "7");
        let oom = ok(&host, &["exec", "web", "cat", "/sys/fs/cgroup/memory/memory.oom_control"]);
        assert!(oom.contains("oom_kill_disable 1"), "{oom}");
        assert_eq!(shown(&host, "web", "MemorySwappiness"), "7");
        let warned = run(&host, &["create", "--oom-kill-disable", IMAGE]);
        assert!(warned.err.contains("no memory limit is set"), "{warned:?}");
    } else {
        let warned = run(&host, &["create", "--memory-swappiness=7", "--oom-kill-disable", IMAGE]);
        assert!(
            warned.err.contains("swappiness discarded") && warned.err.contains("OomKillDisable discarded"),
            "{warned:?}"
        );
    }
}

#[test]
fn further_groups() {
    let Some(host) = host() else { return };
    assert_eq!(
        inside(&host, &["--group-add=4242", "--group-add=nogroup", "--user=1:1"], &["id", "-G"]),
        "1 4242 65534"
    );
    sleeper(&host, "web", &["--group-add=4242"]);
    assert!(ok(&host, &["exec", "web", "id", "-G"]).contains("4242"));
    assert_eq!(shown(&host, "web", "GroupAdd"), r#"["4242"]"#);
    let unknown = run(&host, &["run", "--rm", "--group-add=nosuch", IMAGE, "true"]);
    assert!(unknown.code != Some(0) && unknown.err.contains("group nosuch"), "{unknown:?}");
}

/// A block device of this host by its path and numbers.
fn block_device() -> Option<(String, String)> {
    let names = std::fs::read_dir("/sys/block").ok()?.flatten();
    let found = names.filter_map(|entry| {
        let path = format!("/dev/{}", entry.file_name().to_str()?);
        let numbers = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        Path::new(&path).exists().then(|| (path, numbers.trim().to_owned()))
    });
    found.min()
}

#[test]
fn block_devices() {
    let Some(host) = host() else { return };
    let Some((path, numbers)) = block_device() else { return skip("needs a block device with a node in /dev") };
    let limit = |value: &str| format!("{path}:{value}");
    let (bps, iops, weight) = (limit("1mb"), limit("77"), limit("300"));
    let mut options = vec!["--device-read-bps", &bps, "--device-write-bps", &bps, "--device-read-iops", &iops];
    options.extend(["--device-write-iops", &iops, "--blkio-weight", "200"]);
    sleeper(&host, "web", &options);
    assert_eq!(shown(&host, "web", "BlkioWeight"), "200");
    assert_eq!(shown(&host, "web", "BlkioDeviceReadBps"), format!(r#"[{{"Path":"{path}","Rate":1048576}}]"#));
    assert_eq!(shown(&host, "web", "BlkioDeviceWriteIOps"), format!(r#"[{{"Path":"{path}","Rate":77}}]"#));
    if is_v1("blkio") {
        let read = |file: &str| ok(&host, &["exec", "web", "cat", &format!("/sys/fs/cgroup/blkio/{file}")]);
        assert_eq!(read("blkio.throttle.read_bps_device"), format!("{numbers} 1048576"));
        assert_eq!(read("blkio.throttle.write_bps_device"), format!("{numbers} 1048576"));
        assert_eq!(read("blkio.throttle.read_iops_device"), format!("{numbers} 77"));
        assert_eq!(read("blkio.throttle.write_iops_device"), format!("{numbers} 77"));
        assert_eq!(read("blkio.bfq.weight"), "200");
    } else {
        let max = ok(&host, &["exec", "web", "cat", "/sys/fs/cgroup/io.max"]);
        assert_eq!(max, format!("{numbers} rbps=1048576 wbps=1048576 riops=77 wiops=77"));
    }
    refused(&host, &["--device-read-bps", "/dev/null:1mb"], "is not a block device");
    let scheduler = format!("/sys/block/{}/queue/scheduler", path.trim_start_matches("/dev/"));
    if std::fs::read_to_string(scheduler).is_ok_and(|text| text.contains("[bfq]")) {
        let options = ["--blkio-weight-device", weight.as_str()];
        assert!(inside(&host, &options, &["cat", "/sys/fs/cgroup/blkio/blkio.bfq.weight_device"]).contains("300"));
    }
}

#[test]
fn devices_by_rule() {
    let Some(host) = host() else { return };
    if !Path::new("/dev/fuse").exists() {
        return skip("needs /dev/fuse");
    }
    let open = ["sh", "-c", "mknod /fuse c 10 229 && head -c 0 /fuse && exec 3<>/fuse && echo open"];
    let denied = run(&host, &[&["run", "--rm", IMAGE], &open[..]].concat());
    assert_ne!(denied.code, Some(0), "{denied:?}");
    assert_eq!(inside(&host, &["--device-cgroup-rule", "c 10:229 rw"], &open), "open");
    sleeper(&host, "web", &["--device-cgroup-rule", "c 10:* rwm"]);
    assert_eq!(shown(&host, "web", "DeviceCgroupRules"), r#"["c 10:* rwm"]"#);
    refused(&host, &["--device-cgroup-rule", "c 10 rw"], "invalid device cgroup format");
}

/// A control group that goes with the value.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            // Not in every hierarchy.
            let _ = std::fs::remove_dir(folder.join(&self.0));
        }
    }
}

#[test]
fn a_parent_of_control_groups() {
    let Some(host) = host() else { return };
    let parent = Group(format!("atoll-options-{}", std::process::id()));
    let id = sleeper(&host, "web", &["--cgroup-parent", &format!("/{}", parent.0)]);
    let pid = ok(&host, &["inspect", "-f", "{{.State.Pid}}", "web"]);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    assert!(groups.lines().any(|line| line.ends_with(&format!("/{}/{id}", parent.0))), "{groups}");
    assert_eq!(shown(&host, "web", "CgroupParent"), format!("\"/{}\"", parent.0));
    ok(&host, &["rm", "-f", "web"]);
    refused(&host, &["--cgroup-parent", "/../x"], "may not have");
    refused(&host, &["--cgroup-parent", "x.slice"], "systemd");
    if is_v1("cpu") && Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        // Real-time processor time is handed down from the parent, which the host's owner gives it.
        let folder = Path::new("/sys/fs/cgroup/cpu").join(&parent.0);
        if std::fs::write(folder.join("cpu.rt_runtime_us"), "5000").is_err() {
            return skip("needs real-time processor time to give away");
        }
        let path = format!("/{}", parent.0);
        let options = ["--cgroup-parent", path.as_str(), "--cpu-rt-runtime=1000", "--cpu-rt-period=1000000"];
        let read = ["cat", "/sys/fs/cgroup/cpu/cpu.rt_runtime_us"];
        assert_eq!(inside(&host, &options, &read), "1000");
    }
    refused(&host, &["--cpu-rt-runtime=2000", "--cpu-rt-period=1000"], "real-time");
}

#[test]
fn mounts_of_another_container() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    std::fs::write(folder.path().join("file"), "bound").expect("a file");
    let bind = format!("{}:/bound", folder.path().display());
    ok(&host, &["create", "--name", "data", "-v", &bind, "-v", "kept:/kept", "-v", "/anonymous", IMAGE]);
    ok(
        &host,
        &["run", "--rm", "--volumes-from", "data", IMAGE, "sh", "-c", "echo one > /kept/a; echo two > /anonymous/b"],
    );
    let read = ["cat", "/bound/file", "/kept/a", "/anonymous/b"];
    assert_eq!(inside(&host, &["--volumes-from", "data"], &read), "boundone\ntwo");
    let written = run(&host, &["run", "--rm", "--volumes-from", "data:ro", IMAGE, "touch", "/kept/c"]);
    assert!(written.code == Some(1) && written.err.contains("Read-only"), "{written:?}");
    let own = ["--volumes-from", "data", "-v", "other:/kept"];
    assert_eq!(inside(&host, &own, &["ls", "/kept"]), "");
    ok(&host, &["create", "--name", "user", "--volumes-from", "data:ro", IMAGE]);
    assert_eq!(shown(&host, "user", "VolumesFrom"), r#"["data:ro"]"#);
    refused(&host, &["--volumes-from", "nobody"], "No such container: nobody");
}

/// Restarts a host's daemon so that it looks for specifications of devices in a folder of the host's own, which is given.
fn with_folder_of_devices(host: &mut TempHost) -> PathBuf {
    let folder = host.root().with_file_name("cdi");
    std::fs::create_dir(&folder).expect("a folder");
    let config = host.root().with_file_name("config.toml");
    let text = format!("cdi_folders = [\"/nowhere/cdi\", {folder:?}]\n");
    std::fs::write(&config, text).expect("a configuration");
    host.kill_daemon().expect("the daemon ran");
    host.start_daemon_with(&["--config", &config.display().to_string()], &[]).expect("it starts again");
    folder
}

#[test]
fn devices_by_name() {
    let Some(mut host) = host() else { return };
    let specifications = with_folder_of_devices(&mut host);
    let folder = atoll_testkit::tempdir();
    let state = folder.path().join("state").display().to_string();
    let hook = format!("cat > {state}");
    let spec = serde_json::json!({
        "cdiVersion": "0.6.0", "kind": "test.org/zero",
        "containerEdits": {"env": ["VENDOR=yes"]},
        "devices": [{"name": "0", "containerEdits": {
            "env": ["DEVICE=0"],
            "deviceNodes": [{"path": "/dev/vendor", "hostPath": "/dev/fuse"}],
            "mounts": [{"hostPath": folder.path(), "containerPath": "/vendor", "options": ["ro", "nosuid"]}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", hook]}]}}],
    });
    std::fs::write(specifications.join("zero.json"), spec.to_string()).expect("it is written");
    std::fs::write(folder.path().join("file"), "of the vendor\n").expect("a file");
    let name = "test.org/zero=0";
    let options = ["--device", name, "--annotation", "org.example.a=b"];
    let said = inside(
        &host,
        &options,
        &["sh", "-c", "echo $VENDOR $DEVICE; cat /vendor/file; exec 3<>/dev/vendor; echo open"],
    );
    assert_eq!(said, "yes 0\nof the vendor\nopen");
    // Its hook is told the annotations.
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(state).expect("the hook ran")).expect("a state");
    assert_eq!(state["annotations"]["org.example.a"], "b");
    ok(&host, &[&["create", "--name", "web"], &options[..], &[IMAGE]].concat());
    assert!(shown(&host, "web", "DeviceRequests").contains(name));
    assert_eq!(shown(&host, "web", "Annotations"), r#"{"org.example.a":"b"}"#);
    refused(&host, &["--device", "test.org/zero=1"], "unresolvable CDI device");
}

#[test]
fn gpus_by_a_file_in_yaml() {
    let Some(mut host) = host() else { return };
    let specifications = with_folder_of_devices(&mut host);
    let folders = serde_json::json!(["/nowhere/cdi", specifications]).to_string();
    assert_eq!(ok(&host, &["info", "-f", "{{json .CDISpecDirs}}"]), folders);
    let lacking = format!(
        "could not select device driver \"\" with capabilities: [[gpu]]: no CDI specification in /nowhere/cdi or {}",
        specifications.display()
    );
    refused(&host, &["--gpus", "all"], &lacking);
    let text = "cdiVersion: 0.6.0\nkind: test.org/gpu\ndevices:\n\
        - {name: all, containerEdits: {env: [GPUS=all]}}\n\
        - {name: '0', containerEdits: {env: [FIRST=yes], deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null}]}}\n\
        - {name: '1', containerEdits: {env: [SECOND=yes]}}\n";
    let file = specifications.join("gpu.yaml");
    std::fs::write(&file, text).expect("it is written");
    let print = ["sh", "-c", "echo $GPUS $FIRST $SECOND; test -c /dev/gpu0 && echo a >/dev/gpu0 && echo node"];
    // The last command of that fails where there is no node.
    let said = |options: &[&str]| {
        run(&host, &[&["run", "--rm"], options, &[IMAGE], &print[..]].concat()).out.trim().to_owned()
    };
    assert_eq!(said(&["--gpus", "all"]), "all");
    assert_eq!(said(&["--gpus", "2"]), "yes yes\nnode");
    assert_eq!(said(&["--gpus", "device=0"]), "yes\nnode");
    refused(&host, &["--gpus", "device=7"], "could not select device driver");
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&file, writable).expect("a mode");
    refused(&host, &["--gpus", "all"], "gpu.yaml: others than its owner can write it");
}

#[test]
fn the_id_goes_into_a_file() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    let file = folder.path().join("id");
    let id = ok(&host, &["create", "--cidfile", &file.display().to_string(), IMAGE]);
    assert_eq!(std::fs::read_to_string(file).expect("a file"), id);
}

#[test]
fn paths_that_are_hidden() {
    let Some(host) = host() else { return };
    let create = |config: &str| {
        let body = format!(
            r#"{{"Image": "{IMAGE}", "Cmd": ["sh", "-c", "wc -c < /etc/passwd; touch /proc/sys/kernel/ns_last_pid || echo denied"], "HostConfig": {{{config}}}}}"#
        );
        let answer = post(&host, "/containers/create", &body);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        let id = answer.rsplit_once("\"Id\":\"").expect("an id").1[..64].to_owned();
        let ran = run(&host, &["start", "-a", &id]);
        (ran.out, id)
    };
    let (said, id) = create(r#""MaskedPaths": ["/etc/passwd"], "ReadonlyPaths": ["/proc/bus"]"#);
    assert!(said.starts_with("0\n"), "{said}");
    assert_eq!(shown(&host, &id, "MaskedPaths"), r#"["/etc/passwd"]"#);
    assert_eq!(shown(&host, &id, "ReadonlyPaths"), r#"["/proc/bus"]"#);
    let (said, _) = create(r#""MaskedPaths": []"#);
    assert!(!said.starts_with("0\n") && said.contains("denied"), "{said}");
    let open = ["--security-opt", "systempaths=unconfined"];
    sleeper(&host, "open", &open);
    assert_eq!(shown(&host, "open", "MaskedPaths"), "[]");
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let Some(host) = host() else { return };
    refused(&host, &["--storage-opt", "size=1g"], "mount it with prjquota");
    refused(&host, &["--storage-opt", "size=much"], "write one such as 10G");
    refused(&host, &["--storage-opt", "colour=red"], "unknown option colour");
    refused(&host, &["--security-opt", "apparmor=mine"], "HostConfig.SecurityOpt");
    refused(&host, &["--security-opt", "label=type:x"], "HostConfig.SecurityOpt");
    sleeper(&host, "web", &[]);
    refused(&host, &["--link", "web"], "HostConfig.Links");
}

/// `atoll` has the same flags.
#[test]
fn our_own_client() {
    let Some(host) = host() else { return };
    let own = |arguments: &[&str]| finish(support::atoll(&host, arguments), "").ok();
    let mut arguments =
        vec!["run", "--rm", "--group-add", "77", "--oom-score-adj", "5", "--sysctl", "kernel.msgmax=4099"];
    arguments.extend(["--pid", "host", "--annotation", "a=b", IMAGE, "sh", "-c"]);
    arguments.push("id -G; cat /proc/self/oom_score_adj /proc/sys/kernel/msgmax; readlink /proc/self/ns/pid");
    assert_eq!(own(&arguments), format!("0 77\n5\n4099\n{}", own_namespace("pid")));
}

/// One request over the socket; head and body of the answer.
fn post(host: &TempHost, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(host.socket()).expect("the daemon answers");
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    answer
}
