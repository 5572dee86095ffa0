//! The host's procfs, opened once before anything of the container can stand in its place (CVE-2019-16884,
//! CVE-2025-52881).

use std::os::fd::{AsRawFd, OwnedFd};

use atoll_sys::userns;
use rustix::fs::{Mode, OFlags};

use super::{At, Step, Stop, errno, resolve};
use crate::plan::ProcessPlan;

/// File system type of procfs (linux/magic.h).
const PROC_MAGIC: u64 = 0x9fa0;
/// Number of its root folder (linux/proc_fs.h, `PROC_ROOT_INO`).
const PROC_ROOT: u64 = 1;

/// Opens /proc and checks that it is one, whole: a folder of another one bound there has other files by the same names.
pub(crate) fn open() -> Step<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).at("procfs", "/proc")?;
    let kind = rustix::fs::fstatfs(&proc).at("procfs", "/proc")?.f_type;
    let number = rustix::fs::fstat(&proc).at("procfs", "/proc")?.st_ino;
    if u64::try_from(kind).ok() != Some(PROC_MAGIC) || number != PROC_ROOT {
        return Err(errno(libc::ENODEV)).at("procfs", "/proc is none");
    }
    Ok(proc)
}

/// Writes to a file of the calling process; its number is the kernel's to say, whatever pid namespace it is in.
pub(super) fn write_own(proc: &OwnedFd, file: &str, value: &str) -> Step<()> {
    let own = rustix::fs::readlinkat(proc, "self", Vec::new()).at("procfs", "self")?;
    let path = format!("{}/{file}", own.to_string_lossy());
    resolve::write_below(proc, &path, value.as_bytes()).at(file, value)
}

/// Opens what `place` (`O_PATH`) is, and nothing that has come to its path since.
pub(super) fn reopen(proc: &OwnedFd, place: &OwnedFd, flags: OFlags) -> std::io::Result<OwnedFd> {
    let own = rustix::fs::readlinkat(proc, "self", Vec::new())?;
    let path = format!("{}/fd/{}", own.to_string_lossy(), place.as_raw_fd());
    Ok(rustix::fs::openat(proc, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reads a small file of the calling process.
pub(super) fn read_own(proc: &OwnedFd, file: &str) -> Step<String> {
    let own = rustix::fs::readlinkat(proc, "self", Vec::new()).at("procfs", "self")?;
    let path = format!("{}/{file}", own.to_string_lossy());
    let opened = resolve::open(proc, &path, OFlags::RDONLY, true).at("procfs", file)?;
    std::io::read_to_string(std::fs::File::from(opened)).at("procfs", file)
}

/// The score for the out-of-memory killer. An ordinary user may only raise it: what cannot be lowered stays.
pub(crate) fn write_oom_score(process: &ProcessPlan, proc: &OwnedFd) -> Step<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    match write_own(proc, "oom_score_adj", &score.to_string()) {
        Err(stop) if stop.0.errno == libc::EACCES && !userns::is_privileged().unwrap_or(true) => Ok(()),
        other => other,
    }
}

/// What the security modules shall make of the program that is executed next.
pub(super) fn write_labels(process: &ProcessPlan, proc: &OwnedFd) -> Step<()> {
    let labels = &process.labels;
    let named = |what: &str, label: &str, written: Step<()>| {
        written.map_err(|stop| Stop::new(what, label, &errno(stop.0.errno)))
    };
    if !labels.apparmor.is_empty() {
        let value = format!("exec {}", labels.apparmor);
        let written = match write_own(proc, "attr/apparmor/exec", &value) {
            // Kernels before 5.8 have one file for all modules.
            Err(stop) if stop.0.errno == libc::ENOENT => write_own(proc, "attr/exec", &value),
            other => other,
        };
        named("AppArmor profile", &labels.apparmor, written)?;
    }
    if !labels.selinux.is_empty() {
        named("SELinux label", &labels.selinux, write_own(proc, "attr/exec", &labels.selinux))?;
    }
    Ok(())
}
