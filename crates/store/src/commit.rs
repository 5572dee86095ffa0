//! An overlay's upper folder as a layer: `docker commit` and build steps.
//!
//! The folder is walked by descriptor in byte order of names and written as a canonical archive, so the same content gives
//! the same digest; whiteouts and opaque folders become what the OCI layer format says. Sockets are left out (they mean
//! nothing to others), and so are access times and fractions of seconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, Result};
use crate::extract::{OPAQUE, PATH_DEPTH_MAX, is_whiteout, keeps_xattr};
use crate::layer::Layer;
use crate::lease::Lease;
use crate::tar::{Entry, EntryKind, Writer};
use crate::tree::FOLDER;

/// How an upper folder becomes a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitOptions {
    /// Times after this one, in seconds since 1970, become it (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
}

/// Longest list of extended attribute names, and longest value: the kernel's own limits.
const XATTR_MAX: usize = 64 << 10;

/// Writes what is below a folder to an archive.
pub(crate) struct Walk<'a, W> {
    writer: &'a mut Writer<W>,
    options: CommitOptions,
    /// Files with several names, by device and inode: the first name written.
    links: HashMap<(u64, u64), Vec<u8>>,
    scratch: Vec<u8>,
}

impl Store {
    /// Makes a layer of what a workload wrote to `upper`, which nobody should be writing to.
    ///
    /// # Errors
    /// Something cannot be read, changed meanwhile, or cannot be in a layer.
    pub fn commit_upper(&self, lease: &Lease, upper: &Path, options: CommitOptions) -> Result<Layer> {
        let folder = crate::tree::open_folder(upper)?;
        self.build_layer(lease, |writer| Walk::new(writer, options).folder(&folder, &[], 0))
    }
}

impl<'a, W: Write> Walk<'a, W> {
    pub(crate) fn new(writer: &'a mut Writer<W>, options: CommitOptions) -> Self {
        Self { writer, options, links: HashMap::new(), scratch: vec![0; XATTR_MAX] }
    }

    /// Everything in `folder`, whose own path in the archive is `path`, `depth` folders deep.
    pub(crate) fn folder(&mut self, folder: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        if depth > PATH_DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path in the layer", limit: PATH_DEPTH_MAX as u64 });
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(folder).map_err(fail(path))? {
            let name = entry.map_err(fail(path))?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            if name.starts_with(b".wh.") {
                let why = "its name is reserved for whiteouts and cannot be in a layer";
                return Err(Error::Entry { path: String::from_utf8_lossy(&below).into_owned(), why: why.into() });
            }
            self.entry(folder, &name, below, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>, depth: usize) -> Result<()> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail(&path))?;
        if is_whiteout(&stat) {
            let marker = match path.iter().rposition(|b| *b == b'/') {
                Some(at) => [&path[..=at], b".wh.", name].concat(),
                None => [b".wh.", name].concat(),
            };
            return Ok(self.writer.append_bytes(&Entry::file(marker, 0, 0), &[])?);
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
            FileType::Directory => return self.directory(folder, name, &stat, &path, depth),
            FileType::RegularFile => return self.file(folder, name, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(fail(&path))?;
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

    fn directory(&mut self, above: &OwnedFd, name: &[u8], stat: &Stat, path: &[u8], depth: usize) -> Result<()> {
        let folder = rustix::fs::openat(above, name, FOLDER, Mode::empty()).map_err(fail(path))?;
        let mut entry = self.described(stat, path.to_vec(), EntryKind::Directory);
        let opaque = self.xattrs(&folder, &mut entry)?;
        self.writer.append_bytes(&entry, &[])?;
        if opaque {
            let marker = [path, b"/.wh..wh..opq"].concat();
            self.writer.append_bytes(&Entry::file(marker, 0, 0), &[])?;
        }
        self.folder(&folder, path, depth + 1)
    }

    fn file(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(fail(&path))?;
        // What was opened counts, not what was there a moment ago.
        let stat = rustix::fs::fstat(&file).map_err(fail(&path))?;
        let mut entry = self.described(&stat, path, EntryKind::File);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        self.xattrs(&file, &mut entry)?;
        Ok(self.writer.append(&entry, &mut File::from(file))?)
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
            let len = rustix::fs::fgetxattr(fd, name.as_slice(), &mut self.scratch[..]).map_err(fail(&entry.path))?;
            if is_opaque {
                opaque = &self.scratch[..len] == b"y";
            } else {
                entry.xattrs.push((name, self.scratch[..len].to_vec()));
            }
        }
        Ok(opaque)
    }
}

fn fail(path: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |source| Error::Io { action: "read", path: path.into(), source: source.into() }
}
