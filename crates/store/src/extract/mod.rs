//! Extracts a layer archive (OCI image spec, layer) into a folder that becomes the layer.
//!
//! Entries come from a [`tar::Reader`](crate::tar::Reader) in any order; each is made relative to a parent folder's
//! descriptor that the kernel resolved inside the root (`openat2`, `RESOLVE_IN_ROOT`), so no path of the archive is ever
//! resolved against the host's. What folders finally look like is recorded and applied at the end.
//!
//! The layer format: whiteouts `.wh.NAME` are character devices 0:0, opaque folders carry `user.overlay.opaque=y` (the
//! overlay is mounted with `userxattr`). Devices 0:0, sockets and overlay attributes that come *from* an archive are
//! dropped; of the extended attributes `user.*`, `security.capability` and POSIX ACLs are kept, all others (SELinux labels,
//! IMA, `trusted.*`) dropped, because they mean something only on the host that wrote them.

mod entry;
mod folders;
mod name;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::tar;
pub(crate) use entry::{attributes, copy as copy_data, keeps_xattr};
use folders::Folders;
pub(crate) use folders::is_whiteout;
pub(crate) use name::{clean, split};

/// Largest unpacked size of a layer, bytes, holes included.
pub const LAYER_BYTES_MAX: u64 = 64 << 30;
/// Most entries of a layer.
pub const LAYER_ENTRIES_MAX: u64 = 2_000_000;
/// Most components of a path.
pub const PATH_DEPTH_MAX: usize = 256;

/// The attribute that makes a folder hide what lies below it.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// What an extraction made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes of regular files, as their headers say.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Devices that this process may not make.
    pub skipped_devices: u64,
    /// Extended attributes that were dropped.
    pub dropped_xattrs: u64,
}

/// How a folder is to look in the end.
#[derive(Debug, Default)]
struct Folder {
    attributes: Option<Attributes>,
    opaque: bool,
}

/// Owner, mode, time and extended attributes of an entry.
#[derive(Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) time: Timespec,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An extraction under way.
struct Extractor {
    folders: Folders,
    /// Folders by their path in the layer, for the end.
    pending: BTreeMap<Vec<u8>, Folder>,
    done: Extracted,
    /// New files belong to root already, so that root's need no chown.
    creates_as_root: bool,
}

/// Extracts the archive that `reader` gives into the empty folder `root`.
///
/// # Errors
/// The archive is malformed, hostile or beyond a limit, or the file system refuses; `root` is then half-made and must be
/// deleted.
pub fn extract<R: BufRead>(reader: &mut tar::Reader<R>, root: OwnedFd) -> Result<Extracted> {
    let mut extractor = Extractor {
        folders: Folders::new(root),
        pending: BTreeMap::new(),
        done: Extracted::default(),
        creates_as_root: rustix::process::geteuid().is_root() && rustix::process::getegid().is_root(),
    };
    while let Some(entry) = reader.next_entry()? {
        extractor.entry(entry, reader)?;
    }
    extractor.finish()
}

impl Extractor {
    fn entry<R: BufRead>(&mut self, entry: tar::Entry, reader: &mut tar::Reader<R>) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > LAYER_ENTRIES_MAX {
            return Err(Error::Limit { what: "number of entries of the layer", limit: LAYER_ENTRIES_MAX });
        }
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        if self.done.bytes > LAYER_BYTES_MAX {
            return Err(Error::Limit { what: "unpacked size of the layer", limit: LAYER_BYTES_MAX });
        }
        let path = match name::classify(&entry.path)? {
            name::Name::Ignored => return Ok(()),
            name::Name::Opaque(folder) => return self.opaque(folder),
            name::Name::Whiteout { folder, name } => return self.whiteout(&folder, &name),
            name::Name::Plain(path) => path,
        };
        self.make(&path, entry, reader)
    }

    /// Gives folders their final owner, mode, attributes and times, after everything in them was made.
    fn finish(mut self) -> Result<Extracted> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.entry(Vec::new()).or_default();
        for (path, folder) in pending {
            let fail = |error: Errno| refused(&path, error);
            let fd = self.folders.open_for_attributes(&path).map_err(fail)?;
            if let Some(attributes) = &folder.attributes {
                rustix::fs::fchown(&fd, owner(attributes.uid), group(attributes.gid))
                    .map_err(|error| unowned(&path, attributes, error))?;
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)).map_err(fail)?;
                self.set_xattrs(&fd, &attributes.xattrs, &path)?;
            } else {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(fail)?;
            }
            if folder.opaque {
                rustix::fs::fsetxattr(&fd, OPAQUE, b"y", rustix::fs::XattrFlags::empty()).map_err(fail)?;
            }
            let time = folder.attributes.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |a| a.time);
            rustix::fs::futimens(&fd, &modified(time)).map_err(fail)?;
        }
        Ok(self.done)
    }
}

fn owner(uid: u32) -> Option<rustix::fs::Uid> {
    Some(rustix::fs::Uid::from_raw(uid))
}

fn group(gid: u32) -> Option<rustix::fs::Gid> {
    Some(rustix::fs::Gid::from_raw(gid))
}

pub(crate) fn modified(time: Timespec) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: time }
}

/// The kernel's refusal of an entry. A full disk or a lost device is no fault of the archive and stays an I/O error.
fn refused(path: &[u8], error: Errno) -> Error {
    let shown = show(path);
    match error {
        Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            Error::Io { action: "write layer entry", path: shown.into(), source: error.into() }
        }
        _ => Error::Entry { path: shown, why: std::io::Error::from(error).to_string() },
    }
}

/// The kernel's refusal to give an entry to its owner: in a user namespace there are not all of them.
fn unowned(path: &[u8], attributes: &Attributes, error: Errno) -> Error {
    let Attributes { uid, gid, .. } = attributes;
    match error {
        Errno::INVAL => Error::Entry {
            path: show(path),
            why: format!(
                "it belongs to user {uid}, group {gid}, whom this daemon does not have: its user needs subordinate ids for \
                 them (usermod --add-subuids, --add-subgids)"
            ),
        },
        other => refused(path, other),
    }
}

fn hostile(path: &[u8], why: &str) -> Error {
    Error::Entry { path: show(path), why: why.into() }
}

/// A path for a message: lossy and not longer than a line.
fn show(path: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let mut text = String::from_utf8_lossy(&path[..path.len().min(SHOWN_MAX)]).into_owned();
    if path.len() > SHOWN_MAX {
        text.push('…');
    }
    text
}
