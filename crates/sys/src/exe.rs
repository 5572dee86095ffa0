//! The running program's own file, kept out of reach of what it starts.
//!
//! A process in a container may reach the program that set it up through `/proc/<pid>/exe` and write to it later
//! (CVE-2019-5736). [`seal`] makes the kernel know the program by a read-only, detached mount of its file: any write
//! through that link then fails with `EROFS`, whatever the process's rights. It costs one `execve`, no copy, no memory.
//!
//! An ordinary user has no right to such a mount: there it is a sealed copy in memory (memfd_create(2)), charged to the
//! caller.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::mount::{MountAttr, set_attributes};

/// The magic link to the running program's file.
const SELF: &str = "/proc/self/exe";

/// Whether the running program's file is on a read-only mount, or a sealed copy.
///
/// # Errors
/// When `/proc` is not there.
pub fn is_sealed() -> io::Result<bool> {
    let file = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Only a file in memory has seals; another file system refuses to tell.
    let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// A copy of the program that nobody can write to any more.
fn sealed_copy() -> io::Result<OwnedFd> {
    let mut copy =
        std::fs::File::from(rustix::fs::memfd_create("exe", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    io::copy(&mut std::fs::File::open(SELF)?, &mut copy)?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, all)?;
    Ok(copy.into())
}

/// A read-only mount of the program's file.
fn readonly_mount() -> io::Result<OwnedFd> {
    let tree = rustix::mount::open_tree(CWD, SELF, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(&tree, &MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() }, false)?;
    Ok(tree)
}

/// Executes the program again from a read-only mount of its own file, with the same arguments, environment and
/// descriptors; returns at once when it already runs from one. Call it first in `main`.
///
/// # Errors
/// When neither mount nor copy can be made, or the program cannot be executed from it.
pub fn seal() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let tree = match readonly_mount() {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => sealed_copy()?,
        other => other?,
    };
    // With /proc/self/fd as path `ps` and core dumps keep a readable name on every kernel.
    let arguments = c_strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let environment = c_strings(std::env::vars_os().map(|(name, value)| {
        let mut pair = name.into_vec();
        pair.push(b'=');
        pair.extend(value.into_vec());
        pair
    }))?;
    Err(crate::process::execveat(tree.as_raw_fd(), c"", &arguments, &environment, AtFlags::EMPTY_PATH))
}

fn c_strings(values: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    values.map(|value| CString::new(value).map_err(|_| io::ErrorKind::InvalidInput.into())).collect()
}
