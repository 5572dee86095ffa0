//! What `rustix` lacks of the mount API: mount_setattr(2) and attaching by descriptors alone.
//!
//! Mounts are made detached (`fsmount`, `open_tree`), given their attributes here, and attached to a descriptor of
//! their place: no path is walked twice, so none can be exchanged in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::thread::LinkNameSpaceType;

/// The kernel's `struct mount_attr`: attributes to set and clear on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
    /// User namespace of an id-mapped mount.
    pub userns_fd: u64,
}

#[expect(missing_docs, reason = "the kernel's names: mount_setattr(2)")]
impl MountAttr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME_MASK: u64 = 0x70;
    pub const RELATIME: u64 = 0x0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    pub const SLAVE: u64 = libc::MS_SLAVE;
    pub const SHARED: u64 = libc::MS_SHARED;
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
}

/// Changes a mount given by a descriptor of it, with all mounts below when `recursive`.
///
/// # Errors
/// `ENOSYS` on kernels before 5.12, `EINVAL` when the descriptor is not the root of a mount, `EPERM`.
pub fn set_attributes(mount: impl AsFd, attributes: &MountAttr, recursive: bool) -> io::Result<()> {
    if *attributes == MountAttr::default() {
        return Ok(());
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the terminated path and `size_of::<MountAttr>()` bytes of a `repr(C)` struct; both live
    // through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches the detached mount `mount` exactly where `place` is (an `O_PATH` descriptor).
///
/// # Errors
/// `ENOTDIR` and `EINVAL` when one is a folder and the other is not.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

/// A detached clone of the mount at the folder `path` in another mount namespace, where no link is followed. The calling
/// process, which has one thread, is back in its own namespace afterwards, at that one's root.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `EINVAL` for a process of several threads, `ELOOP` for a link.
pub fn tree_in(namespace: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let own = File::open("/proc/self/ns/mnt")?;
    let enter = |namespace: BorrowedFd<'_>| {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
    };
    enter(namespace)?;
    let tree = clone_folder(path);
    enter(own.as_fd())?;
    tree
}

fn clone_folder(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let folder = rustix::fs::openat2(CWD, path, flags, Mode::empty(), links)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(&folder, "", flags)?)
}
