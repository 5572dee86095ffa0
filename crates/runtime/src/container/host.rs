//! What is true of this host, read from `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::spec::{Bounding, Host, KernelVersion};

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

/// What this host lacks.
pub(super) fn missing(shim: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, sentence: String| {
        if !there {
            missing.push(sentence);
        }
    };
    need(rustix::process::geteuid().is_root(), "the daemon is not root: start it as root".to_owned());
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
