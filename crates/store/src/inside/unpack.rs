//! Putting an archive's entries into a root file system that is in use.
//!
//! Each thing is made under a name of ours in its folder, gets its content, owner and mode by descriptor, and is renamed to
//! its place: a file is never half there, and what was there before stays until then. Folders get their attributes at the
//! end, if they are still the ones that were found or made.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{Inside, InsideError, is_kernels, look, path, refusal};
use crate::error::Error;
use crate::extract::{
    Attributes, LAYER_BYTES_MAX, LAYER_ENTRIES_MAX, attributes, clean, copy_data, keeps_xattr, modified, split,
};
use crate::tar::{Entry, EntryKind, Reader};
use crate::tree::FOLDER;

/// How much of the archive is read ahead, bytes.
const PIECE: usize = 256 << 10;
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// How things are put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement<'a> {
    /// Whether a folder may not become a file, nor a file a folder.
    pub keep_kinds: bool,
    /// Who everything belongs to, instead of whom the archive says.
    pub owner: Option<(u32, u32)>,
    /// What the first part of every path is called instead.
    pub name: Option<&'a [u8]>,
}

/// A folder of the archive, and which one in the file system that was.
struct Folder {
    attributes: Attributes,
    identity: (u64, u64),
}

/// An entry that is no folder, on its way in.
#[derive(Clone, Copy)]
struct Coming<'a> {
    path: &'a [u8],
    entry: &'a Entry,
    attributes: &'a Attributes,
}

struct Unpacker<'a> {
    inside: &'a Inside,
    /// Where things are put, clean, links followed.
    base: Vec<u8>,
    placement: Placement<'a>,
    /// The folder asked for last: archives list a folder's entries together.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    folders: BTreeMap<Vec<u8>, Folder>,
    entries: u64,
    bytes: u64,
}

impl Inside {
    /// Puts the entries of a plain archive into the folder `path`, whose own owner and mode stay.
    ///
    /// # Errors
    /// The archive is malformed or beyond a limit, or something cannot be made; what was made before stays.
    pub fn unpack(&self, path: &str, archive: impl Read, placement: Placement<'_>) -> Result<(), InsideError> {
        let clean = path::clean(path.as_bytes());
        let base = path::clean(&self.follow(&clean));
        let refused = |error| refusal(path.as_bytes(), error);
        let folder = self.open(&base, OFlags::PATH).map_err(refused)?;
        let kind = rustix::fs::fstat(&folder).map_err(refused)?.st_mode;
        if FileType::from_raw_mode(kind) != FileType::Directory {
            return Err(InsideError::NotFolder);
        }
        if is_kernels(&folder).map_err(refused)? {
            return Err(InsideError::NotFound(path.to_owned()));
        }
        self.check_writable(&folder, path.as_bytes())?;
        let mut unpacker =
            Unpacker { inside: self, base, placement, last: None, folders: BTreeMap::new(), entries: 0, bytes: 0 };
        let mut reader = Reader::new(BufReader::with_capacity(PIECE, archive));
        while let Some(entry) = reader.next_entry()? {
            unpacker.entry(&entry, &mut reader)?;
        }
        unpacker.finish()?;
        // Writers pad the end of an archive; they are heard out.
        std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map_err(Error::Source)?;
        Ok(())
    }
}

impl Unpacker<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), InsideError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.entries > LAYER_ENTRIES_MAX {
            return Err(Error::Limit { what: "number of entries of the archive", limit: LAYER_ENTRIES_MAX }.into());
        }
        if self.bytes > LAYER_BYTES_MAX {
            return Err(Error::Limit { what: "unpacked size of the archive", limit: LAYER_BYTES_MAX }.into());
        }
        let path = self.named(clean(&entry.path)?);
        let is_folder = entry.kind == EntryKind::Directory;
        if path.is_empty() {
            // Where things are put is somebody else's folder.
            return if is_folder { Ok(()) } else { Err(refusal(&entry.path, Errno::ISDIR)) };
        }
        let mut attributes = attributes(&path, entry)?;
        if let Some((uid, gid)) = self.placement.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        let (folder, name) = split(&path);
        let parent = self.parent(folder)?;
        let there = look(&parent, name).map_err(|error| refusal(&path, error))?;
        self.check_kinds(there.as_ref(), is_folder, &path)?;
        if is_folder {
            return self.directory(&parent, name, &path, there.as_ref(), attributes);
        }
        if there.is_some_and(|stat| is_directory(&stat)) {
            self.remove_folder(&parent, name, &path)?;
        }
        let temporary = format!(".atoll-{}-{}", std::process::id(), self.entries).into_bytes();
        let coming = Coming { path: &path, entry, attributes: &attributes };
        let made = self.make(&parent, &temporary, coming, reader);
        let named = made.and_then(|()| {
            rustix::fs::renameat(&parent, &temporary, &parent, name).map_err(|error| refusal(&path, error))
        });
        if named.is_err() || matches!(entry.kind, EntryKind::HardLink(_)) {
            // Renaming one name of a file to another of its names leaves both.
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        named
    }

    fn check_kinds(&self, there: Option<&Stat>, is_folder: bool, path: &[u8]) -> Result<(), InsideError> {
        let Some(stat) = there.filter(|_| self.placement.keep_kinds) else { return Ok(()) };
        let kind = |is_folder| if is_folder { "directory" } else { "non-directory" };
        if is_directory(stat) == is_folder {
            return Ok(());
        }
        let path = format!("/{}", String::from_utf8_lossy(&self.full(path)));
        Err(InsideError::Kind { there: kind(!is_folder), path, coming: kind(is_folder) })
    }

    /// A path of the archive under the name that it is to have.
    fn named(&self, path: Vec<u8>) -> Vec<u8> {
        match self.placement.name {
            Some(name) if !path.is_empty() => {
                let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                [name, &path[end..]].concat()
            }
            _ => path,
        }
    }

    /// A path of the archive, from the root.
    fn full(&self, path: &[u8]) -> Vec<u8> {
        [self.base.as_slice(), path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/')
    }

    /// The folder that a path of the archive is made in, made where it is missing.
    fn parent(&mut self, folder: &[u8]) -> Result<Rc<OwnedFd>, InsideError> {
        if let Some((path, open)) = &self.last
            && path == folder
        {
            return Ok(Rc::clone(open));
        }
        let full = self.full(folder);
        let refused = |error| refusal(folder, error);
        let open = match self.inside.open(&full, PLACE) {
            Err(Errno::NOENT) => self.make_folders(folder)?,
            other => other.map_err(refused)?,
        };
        if is_kernels(&open).map_err(refused)? {
            return Err(refused(Errno::PERM));
        }
        self.inside.check_writable(&open, folder)?;
        let open = Rc::new(open);
        self.last = Some((folder.to_vec(), Rc::clone(&open)));
        Ok(open)
    }

    /// Makes what is missing of the folders that lead to something.
    fn make_folders(&self, folder: &[u8]) -> Result<OwnedFd, InsideError> {
        let refused = |error| refusal(folder, error);
        let mut open = self.inside.open(&self.base, PLACE).map_err(refused)?;
        for end in (0..=folder.len()).filter(|at| folder.get(*at).is_none_or(|byte| *byte == b'/')) {
            let (_, name) = split(&folder[..end]);
            open = match self.inside.open(&self.full(&folder[..end]), PLACE) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&open, name, Mode::from_raw_mode(0o755)).map_err(refused)?;
                    let made = rustix::fs::openat(&open, name, FOLDER, Mode::empty()).map_err(refused)?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(refused)?;
                    if let Some((uid, gid)) = self.placement.owner {
                        chown(&made, uid, gid).map_err(refused)?;
                    }
                    made
                }
                other => other.map_err(refused)?,
            };
        }
        Ok(open)
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        there: Option<&Stat>,
        attributes: Attributes,
    ) -> Result<(), InsideError> {
        let refused = |error| refusal(path, error);
        if there.is_some_and(|stat| !is_directory(stat)) {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(refused)?;
        }
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(refused(error)),
        }
        let made = rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(refused)?;
        let stat = rustix::fs::fstat(&made).map_err(refused)?;
        self.folders.insert(path.to_vec(), Folder { attributes, identity: (stat.st_dev, stat.st_ino) });
        Ok(())
    }

    fn remove_folder(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), InsideError> {
        let refused = |error| refusal(path, error);
        let folder = rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(refused)?;
        crate::tree::empty(&folder).map_err(refused)?;
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(refused)?;
        let below = [path, b"/"].concat();
        self.folders.retain(|known, _| known != path && !known.starts_with(&below));
        self.last = None;
        Ok(())
    }

    /// Makes what is no folder, under a name of ours.
    fn make<R: BufRead>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        coming: Coming<'_>,
        reader: &mut Reader<R>,
    ) -> Result<(), InsideError> {
        let Coming { path, entry, attributes } = coming;
        let refused = |error| refusal(path, error);
        let device = |major, minor| rustix::fs::makedev(major, minor);
        let (kind, device) = match &entry.kind {
            EntryKind::File => return file(parent, name, coming, reader),
            EntryKind::HardLink(target) => return self.hard_link(parent, name, path, target),
            EntryKind::Symlink(target) => {
                rustix::fs::symlinkat(target, parent, name).map_err(refused)?;
                (FileType::Symlink, 0)
            }
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::CharDevice { major, minor } => (FileType::CharacterDevice, device(*major, *minor)),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, device(*major, *minor)),
            EntryKind::Directory => return Err(refused(Errno::ISDIR)),
        };
        if kind != FileType::Symlink {
            rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device).map_err(refused)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(refused)?;
        let stat = rustix::fs::fstat(&made).map_err(refused)?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Err(refused(Errno::AGAIN));
        }
        chown(&made, attributes.uid, attributes.gid).map_err(refused)?;
        if kind != FileType::Symlink {
            // An O_PATH descriptor cannot be changed itself; this is the file that it stands for.
            let itself = format!("/proc/self/fd/{}", made.as_raw_fd());
            rustix::fs::chmod(itself, Mode::from_raw_mode(attributes.mode)).map_err(refused)?;
        }
        let times = modified(attributes.time);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)
    }

    /// Links an earlier entry, which is found like everything else: inside.
    fn hard_link(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], target: &[u8]) -> Result<(), InsideError> {
        let refused = |error| refusal(path, error);
        let target = self.named(clean(target)?);
        let (folder, last) = split(&target);
        let source = self.inside.open(&self.full(folder), PLACE).map_err(refused)?;
        if is_kernels(&source).map_err(refused)? {
            return Err(refused(Errno::PERM));
        }
        rustix::fs::linkat(&source, last, parent, name, AtFlags::empty()).map_err(refused)
    }

    /// Gives folders their owner, mode, attributes and times, after everything in them was made.
    fn finish(self) -> Result<(), InsideError> {
        for (path, folder) in &self.folders {
            let refused = |error| refusal(path, error);
            let (above, name) = split(path);
            let parent = self.inside.open(&self.full(above), PLACE).map_err(refused)?;
            let open = rustix::fs::openat(&parent, name, FOLDER, Mode::empty()).map_err(refused)?;
            let stat = rustix::fs::fstat(&open).map_err(refused)?;
            if (stat.st_dev, stat.st_ino) != folder.identity {
                // Another one was put in its place meanwhile: that is not ours to change.
                continue;
            }
            let Attributes { mode, uid, gid, time, .. } = &folder.attributes;
            chown(&open, *uid, *gid).map_err(refused)?;
            rustix::fs::fchmod(&open, Mode::from_raw_mode(*mode)).map_err(refused)?;
            set_xattrs(&open, &folder.attributes).map_err(refused)?;
            rustix::fs::futimens(&open, &modified(*time)).map_err(refused)?;
        }
        Ok(())
    }
}

fn file<R: BufRead>(
    parent: &OwnedFd,
    name: &[u8],
    coming: Coming<'_>,
    reader: &mut Reader<R>,
) -> Result<(), InsideError> {
    let Coming { path, entry, attributes } = coming;
    let refused = |error| refusal(path, error);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(refused)?;
    match &entry.sparse {
        None => copy_data(reader, &file, None, entry.size, path)?,
        Some(segments) => {
            for segment in segments {
                copy_data(reader, &file, Some(segment.offset), segment.len, path)?;
            }
            rustix::fs::ftruncate(&file, entry.size).map_err(refused)?;
        }
    }
    chown(&file, attributes.uid, attributes.gid).map_err(refused)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode)).map_err(refused)?;
    set_xattrs(&file, attributes).map_err(refused)?;
    rustix::fs::futimens(&file, &modified(attributes.time)).map_err(refused)
}

fn chown(fd: &OwnedFd, uid: u32, gid: u32) -> Result<(), Errno> {
    rustix::fs::chownat(fd, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

/// Sets what a layer would keep too, where the file system has it.
fn set_xattrs(fd: &OwnedFd, attributes: &Attributes) -> Result<(), Errno> {
    for (name, value) in attributes.xattrs.iter().filter(|(name, _)| keeps_xattr(name)) {
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
