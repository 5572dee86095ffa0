//! The root mount: made detached, attached on top of the maker's root, then pivoted into.
//!
//! Nothing of the host's mount tree receives or sends mount events of the container, and after the pivot nothing of it is
//! left in the container's namespace but what was bound.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use atoll_sys::mount::{MountAttr, attach as attach_at, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use super::{At, Step, errno, procfs};
use crate::creation::RootSource;
use crate::plan::RootPlan;

/// More mounts than ever are stacked on the host's root.
const STACK_MAX: usize = 16;

/// Cuts this namespace's copy of the mount tree off from the host's.
pub(crate) fn make_private() -> Step<()> {
    let flags = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", flags).at("private mounts", "/")
}

/// The root that this process sees.
pub(super) fn host_root() -> io::Result<OwnedFd> {
    Ok(host_root_fd()?)
}

/// Attaches the root mount: over the folder that it comes from, where hooks look for it, else on top of the present root,
/// where no path leads through it.
pub(super) fn attach(mount: &OwnedFd, source: &RootSource) -> Step<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = match source {
        RootSource::Path(path) => rustix::fs::open(path, flags, Mode::empty()).or_else(|_| host_root_fd()),
        RootSource::Overlay(_) | RootSource::Empty => host_root_fd(),
    };
    attach_at(mount.as_fd(), place.at("root file system", "/")?.as_fd()).at("root file system", "attach")
}

fn host_root_fd() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the root mount this process's root and drops the host's tree (pivot_root(2), "pivot_root(\".\", \".\")").
pub(super) fn pivot(root: &OwnedFd) -> Step<()> {
    let host = host_root().at("pivot", "host root")?;
    rustix::process::fchdir(root).at("pivot", "new root")?;
    rustix::process::pivot_root(".", ".").at("pivot", "pivot_root")?;
    rustix::process::fchdir(&host).at("pivot", "old root")?;
    leave_host()?;
    rustix::process::chdir("/").at("pivot", "/")
}

/// Detaches the old root, in which we stand, and whatever is stacked on it (the masks' tmpfs): each call takes the topmost
/// mount, until the old root itself is in no namespace of ours any more. Anything else would leave the host's tree behind.
fn leave_host() -> Step<()> {
    for _ in 0..STACK_MAX {
        match rustix::mount::unmount(".", UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error).at("pivot", "leave the old root"),
        }
    }
    Err(errno(libc::EBUSY)).at("pivot", "leave the old root")
}

/// Puts the root mount over the host's root, which cannot be exchanged when it is an initramfs, and enters it. Whatever else
/// is mounted on the host leaves this namespace: only the covered root itself stays, where no path leads to.
pub(super) fn move_over(root: &OwnedFd, proc: &OwnedFd) -> Step<()> {
    let step = "move the root";
    let host = host_root().at(step, "host root")?;
    attach_at(root.as_fd(), host.as_fd()).at(step, "/")?;
    // Paths still begin in the covered root: what they reach is the host's.
    let mounts = procfs::read_own(proc, "mountinfo")?;
    for path in mounts.lines().rev().filter_map(mount_point).filter(|path| path != b"/") {
        match rustix::mount::unmount(path.as_slice(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with one that it stood on, or is the container's own.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error).at(step, &String::from_utf8_lossy(&path)),
        }
    }
    rustix::process::fchdir(root).at(step, "new root")?;
    rustix::process::chroot(".").at(step, "chroot")?;
    rustix::process::chdir("/").at(step, "/")
}

/// The fifth field of a line of /proc/self/mountinfo, whose blanks are written in octal (proc(5)).
fn mount_point(line: &str) -> Option<Vec<u8>> {
    let mut bytes = line.split(' ').nth(4)?.bytes();
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        path.push(if byte == b'\\' {
            let octal: Vec<u8> = bytes.by_ref().take(3).collect();
            u8::from_str_radix(std::str::from_utf8(&octal).ok()?, 8).ok()?
        } else {
            byte
        });
    }
    Some(path)
}

/// The last changes to the root mount, when nothing has to be made in it any more.
pub(super) fn seal(root: &OwnedFd, plan: RootPlan) -> Step<()> {
    if plan.propagation != 0 {
        let attributes = MountAttr { propagation: plan.propagation, ..MountAttr::default() };
        set_attributes(root, &attributes, plan.recursive).at("root propagation", "/")?;
    }
    if plan.readonly {
        let attributes = MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() };
        set_attributes(root, &attributes, false).at("read-only root", "/")?;
    }
    Ok(())
}

/// A clone of a folder or file of the host, detached; of everything mounted below it when `recursive`.
pub(crate) fn clone_tree(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match rustix::mount::open_tree(CWD, source, flags) {
        // Kernels before 6.15 clone no mount that is detached: one that the maker lends by its descriptor is used itself.
        Err(rustix::io::Errno::INVAL) if is_descriptor(source) => {
            Ok(rustix::mount::open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
        }
        other => Ok(other?),
    }
}

/// Whether the path is `/proc/PID/fd/NUMBER`.
fn is_descriptor(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().collect();
    matches!(parts[..], [_, proc, _, fd, _] if proc == "proc" && fd == "fd")
}
