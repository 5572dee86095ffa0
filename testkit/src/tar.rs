//! A small tar writer for test images (POSIX ustar; names up to 100 bytes).
//!
//! Deliberately not the engine's own: an image that one implementation writes should be read by another.

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A regular file with its content.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to a target.
    Symlink(String),
    /// A further name of an earlier file.
    HardLink(String),
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
    /// User and group.
    pub(crate) owner: (u32, u32),
}

/// Modification time of all entries: 2020-01-01T00:00:00Z, in seconds.
const MODIFIED: u64 = 1_577_836_800;
const BLOCK: usize = 512;

/// The archive of `entries` with its two closing blocks.
pub(crate) fn archive<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let content: &[u8] = if let Kind::File(content) = &entry.kind { content } else { &[] };
        out.extend_from_slice(&header(entry, content.len()));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// Header block (POSIX.1 pax, "ustar Interchange Format").
fn header(entry: &Entry, size: usize) -> [u8; BLOCK] {
    let (flag, target) = match &entry.kind {
        Kind::File(_) => (b'0', ""),
        Kind::HardLink(target) => (b'1', target.as_str()),
        Kind::Symlink(target) => (b'2', target.as_str()),
        Kind::Folder => (b'5', ""),
    };
    let mut block = [0; BLOCK];
    let mut put = |at: usize, width: usize, bytes: &[u8]| {
        assert!(bytes.len() <= width, "{:?} does not fit a ustar header", String::from_utf8_lossy(bytes));
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, 100, entry.name.as_bytes());
    put(100, 8, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, 8, format!("{:07o}\0", entry.owner.0).as_bytes());
    put(116, 8, format!("{:07o}\0", entry.owner.1).as_bytes());
    put(124, 12, format!("{size:011o}\0").as_bytes());
    put(136, 12, format!("{MODIFIED:011o}\0").as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[flag]);
    put(157, 100, target.as_bytes());
    put(257, 8, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
