//! Deleting folder trees by descriptor, never by path: whatever a workload left there, nothing outside moves.
//!
//! [`delete`] walks with a bounded number of open folders; what lies deeper is first renamed up to the top of the tree
//! that is going away. Symbolic links are removed, never followed; mount points are not crossed.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How many folders are open at once.
const DEPTH_MAX: usize = 32;

pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder of the store for reading; a symbolic link in its place is an error.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, FOLDER, Mode::empty()).map_err(Error::io("open", path))
}

/// How often a resolution that raced with a rename anywhere on the host is tried again.
const AGAIN_MAX: usize = 1000;
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` as the kernel resolves it with `root` for its root: nothing in it leads outside.
pub(crate) fn open_inside(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE) {
            Err(Errno::AGAIN | Errno::INTR) if tries < AGAIN_MAX => tries += 1,
            other => return other,
        }
    }
}

/// Makes a folder and its parents last through a power cut: fsync of the folder.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = open_folder(path)?;
    rustix::fs::fsync(&folder).map_err(Error::io("sync", path))
}

/// Makes everything on the file system of the folder `path` last through a power cut.
pub(crate) fn sync_tree(path: &Path) -> Result<()> {
    rustix::fs::syncfs(open_folder(path)?).map_err(Error::io("sync", path))
}

/// Deletes `path` and everything in it; nothing there is fine.
pub(crate) fn delete(path: &Path) -> Result<()> {
    let fail = |e: Errno| Error::io("delete", path)(e);
    match rustix::fs::open(path, FOLDER, Mode::empty()) {
        Ok(top) => {
            empty(&top).map_err(fail)?;
            match rustix::fs::rmdir(path) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(fail(error)),
            }
        }
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => rustix::fs::unlink(path).map_err(fail),
        Err(error) => Err(fail(error)),
    }
}

/// Deletes everything below an open folder.
pub(crate) fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut lifted = 0u64;
    loop {
        let before = lifted;
        empty_once(top, &mut lifted)?;
        if lifted == before {
            return Ok(());
        }
    }
}

struct Level {
    folder: OwnedFd,
    names: Dir,
    /// The name of this folder in its parent.
    name: CString,
}

/// One walk; folders below [`DEPTH_MAX`] are moved to the top for the next walk and counted in `lifted`.
fn empty_once(top: &OwnedFd, lifted: &mut u64) -> Result<(), Errno> {
    let open = |parent: &OwnedFd, name: CString| -> Result<Level, Errno> {
        let folder = rustix::fs::openat2(parent, &name, FOLDER, Mode::empty(), ResolveFlags::NO_XDEV)?;
        let names = Dir::read_from(&folder)?;
        Ok(Level { folder, names, name })
    };
    let mut stack = vec![open(top, c".".into())?];
    while let Some(level) = stack.last_mut() {
        let Some(entry) = level.names.next() else {
            let Some(done) = stack.pop() else { break };
            if let Some(parent) = stack.last() {
                match rustix::fs::unlinkat(&parent.folder, &done.name, AtFlags::REMOVEDIR) {
                    // Not empty: something was lifted out of the way or made meanwhile; the next walk sees it.
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(&level.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        let name = name.to_owned();
        if !is_folder {
            match rustix::fs::unlinkat(&level.folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            }
        }
        if stack.len() < DEPTH_MAX {
            let next = match stack.last() {
                Some(level) => open(&level.folder, name)?,
                None => break,
            };
            stack.push(next);
        } else if let Some(level) = stack.last() {
            lift(&level.folder, &name, top, lifted)?;
        }
    }
    Ok(())
}

/// Renames a folder that lies too deep to a fresh name at the top.
fn lift(folder: &OwnedFd, name: &CString, top: &OwnedFd, lifted: &mut u64) -> Result<(), Errno> {
    loop {
        let fresh = format!(".lifted-{}-{}", std::process::id(), *lifted);
        *lifted += 1;
        match rustix::fs::renameat_with(folder, name, top, fresh, rustix::fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}
