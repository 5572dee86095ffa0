//! Writing what is below a folder to an archive.
//!
//! The folder is walked by descriptor in byte order of names. What a name leads to is opened once, without following it or
//! touching what is behind a device, and everything is read from that descriptor: a workload that exchanges names meanwhile
//! gets nothing else into the archive. Sockets are left out (they mean nothing to others), and so are access times and
//! fractions of seconds. What goes away meanwhile is left out; a file that shrinks ends in zeros.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::CommitOptions;
use crate::error::{Error, Result};
use crate::extract::{LAYER_ENTRIES_MAX, OPAQUE, PATH_DEPTH_MAX, is_whiteout, keeps_xattr};
use crate::inside::is_kernels;
use crate::tar::{Entry, EntryKind, Writer};

/// Longest list of extended attribute names, and longest value: the kernel's own limits.
const XATTR_MAX: usize = 64 << 10;
/// What a name leads to, itself.
const ITEM: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a folder that is walked holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The writes of an overlay: devices 0:0 and opaque folders are its signs and become what the OCI layer format says. A
    /// file whose name that format keeps for itself is refused.
    Writes,
    /// Files as a workload sees them. What the kernel shows as files is left out.
    Files,
}

/// Writes what is below a folder to an archive.
pub(crate) struct Walk<'a, W> {
    writer: &'a mut Writer<W>,
    content: Content,
    options: CommitOptions<'a>,
    /// Files with several names, by device and inode: the first name written.
    links: HashMap<(u64, u64), Vec<u8>>,
    scratch: Vec<u8>,
}

impl<'a, W: Write> Walk<'a, W> {
    pub(crate) fn new(writer: &'a mut Writer<W>, content: Content, options: CommitOptions<'a>) -> Self {
        Self { writer, content, options, links: HashMap::new(), scratch: vec![0; XATTR_MAX] }
    }

    /// Everything in `folder`, whose own path in the archive is `path`, `depth` folders deep.
    pub(crate) fn folder(&mut self, folder: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        if depth > PATH_DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path in the layer", limit: PATH_DEPTH_MAX as u64 });
        }
        for name in names(folder, path)? {
            let below = match path {
                b"" | b"/" => [path, &name].concat(),
                path => [path, b"/", &name].concat(),
            };
            if self.content == Content::Writes && name.starts_with(b".wh.") {
                let why = "its name is reserved for whiteouts and cannot be in a layer";
                return Err(Error::Entry { path: String::from_utf8_lossy(&below).into_owned(), why: why.into() });
            }
            match rustix::fs::openat(folder, &name, ITEM, Mode::empty()) {
                Ok(item) => self.item(&item, below, depth)?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(fail(&below)(error)),
            }
        }
        Ok(())
    }

    /// What `item` (an `O_PATH` descriptor) is, under the name `path`, with everything below.
    pub(crate) fn item(&mut self, item: &OwnedFd, path: Vec<u8>, depth: usize) -> Result<()> {
        let stat = rustix::fs::fstat(item).map_err(fail(&path))?;
        if self.content == Content::Writes {
            if is_whiteout(&stat) {
                return Ok(self.writer.append_bytes(&Entry::file(whiteout(&path), 0, 0), &[])?);
            }
            if self.options.leave_out.contains(&path.as_slice()) && is_hollow(item, &stat, &path)? {
                return Ok(());
            }
        }
        if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let kind = EntryKind::HardLink(first.clone());
                let entry = self.described(&stat, path, kind);
                return Ok(self.writer.append_bytes(&entry, &[])?);
            }
            self.links.insert(key, path.clone());
        }
        let device = stat.st_rdev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(item, &stat, &path, depth),
            FileType::RegularFile => return self.file(item, &stat, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(item, "", Vec::new()).map_err(fail(&path))?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            _ => return Ok(()),
        };
        let entry = self.described(&stat, path, kind);
        Ok(self.writer.append_bytes(&entry, &[])?)
    }

    fn directory(&mut self, item: &OwnedFd, stat: &Stat, path: &[u8], depth: usize) -> Result<()> {
        let folder = open_item(item, OFlags::DIRECTORY).map_err(fail(path))?;
        let mut entry = self.described(stat, path.to_vec(), EntryKind::Directory);
        let opaque = self.xattrs(&folder, &mut entry)?;
        self.writer.append_bytes(&entry, &[])?;
        if opaque && self.content == Content::Writes {
            let marker = [path, b"/.wh..wh..opq"].concat();
            self.writer.append_bytes(&Entry::file(marker, 0, 0), &[])?;
        }
        if self.content == Content::Files && is_kernels(&folder).map_err(fail(path))? {
            return Ok(());
        }
        self.folder(&folder, path, depth + 1)
    }

    fn file(&mut self, item: &OwnedFd, stat: &Stat, path: Vec<u8>) -> Result<()> {
        if self.content == Content::Files && is_kernels(item).map_err(fail(&path))? {
            return Ok(());
        }
        let file = open_item(item, OFlags::NONBLOCK).map_err(fail(&path))?;
        let mut entry = self.described(stat, path, EntryKind::File);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        self.xattrs(&file, &mut entry)?;
        Ok(self.writer.append(&entry, &mut Padded(File::from(file)))?)
    }

    fn described(&self, stat: &Stat, path: Vec<u8>, kind: EntryKind) -> Entry {
        let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
        entry.uid = stat.st_uid.into();
        entry.gid = stat.st_gid.into();
        entry.mtime = self.options.clamp_mtime.map_or(stat.st_mtime, |clamp| stat.st_mtime.min(clamp));
        entry
    }

    /// Takes over the attributes that a layer keeps. True when the folder is opaque.
    fn xattrs(&mut self, fd: &OwnedFd, entry: &mut Entry) -> Result<bool> {
        let mut opaque = false;
        let len = match rustix::fs::flistxattr(fd, &mut self.scratch[..]) {
            Err(Errno::OPNOTSUPP) => return Ok(false),
            other => other.map_err(fail(&entry.path))?,
        };
        let names: Vec<Vec<u8>> = self.scratch[..len].split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        for name in names {
            if name == b"user.overlay.redirect" || name == b"user.overlay.metacopy" {
                let why = "the overlay was mounted with redirects or metadata copies, which no layer can say";
                return Err(Error::Entry { path: String::from_utf8_lossy(&entry.path).into_owned(), why: why.into() });
            }
            let is_opaque = name == OPAQUE.as_bytes();
            if !is_opaque && !keeps_xattr(&name) {
                continue;
            }
            let len = match rustix::fs::fgetxattr(fd, name.as_slice(), &mut self.scratch[..]) {
                // It was taken away meanwhile.
                Err(Errno::NODATA) => continue,
                other => other.map_err(fail(&entry.path))?,
            };
            if is_opaque {
                opaque = &self.scratch[..len] == b"y";
            } else {
                entry.xattrs.push((name, self.scratch[..len].to_vec()));
            }
        }
        Ok(opaque)
    }
}

/// The names in a folder, sorted by their bytes.
pub(crate) fn names(folder: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(fail(path))? {
        let name = entry.map_err(fail(path))?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
        if names.len() as u64 > LAYER_ENTRIES_MAX {
            return Err(Error::Limit { what: "number of entries of a folder", limit: LAYER_ENTRIES_MAX });
        }
    }
    names.sort();
    Ok(names)
}

/// Opens what an `O_PATH` descriptor stands for, for reading: that very file, whatever has its name now.
pub(crate) fn open_item(item: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", item.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
}

/// Whether something is as it was made to be mounted over: an empty file or folder.
pub(crate) fn is_hollow(item: &OwnedFd, stat: &Stat, path: &[u8]) -> Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0),
        FileType::Directory => {
            let folder = open_item(item, OFlags::DIRECTORY).map_err(fail(path))?;
            // Folders below are mounted over too: /dev/pts, /dev/shm.
            for name in names(&folder, path)? {
                let below = rustix::fs::openat(&folder, &name, ITEM, Mode::empty()).map_err(fail(path))?;
                let stat = rustix::fs::fstat(&below).map_err(fail(path))?;
                if !is_hollow(&below, &stat, path)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn whiteout(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    [&path[..start], b".wh.", &path[start..]].concat()
}

/// A file that may become shorter while it is read.
struct Padded(File);

impl Read for Padded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            len => Ok(len),
        }
    }
}

pub(crate) fn fail(path: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |source| Error::Io { action: "read", path: path.into(), source: source.into() }
}
