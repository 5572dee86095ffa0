//! A root file system that a workload has in use: looking things up in it, taking them out and putting them in, as archives.
//!
//! ```text
//!   path ──find──► Found ──pack──► archive
//!   archive ──unpack──► files below a path
//! ```
//! The workload is hostile and may be running: it exchanges folders for links while we look. So every path is resolved by
//! the kernel inside the root (`openat2`, `RESOLVE_IN_ROOT`, no magic links), what was found is used by descriptor, and new
//! things are made under a name of ours and renamed to theirs. What the kernel shows as files (`/proc`, `/sys` …) is not
//! there. None of the workload's programs is run, and nothing is executed from its files.

mod path;
#[cfg(test)]
mod tests;
mod unpack;
mod user;

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::CommitOptions;
use crate::tar::Writer;
use crate::walk::{Content, Walk};

pub use unpack::Placement;

/// Files of the kernel's own: statfs(2), `f_type`. Reading them may block or do something, writing them does.
const KERNEL_FILE_SYSTEMS: [u64; 18] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
    0x6573_5543, // fusectl
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
    0x0765_5821, // resctrl
];

/// Why something cannot be taken out of a root file system, or put in.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// Nothing is there.
    #[error("there is nothing at {0:?}")]
    NotFound(String),
    /// Where things are to be put is no folder.
    #[error("extraction point is not a directory")]
    NotFolder,
    /// The root file system is read-only.
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    /// Something mounted in it is.
    #[error("mounted volume is marked read-only")]
    ReadOnlyVolume,
    /// A folder would become a file, or a file a folder.
    #[error("cannot overwrite {there} {path:?} with {coming}")]
    Kind {
        /// What is there.
        there: &'static str,
        /// Where.
        path: String,
        /// What would take its place.
        coming: &'static str,
    },
    /// A user or group whom nobody there knows.
    #[error("there is no user or group {0:?} in the container")]
    NoUser(String),
    /// The kernel refuses.
    #[error("{path:?}: {source}")]
    Refused {
        /// What was looked at, read or made.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The archive cannot be read or written, or is not acceptable.
    #[error(transparent)]
    Archive(#[from] crate::Error),
}

impl From<crate::tar::Error> for InsideError {
    fn from(error: crate::tar::Error) -> Self {
        Self::Archive(error.into())
    }
}

/// A root file system, by descriptor.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
}

/// Something in a root file system.
#[derive(Debug)]
pub struct Found {
    item: OwnedFd,
    /// The last part of its path, by which an archive has it: `.` and `/` are names too.
    name: Vec<u8>,
    /// What is known of it.
    pub stat: PathStat,
}

/// What is known of something in a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of its path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions as stat(2) has them.
    pub mode: u32,
    /// When it was last changed: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// Where a symbolic link leads in the end, as an absolute path; empty for everything else.
    pub link_target: String,
}

impl Inside {
    /// Of this folder (an `O_PATH` descriptor).
    #[must_use]
    pub fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// What is at `path`, which is taken from the root on; a link itself, unless the path ends in a slash.
    ///
    /// # Errors
    /// [`InsideError::NotFound`].
    pub fn find(&self, path: &str) -> Result<Found, InsideError> {
        let clean = path::clean(path.as_bytes());
        let as_folder = path.ends_with('/') || path.ends_with("/.") || path == ".";
        let flags = if as_folder { OFlags::DIRECTORY } else { OFlags::NOFOLLOW };
        let refused = |error| refusal(path.as_bytes(), error);
        let item = self.open(&clean, OFlags::PATH | flags).map_err(refused)?;
        if !clean.is_empty() && is_kernels(&item).map_err(refused)? {
            return Err(InsideError::NotFound(path.to_owned()));
        }
        let stat = rustix::fs::fstat(&item).map_err(refused)?;
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let link_target = if link { self.follow(&clean) } else { Vec::new() };
        let name = path::base(path.as_bytes()).to_vec();
        let stat = PathStat {
            name: String::from_utf8_lossy(&name).into_owned(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            link_target: String::from_utf8_lossy(&link_target).into_owned(),
        };
        Ok(Found { item, name, stat })
    }

    /// Everything, as an archive.
    ///
    /// # Errors
    /// Something cannot be read, or `to` fails.
    pub fn pack_all(&self, to: impl Write) -> Result<(), InsideError> {
        let refused = |error| refusal(b"/", error);
        let folder = rustix::fs::openat(&self.root, ".", crate::tree::FOLDER, Mode::empty()).map_err(refused)?;
        let mut writer = Writer::new(to);
        Walk::new(&mut writer, Content::Files, CommitOptions::default()).folder(&folder, b"", 0)?;
        writer.finish()?;
        Ok(())
    }

    /// Opens a clean path.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        crate::tree::open_inside(&self.root, path, flags)
    }

    /// Where a clean path leads when every link in it is followed, as an absolute path; what is not there stays as written.
    fn follow(&self, path: &[u8]) -> Vec<u8> {
        path::follow(path, |prefix| {
            let item = self.open(prefix, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
            rustix::fs::readlinkat(&item, "", Vec::new()).ok().map(std::ffi::CString::into_bytes)
        })
    }

    /// Whether what is written to this folder stays.
    fn check_writable(&self, folder: &OwnedFd, path: &[u8]) -> Result<(), InsideError> {
        let refused = |error| refusal(path, error);
        if !rustix::fs::fstatvfs(folder).map_err(refused)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat: Stat| stat.st_dev);
        let same = device(folder).map_err(refused)? == device(&self.root).map_err(refused)?;
        Err(if same { InsideError::ReadOnlyRoot } else { InsideError::ReadOnlyVolume })
    }
}

impl Found {
    /// Has an archive call it something else.
    pub fn call(&mut self, name: Vec<u8>) {
        self.name = name;
    }

    /// It as an archive, with everything below it; a link itself.
    ///
    /// # Errors
    /// Something cannot be read, or `to` fails.
    pub fn pack(&self, to: impl Write) -> Result<(), InsideError> {
        let mut writer = Writer::new(to);
        let walked = Walk::new(&mut writer, Content::Files, CommitOptions::default());
        { walked }.item(&self.item, self.name.clone(), 0)?;
        writer.finish()?;
        Ok(())
    }
}

/// Whether something is a file of the kernel's own.
pub(crate) fn is_kernels(fd: &OwnedFd) -> Result<bool, Errno> {
    let kind = rustix::fs::fstatfs(fd)?.f_type;
    Ok(KERNEL_FILE_SYSTEMS.contains(&u64::from(kind.cast_unsigned() as u32)))
}

/// What a workload's file is, without following it.
fn look(folder: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn refusal(path: &[u8], error: Errno) -> InsideError {
    let path = String::from_utf8_lossy(path).into_owned();
    match error {
        Errno::NOENT => InsideError::NotFound(path),
        error => InsideError::Refused { path, source: error.into() },
    }
}
