//! Making one entry: file, link, device, folder, whiteout, each relative to its parent's descriptor.
//!
//! A thing is made with `O_EXCL`; when something of the same name is in the way, it goes first (an archive may replace what
//! it brought). Order of attributes: owner, mode (a chown clears set-user-ID), extended attributes (a chown clears
//! capabilities), time.

use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, XattrFlags};
use rustix::io::Errno;

use super::folders::is_whiteout;
use super::{Attributes, Extractor, hostile, modified, name, owner, refused};
use crate::error::{Error, Result};
use crate::tar::{Entry, EntryKind, Reader};

/// Largest piece that is written at once, bytes.
const WRITE_MAX: usize = 1 << 20;

/// How a name is made in a folder.
type Make<'a> = dyn FnMut(&OwnedFd, &[u8]) -> Result<(), Errno> + 'a;

impl Extractor {
    /// Makes the entry at the clean path `path`.
    pub(super) fn make<R: BufRead>(&mut self, path: &[u8], entry: Entry, reader: &mut Reader<R>) -> Result<()> {
        let attributes = attributes(path, &entry)?;
        if path.is_empty() && entry.kind != EntryKind::Directory {
            return Err(hostile(&entry.path, "it would replace the root of the layer"));
        }
        match entry.kind {
            EntryKind::Directory => self.directory(path, attributes),
            EntryKind::File => self.file(path, &entry, &attributes, reader),
            EntryKind::HardLink(target) => self.hard_link(path, &target),
            EntryKind::Symlink(target) => {
                self.node(path, &attributes, &mut |parent, name| rustix::fs::symlinkat(&target, parent, name))
            }
            EntryKind::Fifo => self.special(path, &attributes, FileType::Fifo, 0),
            // The overlay's own sign for "deleted"; an image must not forge it.
            EntryKind::CharDevice { major: 0, minor: 0 } | EntryKind::BlockDevice { major: 0, minor: 0 } => Ok(()),
            EntryKind::CharDevice { major, minor } => {
                self.special(path, &attributes, FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                self.special(path, &attributes, FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        }
    }

    /// The folder of a path and its last component; folders that took a whiteout's place are marked.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(Rc<OwnedFd>, &'p [u8])> {
        let (folder, last) = name::split(path);
        let parent = self.folders.parent(folder).map_err(|e| refused(path, e))?;
        for made in self.folders.take_made_over_whiteout() {
            self.pending.entry(made).or_default().opaque = true;
        }
        Ok((parent, last))
    }

    /// Runs `make`, and once more after removing what was in the way. Says whether that was a whiteout.
    fn fresh(&mut self, path: &[u8], make: &mut Make<'_>) -> Result<(Rc<OwnedFd>, bool)> {
        let (parent, last) = self.place(path)?;
        match make(&parent, last) {
            Ok(()) => return Ok((parent, false)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(refused(path, error)),
        }
        let was_whiteout = self.remove(path, &parent, last)?;
        let (parent, last) = self.place(path)?;
        make(&parent, last).map_err(|e| refused(path, e))?;
        Ok((parent, was_whiteout))
    }

    /// Removes what is at `path`, a whole tree if need be. True when it was a whiteout.
    fn remove(&mut self, path: &[u8], parent: &OwnedFd, last: &[u8]) -> Result<bool> {
        let fail = |e| refused(path, e);
        let stat = rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let folder = rustix::fs::openat(parent, last, crate::tree::FOLDER, Mode::empty()).map_err(fail)?;
            crate::tree::empty(&folder).map_err(fail)?;
            rustix::fs::unlinkat(parent, last, AtFlags::REMOVEDIR).map_err(fail)?;
            let below = [path, b"/"].concat();
            self.pending.retain(|known, _| known != path && !known.starts_with(&below));
        } else {
            rustix::fs::unlinkat(parent, last, AtFlags::empty()).map_err(fail)?;
        }
        self.folders.forget();
        Ok(is_whiteout(&stat))
    }

    fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        let mut opaque = false;
        if !path.is_empty() {
            let (parent, last) = self.place(path)?;
            match rustix::fs::mkdirat(&*parent, last, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(&*parent, last, AtFlags::SYMLINK_NOFOLLOW);
                    let stat = stat.map_err(|e| refused(path, e))?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        opaque = self.remove(path, &parent, last)?;
                        let made = rustix::fs::mkdirat(&*parent, last, Mode::from_raw_mode(0o700));
                        made.map_err(|e| refused(path, e))?;
                    }
                }
                Err(error) => return Err(refused(path, error)),
            }
        }
        let folder = self.pending.entry(path.to_vec()).or_default();
        folder.attributes = Some(attributes);
        folder.opaque |= opaque;
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        attributes: &Attributes,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        const NEW: OFlags =
            OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let mut file = None;
        self.fresh(path, &mut |parent, name| {
            file = Some(rustix::fs::openat(parent, name, NEW, Mode::from_raw_mode(0o600))?);
            Ok(())
        })?;
        let file = file.ok_or_else(|| refused(path, Errno::NOENT))?;
        match &entry.sparse {
            None => {
                copy(reader, &file, None, entry.size, path)?;
            }
            Some(segments) => {
                for segment in segments {
                    copy(reader, &file, Some(segment.offset), segment.len, path)?;
                }
                rustix::fs::ftruncate(&file, entry.size).map_err(|e| refused(path, e))?;
            }
        }
        let fail = |e| refused(path, e);
        if !self.creates_as_root || attributes.uid != 0 || attributes.gid != 0 {
            rustix::fs::fchown(&file, owner(attributes.uid), super::group(attributes.gid))
                .map_err(|error| super::unowned(path, attributes, error))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode)).map_err(fail)?;
        self.set_xattrs(&file, &attributes.xattrs, path)?;
        rustix::fs::futimens(&file, &modified(attributes.time)).map_err(fail)
    }

    /// Links an earlier entry. Neither path is followed in its last component; both are resolved inside the root.
    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let target = name::clean(target)?;
        if target == path {
            return Ok(());
        }
        let (folder, target_name) = name::split(&target);
        let missing = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => hostile(path, "it is a hard link to a file that this layer does not have"),
            other => refused(path, other),
        };
        let source = self.folders.existing(folder).map_err(missing)?;
        let stat = rustix::fs::statat(&*source, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(hostile(path, "it is a hard link to something that is no file"));
        }
        let (parent, last) = self.place(path)?;
        if let Ok(there) = rustix::fs::statat(&*parent, last, AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.fresh(path, &mut |parent, name| rustix::fs::linkat(&*source, target_name, parent, name, AtFlags::empty()))
            .map_err(|error| match error {
                // The target lay inside what the link replaced.
                Error::Entry { .. }
                    if rustix::fs::statat(&*source, target_name, AtFlags::SYMLINK_NOFOLLOW).is_err() =>
                {
                    hostile(path, "it is a hard link to a file that it replaces")
                }
                other => other,
            })?;
        Ok(())
    }

    /// Makes a symbolic link or a special file and gives it owner and time.
    fn node(&mut self, path: &[u8], attributes: &Attributes, make: &mut Make<'_>) -> Result<()> {
        let (parent, _) = self.fresh(path, make)?;
        let (_, last) = name::split(path);
        let fail = |e| refused(path, e);
        if !self.creates_as_root || attributes.uid != 0 || attributes.gid != 0 {
            let (uid, gid) = (owner(attributes.uid), super::group(attributes.gid));
            rustix::fs::chownat(&*parent, last, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| super::unowned(path, attributes, error))?;
        }
        self.done.dropped_xattrs += attributes.xattrs.len() as u64;
        let times = modified(attributes.time);
        rustix::fs::utimensat(&*parent, last, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    fn special(&mut self, path: &[u8], attributes: &Attributes, kind: FileType, device: u64) -> Result<()> {
        let mode = Mode::from_raw_mode(attributes.mode);
        let mut forbidden = false;
        self.node_or_skip(path, attributes, &mut forbidden, &mut |parent, name| {
            rustix::fs::mknodat(parent, name, kind, mode, device)
        })?;
        if forbidden {
            self.done.skipped_devices += 1;
            return Ok(());
        }
        // The process's umask took its part of the mode. The file was just made here and is no link.
        let (parent, last) = self.place(path)?;
        rustix::fs::chmodat(&*parent, last, mode, AtFlags::empty()).map_err(|e| refused(path, e))
    }

    fn node_or_skip(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        forbidden: &mut bool,
        make: &mut Make<'_>,
    ) -> Result<()> {
        let mut denied = false;
        let made = self.node(path, attributes, &mut |parent, name| {
            let result = make(parent, name);
            denied |= matches!(result, Err(Errno::PERM));
            result
        });
        *forbidden = denied;
        if denied { Ok(()) } else { made }
    }

    /// A name of lower layers is gone, unless this layer brings it anew; a folder brought anew hides the lower one.
    pub(super) fn whiteout(&mut self, folder: &[u8], name: &[u8]) -> Result<()> {
        let path = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
        let (parent, last) = self.place(&path)?;
        match rustix::fs::mknodat(&*parent, last, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&*parent, last, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|e| refused(&path, e))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    self.pending.entry(path).or_default().opaque = true;
                }
                Ok(())
            }
            Err(error) => Err(refused(&path, error)),
        }
    }

    /// A folder hides everything that lower layers have in it.
    pub(super) fn opaque(&mut self, folder: Vec<u8>) -> Result<()> {
        // The marker alone makes the folder; resolving a name inside it does so.
        let inside = if folder.is_empty() { b".".to_vec() } else { [folder.as_slice(), b"/."].concat() };
        self.place(&inside)?;
        self.pending.entry(folder).or_default().opaque = true;
        Ok(())
    }

    /// Sets those extended attributes that a layer may carry, and counts the others.
    pub(super) fn set_xattrs(&mut self, fd: &OwnedFd, xattrs: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Result<()> {
        for (name, value) in xattrs {
            if !keeps_xattr(name) {
                self.done.dropped_xattrs += 1;
                continue;
            }
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file system has none, or not of this kind.
                Err(Errno::OPNOTSUPP) => self.done.dropped_xattrs += 1,
                Err(error) => return Err(refused(path, error)),
            }
        }
        Ok(())
    }
}

/// Which extended attributes a layer keeps.
pub(crate) fn keeps_xattr(name: &[u8]) -> bool {
    let is_overlay = name == b"user.overlay" || name.starts_with(b"user.overlay.");
    (name.starts_with(b"user.") && !is_overlay)
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// What an entry says of itself.
pub(crate) fn attributes(path: &[u8], entry: &Entry) -> Result<Attributes> {
    // The largest id means "unchanged" to the kernel.
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
        return Err(hostile(path, "its owner or group is no 32-bit number"));
    };
    Ok(Attributes {
        mode: entry.mode,
        uid,
        gid,
        time: Timespec { tv_sec: entry.mtime, tv_nsec: entry.mtime_nsec.into() },
        xattrs: entry.xattrs.clone(),
    })
}

/// Writes `len` bytes of the entry's data to the file, at `offset` where one is given.
pub(crate) fn copy<R: BufRead>(
    reader: &mut Reader<R>,
    file: &OwnedFd,
    offset: Option<u64>,
    len: u64,
    path: &[u8],
) -> Result<()> {
    let mut done = 0u64;
    while done < len {
        let wanted = usize::try_from(len - done).unwrap_or(usize::MAX).min(WRITE_MAX);
        let piece = reader.chunk(wanted)?;
        if piece.is_empty() {
            return Err(crate::tar::Error::Truncated.into());
        }
        let written = match offset {
            None => rustix::io::write(file, piece),
            Some(offset) => rustix::io::pwrite(file, piece, offset + done),
        };
        match written {
            Ok(written) => {
                reader.consume(written);
                done += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(refused(path, error)),
        }
    }
    Ok(())
}
