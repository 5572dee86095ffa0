//! A root file system on paper: what the packages and our own additions put where, before any of it is written.
//!
//! Entries are added with paths as packages spell them; parents are resolved through the tree's own symbolic links (so
//! that `/bin/sh` lands in `/usr/bin` of a merged `/usr`). Contents wait in one spool file; the layer is written sorted.
//! Left out: extended attributes (packages have none) and removal of folders.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of one tree.
pub const ENTRIES_MAX: usize = 2_000_000;
/// Depth of folders.
pub const DEPTH_MAX: usize = 256;
/// Links followed for one path.
const LINKS_MAX: usize = 40;
/// Contents up to this many bytes are read as one piece by [`Tree::read`].
pub const READ_MAX: u64 = 64 << 20;

/// Why an entry cannot stand where it is put.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path climbs out, is empty or too deep.
    #[error("path \"{0}\" is not allowed")]
    Path(String),
    /// A parent is a file, or links lead around in circles.
    #[error("path \"{0}\" leads through something that is no folder")]
    NotFolder(String),
    /// A folder stands where something else is to be put.
    #[error("\"{0}\" is a folder already")]
    IsFolder(String),
    /// A hard link to something that is not there.
    #[error("hard link \"{path}\" leads to \"{target}\", which is no file of its package")]
    HardLink {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// More than [`ENTRIES_MAX`].
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
    /// The spool cannot be written or read, or the contents ended early.
    #[error("cannot keep the contents of the packages")]
    Spool(#[from] io::Error),
}

/// Owner, mode and time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
}

impl Meta {
    /// An entry of root.
    pub fn root(mode: u32, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }
}

/// Handle of a regular file; hard links share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder(Meta),
    /// A regular file, or one of its hard links.
    File(FileId),
    /// A symbolic link and its target.
    Link(Meta, Vec<u8>),
    /// A device (`block`, major, minor).
    Device(Meta, bool, u32, u32),
    /// A named pipe.
    Fifo(Meta),
}

#[derive(Debug, Clone, Copy)]
struct Contents {
    meta: Meta,
    offset: u64,
    size: u64,
}

/// A root file system under construction. Paths are bytes without a leading slash.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    files: Vec<Contents>,
    spool: File,
    end: u64,
    latest: i64,
}

impl Tree {
    /// An empty tree that spools contents in an unnamed file of `folder`; no time in it will be later than `latest`.
    pub fn new(folder: &Path, latest: i64) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("tree.{}.{number}.part", std::process::id()));
        let spool = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { nodes: BTreeMap::new(), files: Vec::new(), spool, end: 0, latest })
    }

    /// All entries, parents before children, sorted by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// The entry at a path, parents resolved, the last component not.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let resolved = self.resolve(path.as_bytes(), false).ok()?;
        self.nodes.get(&resolved)
    }

    /// Owner, mode, time and size of a file.
    pub fn file(&self, id: FileId) -> (Meta, u64) {
        (self.files[id.0].meta, self.files[id.0].size)
    }

    /// The contents of a file as a stream.
    pub fn open(&self, id: FileId) -> Result<impl Read + use<>, Error> {
        let contents = self.files[id.0];
        let mut spool = self.spool.try_clone()?;
        spool.seek(SeekFrom::Start(contents.offset))?;
        Ok(spool.take(contents.size))
    }

    /// The contents of the regular file at a path (last link followed); `None` if there is none or it is beyond [`READ_MAX`].
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Ok(resolved) = self.resolve(path.as_bytes(), true) else { return Ok(None) };
        match self.nodes.get(&resolved) {
            Some(Node::File(id)) if self.files[id.0].size <= READ_MAX => {
                let mut bytes = Vec::new();
                self.open(*id)?.read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// Puts a folder; one that is there stays as it is, also behind a link.
    pub fn folder(&mut self, path: &[u8], meta: Meta) -> Result<(), Error> {
        let resolved = self.resolve(path, false)?;
        if resolved.is_empty() {
            return Ok(());
        }
        match self.nodes.get(&resolved) {
            Some(Node::Folder(_)) => Ok(()),
            Some(Node::Link(..)) => {
                let behind = self.resolve(path, true)?;
                match self.nodes.get(&behind) {
                    None | Some(Node::Folder(_)) => self.insert(behind, Node::Folder(meta)),
                    Some(_) => Err(Error::NotFolder(text(path))),
                }
            }
            _ => self.insert(resolved, Node::Folder(meta)),
        }
    }

    /// Puts a folder, changing owner and mode of one that is there.
    pub fn set_folder(&mut self, path: &str, meta: Meta) -> Result<(), Error> {
        self.folder(path.as_bytes(), meta)?;
        let resolved = self.resolve(path.as_bytes(), true)?;
        self.insert(resolved, Node::Folder(meta))
    }

    /// Puts a symbolic link.
    pub fn link(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), Error> {
        self.place(path, Node::Link(meta, target.to_vec()))
    }

    /// Puts a device or a pipe.
    pub fn special(&mut self, path: &[u8], node: Node) -> Result<(), Error> {
        self.place(path, node)
    }

    /// Puts a regular file of exactly `size` bytes.
    pub fn file_from(&mut self, path: &[u8], meta: Meta, size: u64, input: &mut dyn Read) -> Result<(), Error> {
        self.spool.seek(SeekFrom::Start(self.end))?;
        let copied = io::copy(&mut input.take(size), &mut self.spool)?;
        if copied != size {
            return Err(Error::Spool(io::ErrorKind::UnexpectedEof.into()));
        }
        let id = FileId(self.files.len());
        self.place(path, Node::File(id))?;
        let meta = self.clamp(meta);
        self.files.push(Contents { meta, offset: self.end, size });
        self.end += size;
        Ok(())
    }

    /// Puts a small file that we write.
    pub fn write(&mut self, path: &str, meta: Meta, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        let bytes = bytes.as_ref();
        self.file_from(path.as_bytes(), meta, bytes.len() as u64, &mut &bytes[..])
    }

    /// Puts a hard link to a file that is there.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let resolved = self.resolve(target, false)?;
        match self.nodes.get(&resolved) {
            Some(Node::File(id)) => {
                let id = *id;
                self.place(path, Node::File(id))
            }
            _ => Err(Error::HardLink { path: text(path), target: text(target) }),
        }
    }

    /// Adds the contents of one file again under another path (a copy that shares no inode).
    pub fn copy(&mut self, from: &str, to: &str) -> Result<bool, Error> {
        let resolved = self.resolve(from.as_bytes(), false)?;
        let Some(Node::File(id)) = self.nodes.get(&resolved) else { return Ok(false) };
        let contents = self.files[id.0];
        self.files.push(contents);
        self.place(to.as_bytes(), Node::File(FileId(self.files.len() - 1)))?;
        Ok(true)
    }

    /// Puts anything but a folder; a folder in the way is an error, everything else is replaced.
    fn place(&mut self, path: &[u8], node: Node) -> Result<(), Error> {
        let resolved = self.resolve(path, false)?;
        if resolved.is_empty() {
            return Err(Error::Path(text(path)));
        }
        if matches!(self.nodes.get(&resolved), Some(Node::Folder(_))) {
            return Err(Error::IsFolder(text(path)));
        }
        self.insert(resolved, node)
    }

    fn insert(&mut self, path: Vec<u8>, node: Node) -> Result<(), Error> {
        if self.nodes.len() >= ENTRIES_MAX {
            return Err(Error::TooMany);
        }
        // Parents that no package has come first.
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &path[..at];
            match self.nodes.get(parent) {
                Some(Node::Folder(_)) => {}
                None => {
                    self.nodes.insert(parent.to_vec(), Node::Folder(Meta::root(0o755, self.latest)));
                }
                Some(_) => return Err(Error::NotFolder(text(&path))),
            }
        }
        let node = match node {
            Node::Folder(meta) => Node::Folder(self.clamp(meta)),
            Node::Link(meta, target) => Node::Link(self.clamp(meta), target),
            Node::Device(meta, block, major, minor) => Node::Device(self.clamp(meta), block, major, minor),
            Node::Fifo(meta) => Node::Fifo(self.clamp(meta)),
            Node::File(id) => Node::File(id),
        };
        self.nodes.insert(path, node);
        Ok(())
    }

    fn clamp(&self, meta: Meta) -> Meta {
        Meta { mode: meta.mode & 0o7777, mtime: meta.mtime.clamp(0, self.latest.max(0)), ..meta }
    }

    /// Resolves links in the parents of a path (and its last component if `follow`), inside the tree.
    /// `..` is allowed in targets of links only.
    fn resolve(&self, path: &[u8], follow: bool) -> Result<Vec<u8>, Error> {
        let wrong = || Error::Path(text(path));
        if path.contains(&0) || path.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(wrong());
        }
        let mut rest: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            if done.len() > DEPTH_MAX {
                return Err(wrong());
            }
            if rest.is_empty() && !follow {
                break;
            }
            if let Some(Node::Link(_, target)) = self.nodes.get(&done.join(&b'/')) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::NotFolder(text(path)));
                }
                done.pop();
                if target.starts_with(b"/") {
                    done.clear();
                }
                for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part.to_vec());
                }
            }
        }
        Ok(done.join(&b'/'))
    }
}

/// The components of a path, without empty ones and `.`.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new(&std::env::temp_dir(), 1000).unwrap()
    }

    fn listing(tree: &Tree) -> Vec<String> {
        tree.nodes()
            .map(|(path, node)| {
                let kind = match node {
                    Node::Folder(_) => "/".to_owned(),
                    Node::File(id) => format!("#{}", id.0),
                    Node::Link(_, target) => format!(" -> {}", text(target)),
                    Node::Device(..) => " dev".to_owned(),
                    Node::Fifo(_) => " fifo".to_owned(),
                };
                text(path) + &kind
            })
            .collect()
    }

    #[test]
    fn resolves_through_links() {
        let meta = Meta::root(0o755, 5000);
        let mut tree = tree();
        tree.folder(b"usr/bin", meta).unwrap();
        tree.link(b"bin", meta, b"usr/bin").unwrap();
        tree.folder(b"./bin/", meta).unwrap();
        tree.write("./bin/sh", meta, "x").unwrap();
        tree.hard_link(b"./bin/bash", b"./usr/bin/sh").unwrap();
        tree.link(b"up", meta, b"../../usr").unwrap();
        tree.write("up/bin/new", meta, "y").unwrap();
        tree.link(b"abs", meta, b"/usr/lib").unwrap();
        tree.folder(b"abs", meta).unwrap();
        let expected = [
            "abs -> /usr/lib",
            "bin -> usr/bin",
            "up -> ../../usr",
            "usr/",
            "usr/bin/",
            "usr/bin/bash#0",
            "usr/bin/new#1",
            "usr/bin/sh#0",
            "usr/lib/",
        ];
        assert_eq!(listing(&tree), expected);
        assert_eq!(tree.read("/bin/bash").unwrap(), Some(b"x".to_vec()));
        assert_eq!(tree.file(FileId(0)).0.mtime, 1000);
    }

    #[test]
    fn refuses_tricks() {
        let meta = Meta::root(0o755, 0);
        let mut tree = tree();
        tree.write("file", meta, "x").unwrap();
        tree.link(b"a", meta, b"b").unwrap();
        tree.link(b"b", meta, b"a").unwrap();
        tree.folder(b"dir", meta).unwrap();
        assert!(matches!(tree.write("../x", meta, ""), Err(Error::Path(_))));
        assert!(matches!(tree.write("a/../../x", meta, ""), Err(Error::Path(_))));
        assert!(matches!(tree.write("", meta, ""), Err(Error::Path(_))));
        assert!(matches!(tree.write("a/x", meta, ""), Err(Error::NotFolder(_))));
        assert!(matches!(tree.write("file/x", meta, ""), Err(Error::NotFolder(_))));
        assert!(matches!(tree.write("dir", meta, ""), Err(Error::IsFolder(_))));
        assert!(matches!(tree.hard_link(b"c", b"dir"), Err(Error::HardLink { .. })));
        assert!(matches!(tree.write(&"d/".repeat(300), meta, ""), Err(Error::Path(_))));
        assert!(matches!(tree.file_from(b"short", meta, 9, &mut &b"x"[..]), Err(Error::Spool(_))));
    }
}
