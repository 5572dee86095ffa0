//! The configuration as its JSON schema has it: every property is carried out or refused by name, and what the runtime writes
//! itself is valid; then what differs from a usual root: another's mount namespace, no pivot_root, id-mapped file systems,
//! views of control groups.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use atoll_container::plan::Plan;
use atoll_oci::runtime::Spec;
use common::*;
use serde_json::{Value, json};

/// The specification's schemas, as Debian's package brings them.
const SCHEMAS: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";

/// Prints the paths of all properties of a configuration, `*` for an element and `{}` for a name of one's own.
const PROPERTIES: &str = r##"
import json, sys
folder, documents = sys.argv[1] + "/", {}
def load(name):
    if name not in documents: documents[name] = json.load(open(folder + name))
    return documents[name]
def walk(node, name, path, depth):
    if depth == 0: return
    if "$ref" in node:
        file, _, pointer = node["$ref"].partition("#")
        target = load(file or name)
        for part in filter(None, pointer.split("/")): target = target[part]
        walk(target, file or name, path, depth - 1)
    for kind in ("allOf", "anyOf", "oneOf"):
        for part in node.get(kind, []): walk(part, name, path, depth - 1)
    for key, part in node.get("properties", {}).items():
        print(path + "/" + key)
        walk(part, name, path + "/" + key, depth - 1)
    if isinstance(node.get("items"), dict): walk(node["items"], name, path + "/*", depth - 1)
    for part in node.get("patternProperties", {}).values(): walk(part, name, path + "/{}", depth - 1)
walk(load("config-schema.json"), "config-schema.json", "", 25)
"##;

/// Validates standard input against a schema.
const VALIDATE: &str = r#"
import json, sys, jsonschema
folder, name = sys.argv[1], sys.argv[2]
schema = json.load(open(folder + "/" + name))
resolver = jsonschema.RefResolver("file://" + folder + "/", schema)
jsonschema.Draft4Validator(schema, resolver=resolver).validate(json.load(sys.stdin))
"#;

fn python(script: &str, arguments: &[&str], input: &Value) -> String {
    use std::io::Write;
    let mut command = Command::new("python3");
    command.args(["-W", "ignore", "-c", script, SCHEMAS]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn has_schemas() -> bool {
    let there = Path::new(SCHEMAS).is_dir()
        && Command::new("python3")
            .args(["-c", "import jsonschema"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !there {
        println!("skipped: needs golang-github-opencontainers-specs-dev and python3-jsonschema");
    }
    there
}

/// A configuration with every property of the schema that this host can do.
fn everything() -> Value {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let hook = json!([{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]);
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let capabilities = ["bounding", "permitted", "effective", "inheritable", "ambient"];
    let rate = json!([{"major": 8, "minor": 1, "rate": 1000}]);
    json!({
        "ociVersion": "1.0.2",
        "hooks": hooks.into_iter().map(|name| (name.to_owned(), hook.clone())).collect::<serde_json::Map<_, _>>(),
        "hostname": "h", "domainname": "d",
        "mounts": [{"source": "t", "destination": "/t", "type": "tmpfs", "options": ["size=1m"],
                    "uidMappings": ids, "gidMappings": ids}],
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "args": ["sh"], "cwd": "/w", "env": ["A=b"], "terminal": true,
            "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [3]},
            "capabilities": capabilities.into_iter().map(|set| (set.to_owned(), json!(["CAP_KILL"]))).collect::<serde_json::Map<_, _>>(),
            "oomScoreAdj": 100, "noNewPrivileges": true,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 100, "soft": 50}]
        },
        "linux": {
            "devices": [{"type": "c", "path": "/dev/x", "fileMode": 384, "major": 1, "minor": 3, "uid": 1, "gid": 2}],
            "uidMappings": ids, "gidMappings": ids,
            "namespaces": [{"type": "network", "path": "/proc/self/ns/net"}, {"type": "mount"}, {"type": "user"}, {"type": "uts"}, {"type": "ipc"}],
            "resources": {
                "unified": {"memory.high": "1"},
                "devices": [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "r"}],
                "pids": {"limit": 5},
                "blockIO": {
                    "weight": 100, "leafWeight": 101, "throttleReadBpsDevice": rate, "throttleWriteBpsDevice": rate,
                    "throttleReadIOPSDevice": rate, "throttleWriteIOPSDevice": rate,
                    "weightDevice": [{"major": 8, "minor": 1, "weight": 20, "leafWeight": 30}]
                },
                "cpu": {
                    "cpus": "0", "mems": "0", "period": 1000, "quota": 500, "burst": 5, "realtimePeriod": 7, "realtimeRuntime": 6,
                    "shares": 10, "idle": 1
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
                "memory": {
                    "kernel": 1, "kernelTCP": 2, "limit": 3, "reservation": 4, "swap": 5, "swappiness": 6,
                    "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true
                },
                "network": {"classID": 9, "priorities": [{"name": "lo", "priority": 3}]},
                "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}}
            },
            "rootfsPropagation": "slave",
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "architectures": ["SCMP_ARCH_X86"],
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9, "args": [
                        {"index": 1, "value": 2, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}
                ]
            },
            "sysctl": {"kernel.shmmax": "1"},
            "maskedPaths": ["/m"], "readonlyPaths": ["/r"],
            "personality": {"domain": "LINUX32"}
        }
    })
}

/// Properties that are used elsewhere than in the plan, with the test or the reason.
const ELSEWHERE: [(&str, &str); 8] = [
    ("/annotations", "part of the state: lifecycle::states"),
    ("/root/path", "the command line's root of the container: every test"),
    ("/process/consoleSize", "the terminal's size: runtime::terminals"),
    ("/linux/cgroupsPath", "the command line's groups: runtime::cgroups"),
    ("/linux/seccomp/listener", "the listener: specification::the_listener_of_a_filter_answers_for_the_kernel"),
    ("/linux/resources/memory/useHierarchy", "true is what is; false is refused"),
    ("/process/user/username", "of Windows, ignored as by runc"),
    ("/process/commandLine", "of Windows, ignored as by runc"),
];
/// Sections of other systems, ignored as by runc.
const OTHER_SYSTEMS: [&str; 4] = ["/solaris", "/windows", "/vm", "/zos"];
/// Properties that this host cannot carry out, a value, and what is said.
fn refused() -> [(&'static str, Value, &'static str); 6] {
    [
        ("/process/apparmorProfile", json!("p"), "AppArmor"),
        ("/process/selinuxLabel", json!("l"), "SELinux"),
        ("/linux/mountLabel", json!("l"), "SELinux"),
        ("/linux/intelRdt", json!({"closID": "c"}), "intelRdt"),
        ("/linux/personality/flags", json!(["X"]), "personality.flags"),
        ("/linux/resources/memory/useHierarchy", json!(false), "hierarchy"),
    ]
}

/// What becomes of a configuration, as text.
fn outcome(config: &Value) -> Result<String, String> {
    let spec: Spec = serde_json::from_value(config.clone()).map_err(|error| error.to_string())?;
    match Plan::new(&spec, Path::new("/bundle")) {
        Ok(plan) => Ok(format!("{plan:?}")),
        Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// The value that holds the last part of a property's path, and that part's name in it.
fn holder<'a>(config: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (above, last) = path.rsplit_once('/').unwrap();
    let mut at = config;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        at = match part {
            "*" => at.get_mut(0)?,
            "{}" => at.as_object_mut()?.values_mut().next()?,
            name => at.get_mut(name)?,
        };
    }
    Some((at, last.to_owned()))
}

#[test]
fn no_property_is_silently_ignored() {
    if !has_schemas() {
        return;
    }
    let all = everything();
    python(VALIDATE, &["config-schema.json"], &all);
    let planned = outcome(&all).expect("all of it can be planned");
    let properties = python(PROPERTIES, &[], &Value::Null);
    let refused = refused();
    let mut checked = 0;
    for path in properties.lines() {
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| path.starts_with(other));
        if elsewhere || OTHER_SYSTEMS.iter().any(|other| path.starts_with(other)) {
            continue;
        }
        if let Some((at, value, said)) = refused.iter().find(|(other, ..)| path.starts_with(other)) {
            let mut config = all.clone();
            let (holder, name) = holder(&mut config, at).unwrap();
            holder[name] = value.clone();
            let error = outcome(&config).expect_err(path);
            assert!(error.contains(said), "{path}: {error}");
        } else {
            let mut config = all.clone();
            let (holder, name) =
                holder(&mut config, path).unwrap_or_else(|| panic!("the sample lacks what holds {path}"));
            let removed = holder.as_object_mut().unwrap().remove(&name);
            assert!(removed.is_some(), "the sample lacks {path}");
            assert!(outcome(&config).as_ref() != Ok(&planned), "{path} makes no difference");
        }
        checked += 1;
    }
    assert!(checked > 120, "only {checked} properties");
}

#[test]
fn what_the_runtime_writes_is_valid() {
    if !has_schemas() {
        return;
    }
    let Some(bundle) = bundle("sleep 1000") else { return };
    bundle.edit(|spec| spec["annotations"] = json!({"org.example": "x"}));
    let config: Value = serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    python(VALIDATE, &["config-schema.json"], &config);
    let rootless = tempfile::tempdir().unwrap();
    assert!(bundle.call(&["spec", "--rootless", "-b", rootless.path().to_str().unwrap()]).status.success());
    let config: Value = serde_json::from_slice(&fs::read(rootless.path().join("config.json")).unwrap()).unwrap();
    python(VALIDATE, &["config-schema.json"], &config);
    let state =
        |bundle: &Bundle| -> Value { serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap() };
    bundle.detached(&["create"]);
    python(VALIDATE, &["state-schema.json"], &state(&bundle));
    assert!(bundle.call(&["start", &bundle.id]).status.success());
    python(VALIDATE, &["state-schema.json"], &state(&bundle));
    assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
    bundle.wait_for("stopped");
    python(VALIDATE, &["state-schema.json"], &state(&bundle));
    if Path::new(SCHEMAS).join("features-schema.json").is_file() {
        let features: Value = serde_json::from_slice(&bundle.call(&["features"]).stdout).unwrap();
        python(VALIDATE, &["features-schema.json"], &features);
    } else {
        println!("the package's version has no schema of features");
    }
}

#[test]
fn what_is_not_known_is_left_alone() {
    check_like_peer("echo runs", "runs", |bundle| {
        bundle.edit(|spec| {
            spec["org.example.unknown"] = json!(1);
            spec["process"]["unknown"] = json!({});
            spec["linux"]["unknown"] = json!([]);
            spec["windows"] = json!({"layerFolders": ["x"]});
        });
    });
    check_refused("rootfsPropagation", |bundle| bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!("odd")));
    check_refused("resctrl", |bundle| bundle.edit(|spec| spec["linux"]["intelRdt"] = json!({"closID": "c"})));
    check_refused("SCMP_ACT_NOTIFY", |bundle| {
        let seccomp = json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/tmp/none"});
        bundle.edit(|spec| spec["linux"]["seccomp"] = seccomp);
    });
}

/// A configuration that joins the mount namespace of `pid`, whose root becomes the container's.
fn join_mounts(bundle: &Bundle, pid: &Value) {
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        let mount = namespaces.iter_mut().find(|namespace| namespace["type"] == "mount").unwrap();
        mount["path"] = json!(format!("/proc/{pid}/ns/mnt"));
        spec["root"]["path"] = json!("/");
        spec["mounts"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
}

#[test]
fn a_mount_namespace_of_others_is_entered_and_left_as_it_is() {
    // runc 1.1 builds the new root inside the other's namespace and detaches its old one: no case to follow.
    let Some(first) = bundle("mkdir /own && mount -t tmpfs t /own; touch /own/seen; sleep 1000") else { return };
    first.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
    });
    first.detached(&["run", "-d"]);
    let state: Value = serde_json::from_slice(&first.call(&["state", &first.id]).stdout).unwrap();
    let mounts = || fs::read_to_string(format!("/proc/{}/mountinfo", state["pid"])).unwrap();
    for _ in 0..1000 {
        if mounts().contains(" /own ") && first.rootfs().join("own").is_dir() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let before = mounts();
    check_with("ls /own; pwd; hostname", "seen\n/\nsecond", |bundle| {
        join_mounts(bundle, &state["pid"]);
        bundle.edit(|spec| spec["hostname"] = json!("second"));
    });
    assert_eq!(mounts(), before);
    for (what, at, value) in [
        ("mounts", "/mounts", json!([{"destination": "/x", "type": "tmpfs"}])),
        ("another root.path than \"/\"", "/root/path", json!("rootfs")),
        ("root.readonly", "/root/readonly", json!(true)),
        ("maskedPaths", "/linux/maskedPaths", json!(["/proc/keys"])),
        ("readonlyPaths", "/linux/readonlyPaths", json!(["/proc/sys"])),
    ] {
        check_refused(&format!("{what} in a mount namespace"), |bundle| {
            join_mounts(bundle, &state["pid"]);
            bundle.edit(|spec| *spec.pointer_mut(at).unwrap() = value);
        });
    }
    let Some(second) = bundle("sleep 1000") else { return };
    join_mounts(&second, &state["pid"]);
    second.detached(&["run", "-d"]);
    assert_eq!(text(&second.call(&["exec", &second.id, "ls", "/own"])).trim(), "seen");
}

#[test]
fn without_pivot_root_nothing_of_the_host_is_left() {
    let script =
        "ls /..; ls /proc/1/root; readlink /proc/self/root; cut -d' ' -f5 /proc/self/mountinfo | grep -c '^/$'";
    let expected = ["bin", "dev", "proc", "sys"].join("\n");
    let expected = format!("{expected}\n{expected}\n/\n1");
    for runtime in [PEER, RUNTIME] {
        if runtime == PEER && !has_peer() {
            continue;
        }
        let Some(bundle) = bundle_for(runtime, script) else { return };
        let output = bundle.call(&["run", "--no-pivot", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
        assert_eq!(text(&output).trim(), expected, "{runtime}");
    }
    // With the right to unmount and to change the root, what lies below stays out of reach.
    let Some(bundle) =
        bundle("mkdir /d; umount /proc/kcore; cat /proc/self/mounts | grep -c ' /tmp\\| /run\\| /boot '")
    else {
        return;
    };
    bundle.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
    });
    let output = bundle.call(&["run", "--no-pivot", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{}", text(&output));
    let Some(bundle) = common::bundle("true") else { return };
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = ids.clone();
        spec["linux"]["gidMappings"] = ids;
    });
    let output = bundle.call(&["run", "--no-pivot", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
    assert!(text(&output).contains("a user namespace without pivot_root"), "{}", text(&output));
}

#[test]
fn a_new_file_system_is_id_mapped_where_the_kernel_can() {
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let mount = |typ: &str| json!({"destination": "/t", "type": typ, "source": typ, "uidMappings": mapping, "gidMappings": mapping});
    // runc 1.1 knows no id mapping of mounts.
    let Some(bundle) = bundle("stat -c %u:%g /t; mount | grep -c ' /t .*idmapped'") else { return };
    bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount("tmpfs")));
    let output = text(&bundle.run());
    // tmpfs can since Linux 6.3.
    assert!(output == "1000:1000\n1\n" || output.contains("cannot map its file system: /t"), "{output}");
    check_refused("cannot map its file system: /t", |bundle| {
        bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount("proc")));
    });
    check_refused("control groups at /t cannot be id-mapped", |bundle| {
        bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount("cgroup2")));
    });
}

#[test]
fn a_container_sees_its_own_control_groups_alone() {
    let unified =
        fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"));
    for (namespace, mode) in [(true, "ro"), (true, "rw"), (false, "ro"), (false, "rw")] {
        let change = |typ: &'static str| {
            move |bundle: &Bundle| {
                bundle.edit(|spec| {
                    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                    namespaces.retain(|other| namespace || other["type"] != "cgroup");
                    let mounts = spec["mounts"].as_array_mut().unwrap();
                    let mount = mounts.iter_mut().find(|mount| mount["destination"] == "/sys/fs/cgroup").unwrap();
                    *mount = json!({"destination": "/sys/fs/cgroup", "type": typ, "source": typ,
                        "options": ["nosuid", "noexec", "nodev", mode]});
                });
            }
        };
        // The group's process is this shell and what it starts, and the mode holds.
        let own = "g() { grep -qx $$ $1/cgroup.procs && echo own; (: >> $1/cgroup.procs) 2>/dev/null && echo rw || echo ro; };";
        let expected = format!("own\n{mode}");
        let peer = Path::new("/sys/fs/cgroup/pids").is_dir();
        if peer {
            check_like_peer(&format!("{own} g /sys/fs/cgroup/pids"), &expected, change("cgroup"));
        }
        if !unified {
            check_refused("none of version 2", change("cgroup2"));
        } else if namespace {
            check_like_peer(&format!("{own} g /sys/fs/cgroup"), &expected, change("cgroup2"));
        } else {
            // runc 1.1 shows the host's whole hierarchy here.
            check_with(&format!("{own} g /sys/fs/cgroup"), &expected, change("cgroup2"));
        }
    }
}

#[test]
fn failures_are_logged_as_engines_read_them() {
    for runtime in [PEER, RUNTIME] {
        if runtime == PEER && !has_peer() {
            continue;
        }
        let Some(bundle) = bundle_for(runtime, "true") else { return };
        let log = bundle.path().join("log");
        let failure = |arguments: &[&str]| {
            let _ = fs::remove_file(&log);
            let output = bundle.call(&[&["--log", log.to_str().unwrap()], arguments, &["state", "none"]].concat());
            assert_eq!(output.status.code(), Some(1));
            assert!(text(&output).contains("container does not exist"), "{runtime}");
            fs::read_to_string(&log).unwrap()
        };
        let is_time = |time: &str| time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T';
        let written = failure(&["--log-format", "text"]);
        let time = written.strip_prefix("time=\"").and_then(|rest| rest.split('"').next()).unwrap();
        assert!(is_time(time), "{runtime}: {written}");
        assert!(written.contains(" level=error msg=\"container does not exist"), "{runtime}: {written}");
        let line: Value = serde_json::from_str(&failure(&["--log-format", "json"])).unwrap();
        assert!(is_time(line["time"].as_str().unwrap()), "{runtime}: {line}");
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().unwrap().starts_with("container does not exist"), "{runtime}: {line}");
        let debug = failure(&["--debug", "--log-format", "json"]);
        let levels: Vec<Value> =
            debug.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone()).collect();
        assert_eq!(levels.last(), Some(&json!("error")), "{runtime}: {debug}");
        // runc has nothing to say about so short a command.
        assert!(runtime == PEER || levels.contains(&json!("debug")), "{debug}");
        // Without a file the log is standard error.
        let output = bundle.call(&["--log-format", "json", "state", "none"]);
        let line: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(line["level"], "error", "{runtime}");
    }
}
