//! What a workload has changed: what it wrote, held against the layers below.
//!
//! The upper folder of its overlay is walked beside the merged layers. What was only opened for writing, or lies in a folder
//! that was only made room in for a mount, is no change; a folder is one when something in it is, as Docker has it.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, Result};
use crate::extract::{OPAQUE, PATH_DEPTH_MAX, is_whiteout};
use crate::tree::FOLDER;
use crate::walk::{fail, is_hollow, names, open_item};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one than in the image, or something in it is.
    Modified,
    /// The image does not have it.
    Added,
    /// It is gone.
    Deleted,
}

/// A path that is not as in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// From the root, with a slash in front.
    pub path: Vec<u8>,
}

struct Comparison<'a> {
    leave_out: &'a [&'a [u8]],
    changes: Vec<Change>,
}

impl Store {
    /// What was changed in root file system `id`, sorted by path. Of `leave_out` (without a slash in front) what was made to
    /// be mounted over is no change.
    ///
    /// # Errors
    /// It is not here, or cannot be read.
    pub fn changes(&self, id: &str, leave_out: &[&[u8]]) -> Result<Vec<Change>> {
        let upper = crate::tree::open_folder(&self.root(id)?.upper)?;
        let lower = self.look_inside(&self.layers_of_root(id)?)?;
        let mut comparison = Comparison { leave_out, changes: Vec::new() };
        comparison.folder(&upper, &[], Some(&lower), 0)?;
        let mut changes = comparison.changes;
        changes.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(changes)
    }
}

impl Comparison<'_> {
    /// Compares what is in a folder; true when room for a mount was made in it.
    fn folder(&mut self, upper: &OwnedFd, path: &[u8], lower: Option<&OwnedFd>, depth: usize) -> Result<bool> {
        if depth > PATH_DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path", limit: PATH_DEPTH_MAX as u64 });
        }
        let mut made_room = false;
        for name in names(upper, path)? {
            let below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let item = match rustix::fs::openat(upper, &name, flags, Mode::empty()) {
                Ok(item) => item,
                // The workload removes it meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(fail(&below)(error)),
            };
            let stat = rustix::fs::fstat(&item).map_err(fail(&below))?;
            let before = lower.map(|lower| there(lower, &name, &below)).transpose()?.flatten();
            if before.is_none() && self.leave_out.contains(&below.as_slice()) && is_hollow(&item, &stat, &below)? {
                made_room = true;
                continue;
            }
            match before {
                Some(_) if is_whiteout(&stat) => self.add(ChangeKind::Deleted, &below),
                None if is_whiteout(&stat) => {}
                before if is_folder(&stat) => self.directory(&item, &stat, &below, lower.zip(before), depth)?,
                Some(before) if same(&stat, &before) && same_time(&stat, &before) => {}
                Some(_) => self.add(ChangeKind::Modified, &below),
                None => self.add(ChangeKind::Added, &below),
            }
        }
        Ok(made_room)
    }

    fn directory(
        &mut self,
        item: &OwnedFd,
        stat: &Stat,
        path: &[u8],
        below: Option<(&OwnedFd, Stat)>,
        depth: usize,
    ) -> Result<()> {
        let upper = open_item(item, OFlags::DIRECTORY).map_err(fail(path))?;
        let Some((lower, before)) = below else {
            self.add(ChangeKind::Added, path);
            return self.folder(&upper, path, None, depth + 1).map(drop);
        };
        let at = self.changes.len();
        self.add(ChangeKind::Modified, path);
        if !is_folder(&before) {
            return self.folder(&upper, path, None, depth + 1).map(drop);
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let lower = rustix::fs::openat(lower, name, FOLDER, Mode::empty()).map_err(fail(path))?;
        let opaque = is_opaque(&upper).map_err(fail(path))?;
        let made_room = self.folder(&upper, path, Some(&lower), depth + 1)?;
        if opaque {
            self.hidden(&upper, path, &lower)?;
        }
        let untouched = same(stat, &before) && (made_room || same_time(stat, &before));
        if untouched && self.changes.len() == at + 1 {
            self.changes.pop();
        }
        Ok(())
    }

    /// What an opaque folder hides of the one below it.
    fn hidden(&mut self, upper: &OwnedFd, path: &[u8], lower: &OwnedFd) -> Result<()> {
        for name in names(lower, path)? {
            if there(upper, &name, path)?.is_none() {
                self.add(ChangeKind::Deleted, &[path, b"/", &name].concat());
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: ChangeKind, path: &[u8]) {
        self.changes.push(Change { kind, path: [b"/", path].concat() });
    }
}

fn there(folder: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(fail(path)(error)),
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_opaque(folder: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(len) => Ok(&value[..len] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // Another value than a yes: `x` marks folders that hold whiteouts of another kind.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

fn same(now: &Stat, before: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    of(now) == of(before) && (is_folder(now) || now.st_size == before.st_size)
}

/// Whether both were last changed at the same time; archives have whole seconds.
fn same_time(now: &Stat, before: &Stat) -> bool {
    let whole = now.st_mtime_nsec == 0 || before.st_mtime_nsec == 0;
    now.st_mtime == before.st_mtime && (whole || now.st_mtime_nsec == before.st_mtime_nsec)
}
