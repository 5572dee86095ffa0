//! Finding and making places inside a root by descriptors (openat2(2) with `RESOLVE_IN_ROOT`).
//!
//! A path of the container is walked by the kernel with the container's root as its root, so that `..` and absolute
//! links stay inside; magic links (`/proc/*/fd`) are never followed. What comes back is a descriptor, which cannot be
//! exchanged afterwards.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Deepest path that is made.
const DEPTH_MAX: usize = 256;
/// How often a walk is tried again when a rename elsewhere disturbed it (openat2(2), `EAGAIN`).
const ATTEMPTS: u32 = 64;

/// Opens `path` inside `root`. With `fixed`, no component may be a symbolic link.
pub(super) fn open(root: impl AsFd, path: &str, flags: OFlags, fixed: bool) -> io::Result<OwnedFd> {
    let links = if fixed { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::NO_MAGICLINKS };
    for _ in 0..ATTEMPTS {
        let resolve = ResolveFlags::IN_ROOT | links;
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The folder at `path` inside `root`, made with what is missing above it.
pub(super) fn make_folder(root: impl AsFd, path: &str, fixed: bool) -> io::Result<OwnedFd> {
    match open(&root, path, OFlags::PATH | OFlags::DIRECTORY, fixed) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let parts: Vec<&str> = parts(path)?;
    let mut at = open(&root, "/", OFlags::PATH | OFlags::DIRECTORY, true)?;
    let mut so_far = String::new();
    for part in parts {
        so_far.push('/');
        so_far.push_str(part);
        let next = match open(&root, &so_far, OFlags::PATH | OFlags::DIRECTORY, fixed) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    // It is a link to nothing, or somebody was faster: opening it again tells.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open(&root, &so_far, OFlags::PATH | OFlags::DIRECTORY, fixed)?
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

/// The file at `path` inside `root` as a place to mount on: an existing one of any kind but a folder, or a new empty one.
pub(super) fn make_file(root: impl AsFd, path: &str, fixed: bool) -> io::Result<OwnedFd> {
    match open(&root, path, OFlags::PATH, fixed) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let (folder, name) = parent(&root, path, fixed)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open(&root, path, OFlags::PATH, fixed)
}

/// The folder that holds `path`, made if missing, and the last part of `path`.
pub(super) fn parent(root: impl AsFd, path: &str, fixed: bool) -> io::Result<(OwnedFd, &str)> {
    let parts = parts(path)?;
    let (name, above) = parts.split_last().ok_or(Errno::INVAL)?;
    let folder = make_folder(root, &format!("/{}", above.join("/")), fixed)?;
    Ok((folder, *name))
}

fn parts(path: &str) -> io::Result<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // `..` behind a folder that is yet to be made has no meaning that two walks agree on.
    if parts.contains(&"..") || parts.len() > DEPTH_MAX {
        return Err(Errno::INVAL.into());
    }
    Ok(parts)
}

/// Makes the working folder if it is missing, as peers do. When that fails, entering it will say why.
pub(super) fn working_folder(root: &OwnedFd, path: &CStr) {
    if let Ok(path) = path.to_str() {
        let _ = make_folder(root, path, false);
    }
}

/// Writes a value to a file below a procfs that is ours: no links, no other mounts.
pub(super) fn write_below(folder: &OwnedFd, path: &str, value: &[u8]) -> io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(folder, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    match rustix::io::write(&file, value)? {
        written if written == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
