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

use super::{At, Step, errno};
use crate::creation::RootSource;
use crate::plan::RootPlan;

/// More mounts than ever are stacked on the host's root.
const STACK_MAX: usize = 16;

/// Cuts this namespace's copy of the mount tree off from the host's.
pub(super) fn make_private() -> Step<()> {
    let flags = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", flags).at("private mounts", "/")
}

/// The host's root as seen before the pivot.
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
pub(super) fn clone_tree(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(CWD, source, flags)?)
}
