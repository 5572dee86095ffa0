//! What is left once everything was taken away: nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use atoll_testkit::TempHost;

use crate::facts::supervisors;
use crate::raw::get;
use crate::support::until;

/// How deep below the hierarchies' mount points a host's control groups may be.
const DEPTH: usize = 5;

/// Control groups of workloads, in every hierarchy.
fn groups(folder: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .flat_map(|entry| match entry.file_name() == name {
            true => folders_in(&entry.path()),
            false if depth > 0 => groups(&entry.path(), name, depth - 1),
            false => Vec::new(),
        })
        .collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// What the daemon has open that belonged to a workload.
fn descriptors(host: &TempHost) -> Vec<String> {
    let folder = format!("/proc/{}/fd", host.daemon_pid().expect("it runs"));
    let entries = std::fs::read_dir(folder).expect("its descriptors").flatten();
    let links =
        entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).map(|link| link.display().to_string());
    links.filter(|link| link.starts_with("net:[") || link.contains("pidfd") || link.ends_with("(deleted)")).collect()
}

/// Waits until nothing is left.
pub(crate) fn nothing(host: &TempHost, known: &BTreeSet<String>) {
    let group = format!("atoll-{}", get(host, "/info")["ID"].as_str().expect("an id"));
    until("no supervisor is left", || supervisors(known) == 0);
    let (root, run) = (host.root(), host.run());
    for folder in [root.join("workloads"), root.join("volumes"), run.join("w"), root.join("store/roots")] {
        until(&format!("{} is empty", folder.display()), || folders_in(&folder).is_empty());
    }
    until(&format!("no control group is left: {:?}", groups(Path::new("/sys/fs/cgroup"), &group, DEPTH)), || {
        groups(Path::new("/sys/fs/cgroup"), &group, DEPTH).is_empty()
    });
    until(&format!("no descriptor is left: {:?}", descriptors(host)), || descriptors(host).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(&root.display().to_string()), "a mount is left: {mounts}");
}
