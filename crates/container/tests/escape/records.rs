//! Records of containers that another user of the host has made or may exchange: a record names hooks, which the caller
//! runs, and groups, which the caller removes.

use std::os::unix::fs::{PermissionsExt, chown};

use super::*;

/// A stopped container whose record would run a hook at its deletion; `change` gives it away.
fn trap(change: impl FnOnce(&Path, &Path)) -> Option<(Bundle, PathBuf)> {
    let bundle = bundle("true")?;
    let state = bundle.path().join("state");
    let touched = bundle.path().join("touched");
    bundle.detached(&["run", "-d"]);
    bundle.wait_for("stopped");
    let record = state.join(&bundle.id).join("state.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["spec"]["hooks"] = json!({"poststop": [{"path": "/usr/bin/touch", "args": ["touch", touched]}]});
    fs::write(&record, value.to_string()).unwrap();
    change(&state, &state.join(&bundle.id));
    Some((bundle, touched))
}

#[track_caller]
fn check_trap(change: impl FnOnce(&Path, &Path)) {
    let Some((bundle, touched)) = trap(change) else { return };
    for arguments in [["delete", "-f", &bundle.id], ["kill", &bundle.id, "KILL"], ["start", &bundle.id, "--"]] {
        let said = text(&bundle.call(&arguments[..if arguments[2] == "--" { 2 } else { 3 }]));
        assert!(said.contains("not trusted") || said.contains("cannot open"), "{arguments:?}: {said}");
    }
    assert_eq!(text(&bundle.call(&["list", "-q"])), "");
    assert!(!touched.exists(), "the hook of another user's record was run");
    // So that the test's own end removes it.
    let (state, folder) = (bundle.path().join("state"), bundle.path().join("state").join(&bundle.id));
    if folder.is_symlink() {
        fs::remove_file(&folder).unwrap();
        fs::rename(bundle.path().join("moved"), &folder).unwrap();
    }
    for path in [&state, &folder] {
        chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// The trap is one: the hook runs for its owner.
#[test]
fn a_record_of_ones_own() {
    let Some((bundle, touched)) = trap(|_, _| {}) else { return };
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
    assert!(touched.exists());
}

#[test]
fn a_record_of_another_user() {
    check_trap(|_, folder| chown(folder, Some(1000), Some(1000)).unwrap());
    check_trap(|state, _| chown(state, Some(1000), Some(1000)).unwrap());
}

#[test]
fn a_record_that_others_may_exchange() {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    check_trap(|_, folder| open(folder, 0o777));
    check_trap(|_, folder| open(folder, 0o1777));
    check_trap(|state, _| open(state, 0o777));
    check_trap(|state, folder| {
        let moved = state.parent().unwrap().join("moved");
        fs::rename(folder, &moved).unwrap();
        symlink(moved, folder).unwrap();
    });
}

/// The file for the number is written where the caller said, not where a link beside it leads.
#[test]
fn a_link_in_the_place_of_the_pid_file() {
    let Some(bundle) = bundle("true") else { return };
    let (target, path) = (bundle.path().join("target"), bundle.path().join("pid"));
    fs::write(&target, "before").unwrap();
    symlink(&target, bundle.path().join("pid.new")).unwrap();
    bundle.detached(&["run", "-d", "--pid-file", path.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&target).unwrap(), "before");
    assert!(fs::read_to_string(&path).unwrap().parse::<u32>().unwrap() > 0);
}
