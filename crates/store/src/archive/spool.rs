//! The files of an image archive, hashed and put aside as they come.
//!
//! Small files that are no layers stay in memory, the others go to the store's temporary folder; what looks like a layer
//! is handed to the unpackers at once. Links inside the archive are resolved here, and only inside the archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use atoll_oci::{Compression, Digest, Hasher};

use super::{ARCHIVE_BYTES_MAX, ARCHIVE_FILES_MAX, ArchiveError, Job, Progress};
use crate::blob::PIECE;
use crate::error::{Error, Result};
use crate::tar::{self, BLOCK, Entry, EntryKind};

/// Largest file that is kept in memory, bytes.
const SMALL: u64 = 1 << 20;
/// Most bytes kept in memory by one import.
const MEMORY_MAX: u64 = 64 << 20;
/// Most links that one path leads through.
const LINKS_MAX: usize = 16;
/// Longest file name that is kept, bytes.
const NAME_MAX: usize = 4096;

/// A file of the archive. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Spooled {
    pub(super) digest: Digest,
    pub(super) size: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Memory(Arc<Vec<u8>>),
    Disk(PathBuf),
}

impl Spooled {
    pub(super) fn in_memory(digest: Digest, bytes: Vec<u8>) -> Self {
        Self { digest, size: bytes.len() as u64, content: Content::Memory(Arc::new(bytes)) }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Read + '_>> {
        Ok(match &self.content {
            Content::Memory(bytes) => Box::new(bytes.as_slice()),
            Content::Disk(path) => Box::new(File::open(path).map_err(Error::io("open", path))?),
        })
    }

    pub(super) fn bytes(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(ArchiveError::Limit("size of a manifest or configuration").into());
        }
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(Error::Source)?;
        Ok(bytes)
    }

    /// A file below the store's temporary folder with this content.
    pub(super) fn on_disk(&self, fresh: impl FnOnce() -> PathBuf) -> Result<PathBuf> {
        match &self.content {
            Content::Disk(path) => Ok(path.clone()),
            Content::Memory(bytes) => {
                let path = fresh();
                std::fs::write(&path, bytes.as_slice()).map_err(Error::io("write", &path))?;
                Ok(path)
            }
        }
    }
}

/// What a path of the archive is.
#[derive(Debug)]
enum Node {
    File(Spooled),
    /// A path inside the archive, clean.
    Link(String),
}

/// The files of an archive that was read to its end.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<String, Node>);

impl Files {
    pub(super) fn has(&self, path: &str) -> bool {
        self.get(path).is_ok()
    }

    /// The file at `path`, links followed.
    pub(super) fn get(&self, path: &str) -> Result<Spooled, ArchiveError> {
        let mut current = clean(path)?;
        for _ in 0..LINKS_MAX {
            match self.0.get(&current) {
                Some(Node::File(file)) => return Ok(file.clone()),
                Some(Node::Link(target)) => current.clone_from(target),
                None => return Err(ArchiveError::Missing(path.into())),
            }
        }
        Err(ArchiveError::Path(path.into()))
    }
}

/// An archive that is being read.
pub(super) struct Spool<'a> {
    folder: PathBuf,
    jobs: SyncSender<Job>,
    progress: &'a (dyn Fn(Progress) + Sync),
    files: Files,
    read: u64,
    in_memory: u64,
    count: usize,
}

impl<'a> Spool<'a> {
    pub(super) fn new(folder: PathBuf, jobs: SyncSender<Job>, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        Self { folder, jobs, progress, files: Files::default(), read: 0, in_memory: 0, count: 0 }
    }

    /// Ends the jobs and gives the files.
    pub(super) fn close(self) -> Files {
        self.files
    }

    /// Reads the whole archive.
    pub(super) fn read(&mut self, stream: impl Read) -> Result<()> {
        let mut reader = tar::Reader::new(BufReader::with_capacity(PIECE, stream));
        while let Some(entry) = reader.next_entry()? {
            self.count += 1;
            if self.count > ARCHIVE_FILES_MAX {
                return Err(ArchiveError::Limit("number of files").into());
            }
            let shown = String::from_utf8_lossy(&entry.path).into_owned();
            let named = String::from_utf8(entry.path.clone()).ok().filter(|p| p.len() <= NAME_MAX);
            let path = clean(&named.ok_or_else(|| ArchiveError::Path(shown.chars().take(200).collect()))?)?;
            match &entry.kind {
                EntryKind::Directory => {}
                EntryKind::File => {
                    let file = self.file(&entry, &path, &mut reader)?;
                    self.add(path, file)?;
                }
                EntryKind::Symlink(target) => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                    self.link(path, &folder, target)?;
                }
                EntryKind::HardLink(target) => self.link(path, "", target)?,
                _ => return Err(ArchiveError::Path(path).into()),
            }
        }
        Ok(())
    }

    fn link(&mut self, path: String, folder: &str, target: &[u8]) -> Result<()> {
        let target = std::str::from_utf8(target).ok().filter(|t| !t.starts_with('/') && t.len() <= NAME_MAX);
        let resolved = target.and_then(|t| clean(&format!("{folder}/{t}")).ok());
        let target = resolved.ok_or_else(|| ArchiveError::Path(path.clone()))?;
        if self.files.0.contains_key(&path) {
            return Err(ArchiveError::Duplicate(path).into());
        }
        self.files.0.insert(path, Node::Link(target));
        Ok(())
    }

    fn add(&mut self, path: String, file: Spooled) -> Result<()> {
        if let Some(before) = self.files.0.get(&path) {
            let same = matches!(before, Node::File(before) if before.digest == file.digest);
            return if same { Ok(()) } else { Err(ArchiveError::Duplicate(path).into()) };
        }
        self.files.0.insert(path, Node::File(file));
        Ok(())
    }

    fn file<R: io::BufRead>(&mut self, entry: &Entry, path: &str, reader: &mut tar::Reader<R>) -> Result<Spooled> {
        if entry.sparse.is_some() {
            return Err(ArchiveError::Path(path.into()).into());
        }
        if self.read.saturating_add(entry.size) > ARCHIVE_BYTES_MAX {
            return Err(ArchiveError::Limit("size").into());
        }
        let named = digest_of_path(path);
        let mut hasher = named.as_ref().map_or_else(Hasher::sha256, Hasher::for_digest);
        // Enough of the start to tell a layer from a document.
        let mut start = vec![0; usize::try_from(entry.size).unwrap_or(BLOCK).min(BLOCK)];
        reader.read_exact(&mut start).map_err(Error::Source)?;
        hasher.update(&start);
        let is_layer = Compression::sniff(&start) != Compression::None || tar::looks_like_header(&start);
        let small = !is_layer && entry.size <= SMALL && self.in_memory + entry.size <= MEMORY_MAX;
        self.count_read(start.len());
        let content = if small {
            let mut bytes = start;
            let rest = reader.read_all(SMALL)?;
            hasher.update(&rest);
            bytes.extend_from_slice(&rest);
            self.count_read(rest.len());
            self.in_memory += entry.size;
            Content::Memory(Arc::new(bytes))
        } else {
            Content::Disk(self.spill(&start, reader, &mut hasher)?)
        };
        let digest = hasher.finish();
        if named.is_some_and(|named| named != digest) {
            return Err(ArchiveError::Digest { path: path.into(), found: digest }.into());
        }
        let file = Spooled { digest, size: entry.size, content };
        if is_layer && !self.files.0.values().any(|n| matches!(n, Node::File(f) if f.digest == file.digest)) {
            // The queue has room for every file of the largest archive, and ends only with this reader.
            let _unpackers_gone = self.jobs.send(file.clone());
        }
        Ok(file)
    }

    fn spill<R: io::BufRead>(
        &mut self,
        start: &[u8],
        reader: &mut tar::Reader<R>,
        hasher: &mut Hasher,
    ) -> Result<PathBuf> {
        let path = self.folder.join(self.count.to_string());
        let mut file = File::create_new(&path).map_err(Error::io("make", &path))?;
        file.write_all(start).map_err(Error::io("write", &path))?;
        loop {
            let piece = reader.chunk(PIECE)?;
            if piece.is_empty() {
                return Ok(path);
            }
            hasher.update(piece);
            file.write_all(piece).map_err(Error::io("write", &path))?;
            let len = piece.len();
            reader.consume(len);
            self.count_read(len);
        }
    }

    fn count_read(&mut self, len: usize) {
        /// Bytes between two reports.
        const STEP: u64 = 4 << 20;
        let before = self.read / STEP;
        self.read += len as u64;
        if self.read / STEP != before {
            (self.progress)(Progress::Read(self.read));
        }
    }
}

/// A path without `.`, empty parts and `..`; the latter must not lead outside, and neither may the path be absolute.
pub(super) fn clean(path: &str) -> Result<String, ArchiveError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| ArchiveError::Path(path.into()))?;
            }
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The digest that a path of an OCI layout promises.
fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
