//! The running program's own file, kept out of reach of what it starts.
//!
//! A process in a container may reach the program that set it up through `/proc/<pid>/exe` and write to it later
//! (CVE-2019-5736). [`seal`] makes the kernel know the program by a read-only, detached mount of its file: any write
//! through that link then fails with `EROFS`, whatever the process's rights. It costs one `execve`, no copy, no memory.
//!
//! Left out on purpose: sealed memfd copies, which charge a copy of the program to every container.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::mount::{MountAttr, set_attributes};

/// The magic link to the running program's file.
const SELF: &str = "/proc/self/exe";

/// Whether the running program's file is on a read-only mount.
///
/// # Errors
/// When `/proc` is not there.
pub fn is_sealed() -> io::Result<bool> {
    let file = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Executes the program again from a read-only mount of its own file, with the same arguments, environment and
/// descriptors; returns at once when it already runs from one. Call it first in `main`, as root.
///
/// # Errors
/// When the mount cannot be made (no CAP_SYS_ADMIN) or the program cannot be executed from it.
pub fn seal() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let tree = rustix::mount::open_tree(CWD, SELF, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(&tree, &MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() }, false)?;
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
