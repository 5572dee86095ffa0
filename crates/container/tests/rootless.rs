//! Containers of an ordinary user that has subordinate ids, on runc first.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Output, Stdio};

use atoll_testkit::{SUBORDINATE_IDS, TestUser};
use common::{Bundle, PEER, RUNTIME, bundle_for, has_peer, text};
use serde_json::json;

/// A user with subordinate ids, or `None` (said aloud) where there can be none.
fn user() -> Option<TestUser> {
    if !atoll_testkit::require_root() {
        return None;
    }
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("skipped: needs newuidmap (apt-get install uidmap)");
        return None;
    }
    Some(TestUser::new(true).expect("a user can be made"))
}

/// The bundle becomes the user's: id 0 is the user's own, all others are its subordinate ids.
fn give(bundle: &Bundle, user: &TestUser) {
    let path = bundle.path();
    fs::remove_file(path.join("config.json")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    user.own(&path).unwrap();
    assert_eq!(text(&run_as(user, RUNTIME, bundle, &["spec", "--rootless", "-b", path.to_str().unwrap()])), "");
}

fn run_as(user: &TestUser, runtime: &str, bundle: &Bundle, arguments: &[&str]) -> Output {
    let mut command = user.command(runtime);
    command.arg("--root").arg(bundle.path().join("state")).args(arguments).output().unwrap()
}

fn map(bundle: &Bundle, user: &TestUser, script: &str) {
    let first = user.subordinate.unwrap();
    let mapping = |own: u32| {
        json!([{"containerID": 0, "hostID": own, "size": 1},
               {"containerID": 1, "hostID": first, "size": SUBORDINATE_IDS}])
    };
    bundle.edit(|spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["process"]["terminal"] = json!(false);
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
        }
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["uidMappings"] = mapping(user.uid);
        spec["linux"]["gidMappings"] = mapping(user.gid);
    });
    user.own(&bundle.path().join("config.json")).unwrap();
}

#[test]
fn subordinate_ids_are_mapped_by_newuidmap() {
    let Some(user) = user() else { return };
    let script =
        "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; cat /proc/self/setgroups; id -u; id -g;
        touch /own /other; chown 33:34 /other; stat -c '%u:%g' /own /other";
    let first = user.subordinate.unwrap();
    let expected = format!(
        "0 {} 1\n1 {first} {SUBORDINATE_IDS}\n0 {} 1\n1 {first} {SUBORDINATE_IDS}\nallow\n0\n0\n0:0\n33:34",
        user.uid, user.gid
    );
    for runtime in has_peer().then_some(PEER).into_iter().chain([RUNTIME]) {
        let Some(bundle) = bundle_for(runtime, "") else { return };
        give(&bundle, &user);
        map(&bundle, &user, script);
        let output = run_as(&user, runtime, &bundle, &["run", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
        let output = text(&output);
        let lines: Vec<&str> =
            output.lines().map(str::trim).filter(|line| !line.contains("warning: no control groups")).collect();
        assert_eq!(lines.join("\n"), expected, "{runtime}");
        let owner = |name: &str| {
            let metadata = fs::symlink_metadata(bundle.rootfs().join(name)).unwrap();
            (metadata.uid(), metadata.gid())
        };
        assert_eq!(owner("own"), (user.uid, user.gid), "{runtime}");
        assert_eq!(owner("other"), (first + 32, first + 33), "{runtime}");
    }
}

#[test]
fn exec_enters_with_other_ids() {
    let Some(user) = user() else { return };
    let first = user.subordinate.unwrap();
    for runtime in has_peer().then_some(PEER).into_iter().chain([RUNTIME]) {
        let Some(bundle) = bundle_for(runtime, "") else { return };
        give(&bundle, &user);
        map(&bundle, &user, "sleep 1000");
        // Neither gets a pipe of ours, which it would keep open.
        let detached = |arguments: &[&str]| {
            let out = fs::File::create(bundle.path().join("out")).unwrap();
            let mut command = user.command(runtime);
            command.arg("--root").arg(bundle.path().join("state")).args(arguments).stdin(Stdio::null());
            let status = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
            assert!(status.success(), "{runtime}: {}", bundle.written());
        };
        detached(&["run", "-d", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
        let run = |arguments: &[&str]| text(&run_as(&user, runtime, &bundle, arguments)).trim().to_owned();
        assert_eq!(run(&["exec", "--user", "33:34", &bundle.id, "sh", "-c", "id -u; id -g"]), "33\n34", "{runtime}");
        let capabilities = "grep -e CapEff -e CapBnd /proc/self/status | cut -f2 | tr '\\n' ' '";
        let of_root = run(&["exec", &bundle.id, "sh", "-c", capabilities]);
        assert_eq!(of_root, "00000000000000c1 00000000000000c1", "{runtime}");
        let pid_file = bundle.path().join("pid");
        let pid_option = ["--pid-file", pid_file.to_str().unwrap()];
        detached(&[&["exec", "-d", "-u", "33:34"], &pid_option[..], &[&bundle.id, "sleep", "99"]].concat());
        let process = format!("/proc/{}", fs::read_to_string(&pid_file).unwrap());
        let owner = fs::metadata(process).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (first + 32, first + 33), "{runtime}");
        if !bundle.is_peers() {
            criu_is_refused(&bundle, run);
        }
        assert_eq!(run(&["delete", "-f", &bundle.id]), "", "{runtime}");
        assert_eq!(user.processes(), [0; 0], "{runtime}: it is gone");
    }
}

fn criu_is_refused(bundle: &Bundle, run: impl Fn(&[&str]) -> String) {
    let path = bundle.path();
    for arguments in [&["checkpoint", &bundle.id][..], &["restore", "-b", path.to_str().unwrap(), "other"]] {
        let said = run(arguments);
        assert!(
            said.contains("criu cannot work here: it needs the rights of the host's root"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn ids_of_others_are_refused() {
    let Some(user) = user() else { return };
    for runtime in has_peer().then_some(PEER).into_iter().chain([RUNTIME]) {
        let Some(bundle) = bundle_for(runtime, "") else { return };
        give(&bundle, &user);
        map(&bundle, &user, "echo mapped");
        bundle.edit(|spec| spec["linux"]["uidMappings"][1]["hostID"] = json!(user.subordinate.unwrap() - 1));
        let output = run_as(&user, runtime, &bundle, &["run", "-b", bundle.path().to_str().unwrap(), &bundle.id]);
        let said = text(&output);
        assert!(!output.status.success() && said.contains("newuidmap") && !said.contains("mapped\n"), "{said}");
    }
}
