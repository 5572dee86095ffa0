//! What an image has where a tmpfs goes, copied into it (`tmpcopyup`).
//!
//! Folders, files and links with their owners and modes, walked by descriptors without following a link; devices, FIFOs and
//! sockets are left out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Deepest tree that is copied.
const DEPTH_MAX: usize = 128;
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Copies what is in the folder `from` into the folder `to`, and the folder's own owner and mode.
pub(super) fn copy_up(from: impl AsFd, to: &OwnedFd) -> io::Result<()> {
    // Both are descriptors of a place only (`O_PATH`).
    let open = |place: BorrowedFd<'_>| {
        rustix::fs::openat(place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    copy_folder(&open(from.as_fd())?, &open(to.as_fd())?, DEPTH_MAX)
}

fn copy_folder(from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(Errno::LOOP.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    Ok(rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let open = |folder| rustix::fs::openat(folder, name, flags | OFlags::DIRECTORY, Mode::empty());
            copy_folder(&open(from)?, &open(to)?, depth - 1)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target, to, name)?;
            Ok(rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let target = rustix::fs::openat(to, name, create, Mode::from_raw_mode(0o600))?;
            while rustix::fs::sendfile(&target, &source, None, CHUNK)? > 0 {}
            rustix::fs::fchown(&target, owner.0, owner.1)?;
            Ok(rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
        }
        _ => Ok(()),
    }
}
