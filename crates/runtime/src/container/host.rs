//! What is true of this host, read from `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use atoll_sys::cgroup::{Cgroup, Layout, Support};
use atoll_sys::userns;

use crate::spec::{Bounding, Host, KernelVersion};
use crate::{Error, Fingerprint};

/// Namespaces that a container has.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
/// Processors whose throttling folder is looked for.
const CPUS_MAX: usize = 8192;
/// The oldest kernel that Atoll supports.
const FLOOR: KernelVersion = KernelVersion { major: 5, minor: 15 };

pub(super) fn facts(cgroup_parent: &str, shim: &Path) -> Result<Host, Error> {
    Ok(Host {
        cgroup_parent: cgroup_parent.to_owned(),
        shim: shim.to_owned(),
        bounding: Bounding::of_this_process(),
        kernel: kernel().unwrap_or(FLOOR),
        thermal: thermal(),
        protected: protected(),
        groups: userns::groups(),
    })
}

fn kernel() -> Option<KernelVersion> {
    KernelVersion::parse(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim())
}

/// The folders that Docker hides one by one; a machine without the first has none.
fn thermal() -> Vec<String> {
    (0..CPUS_MAX)
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .take_while(|path| Path::new(path).exists())
        .collect()
}

fn protected() -> bool {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse::<i32>().is_ok_and(|adjustment| adjustment < 0)
}

/// What this host has.
pub(super) fn fingerprint(cgroup_parent: &str) -> Fingerprint {
    let control_groups = has_control_groups(cgroup_parent);
    let mut warnings = Vec::new();
    if userns::groups() == 1 {
        warnings.push(
            "this user has no subordinate ids: images and programs with other users than root do not work. Install the package \
             uidmap and have the administrator run: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER"
                .to_owned(),
        );
    }
    if !control_groups {
        warnings.push(
            "no control groups are delegated to this user: workloads run without limits and cannot be paused. Start the daemon \
             as a service of the user's systemd on a host with control groups of version 2"
                .to_owned(),
        );
    }
    let limits = Layout::read().as_ref().map(Support::read).unwrap_or_default();
    Fingerprint { warnings, control_groups, limits }
}

/// Whether workloads get control groups: always root's, and those of an ordinary user that are delegated.
fn has_control_groups(parent: &str) -> bool {
    if userns::is_privileged().unwrap_or(false) {
        return true;
    }
    let Ok(layout) = Layout::read() else { return false };
    Cgroup::at(&layout, parent, "").is_ok_and(|group| group.try_create(&layout).unwrap_or(false))
}

/// What this host lacks without which no container runs; each a sentence that says what to do.
#[must_use]
pub fn missing(shim: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, sentence: String| {
        if !there {
            missing.push(sentence);
        }
    };
    need(shim.is_file(), format!("{} is not there: install it beside the daemon", shim.display()));
    need(
        kernel().is_none_or(|version| version >= FLOOR),
        format!("the kernel is older than {}.{}: use a newer one", FLOOR.major, FLOOR.minor),
    );
    for name in NAMESPACES {
        need(PathBuf::from("/proc/self/ns").join(name).exists(), format!("the kernel has no {name} namespaces"));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay = filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    need(overlay, "the kernel has no overlayfs: load the module overlay".to_owned());
    missing
}
