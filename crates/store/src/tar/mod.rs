//! The tar interchange format (POSIX.1-2017 pax, ustar, GNU extensions), read and written without touching files.
//!
//! [`Reader`] turns a byte stream into [`Entry`] values and their data; [`Writer`] does the reverse, deterministically.
//! Hostile input is expected: every length is bounded and every number checked. Multi-volume archives, incremental dumps
//! and the pre-1988 quirks of other vendors are left out.

mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

pub use header::{BLOCK, looks_like_header};
pub use reader::Reader;
pub use sparse::Segment;
pub use writer::Writer;

/// Longest extended header (pax records of one entry), in bytes.
pub const META_MAX: u64 = 1 << 20;
/// Longest path or link target, in bytes: 256 components of 255 bytes.
pub const NAME_BYTES_MAX: usize = 64 << 10;
/// Most data segments of one sparse file.
pub const SPARSE_SEGMENTS_MAX: usize = 1 << 18;
/// Most extended headers before one entry.
const META_HEADERS_MAX: usize = 16;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its data follows.
    File,
    /// Another name of an earlier entry: its path in the archive.
    HardLink(Vec<u8>),
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry of an archive, with everything that its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path as written; not cleaned, never empty, without NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of last change of the content, seconds since 1970.
    pub mtime: i64,
    /// The fraction of that second, nanoseconds.
    pub mtime_nsec: u32,
    /// Length of the file in bytes, holes included; 0 for what has no data.
    pub size: u64,
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file, where the data that follows belongs.
    pub sparse: Option<Vec<Segment>>,
}

impl Entry {
    /// An entry of root's with mtime 0 and no data.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// A regular file of `size` bytes.
    #[must_use]
    pub fn file(path: impl Into<Vec<u8>>, mode: u32, size: u64) -> Self {
        Self { size, ..Self::new(path, EntryKind::File, mode) }
    }
}

/// Why a stream is no archive that we read, or an entry none that we write.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream below failed.
    #[error("the archive cannot be read or written")]
    Io(#[source] std::io::Error),
    /// The stream ends inside an entry.
    #[error("the archive ends in the middle of an entry: it is truncated")]
    Truncated,
    /// A header whose checksum does not match.
    #[error("a header has a wrong checksum: this is no tar archive, or it is corrupt")]
    Checksum,
    /// A number that is malformed or out of range.
    #[error("a header has a malformed {0}")]
    Number(&'static str),
    /// A malformed extended header.
    #[error("an extended header is malformed: {0}")]
    Pax(&'static str),
    /// A malformed sparse map.
    #[error("a sparse map is malformed: {0}")]
    Sparse(&'static str),
    /// A name that is empty, too long, or has a NUL.
    #[error("an entry has a path or link target that is empty, too long, or has a NUL byte")]
    Name,
    /// A kind of entry that we do not know.
    #[error("an entry has the unknown type {0:?}")]
    Kind(char),
    /// More than a named limit.
    #[error("an entry exceeds the limit for its {0}")]
    Limit(&'static str),
    /// The data given has another length than the entry said.
    #[error("the data of an entry is shorter than its header says")]
    Data,
}
