//! One pass over a layer while it streams: hash, keep, decompress, hash again, extract.
//!
//! ```text
//! caller ──pieces──► [inflate thread] ──pieces──► [extract thread]
//!   hashes and keeps the blob                       hashes the archive, writes the folder
//! ```
//! Channels are bounded and pieces are recycled, so a layer costs a few MiB of memory whatever its size. What is staged
//! does not exist yet: [`layer`](crate::layer) syncs, names and records it.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use atoll_oci::{Compression, Descriptor, Digest, Hasher};

use crate::blob::{PIECE, check, discard};
use crate::error::{Error, Result};
use crate::extract::{self, Extracted, LAYER_BYTES_MAX, LAYER_ENTRIES_MAX};
use crate::tar;

/// Pieces under way between two threads.
const QUEUE: usize = 4;
/// Longest plain archive: its files, and 2 KiB of headers and padding for each entry.
const ARCHIVE_BYTES_MAX: u64 = LAYER_BYTES_MAX + LAYER_ENTRIES_MAX * 2048;

/// A layer that was extracted to a temporary folder; removed when dropped before it was taken.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) diff_id: Digest,
    pub(crate) extracted: Extracted,
    pub(crate) folder: Temporary,
    /// Digest and size of what came in, and the file that keeps it.
    pub(crate) blob: Option<(Descriptor, Option<Temporary>)>,
}

/// A path below the session's folder, deleted with what is there when dropped.
#[derive(Debug)]
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.0.exists() {
            discard(&self.0);
        }
    }
}

/// How a layer comes in.
pub(crate) struct Plan<'a> {
    /// Where to extract to; not there yet.
    pub(crate) folder: PathBuf,
    /// Where to keep what came in.
    pub(crate) keep: Option<PathBuf>,
    /// What was promised.
    pub(crate) expected: Option<&'a Descriptor>,
    /// Whether what comes in must be hashed; false when it is a blob already.
    pub(crate) hash: bool,
    pub(crate) compression: Compression,
}

type Piece = Option<Vec<u8>>;

/// Emptied pieces for reuse.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(PIECE))
    }

    fn give(&self, mut piece: Vec<u8>) {
        piece.clear();
        let mut spare = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if spare.len() < 2 * QUEUE {
            spare.push(piece);
        }
    }
}

/// Where the bytes of a layer go as they come: a stream that hashes, keeps and passes on.
#[derive(Debug)]
pub struct LayerWriter {
    next: SyncSender<Piece>,
    /// False once the threads below gave up; bytes are then only hashed, so that a wrong digest is what is reported.
    open: bool,
    hasher: Option<Hasher>,
    keep: Option<(File, PathBuf)>,
    expected: Option<Descriptor>,
    size: u64,
    piece: Vec<u8>,
    pool: PoolHandle,
    failed: Option<Error>,
    /// Whether the stream broke off before its end.
    broken: bool,
}

/// Keeps [`Pool`] out of the public type's debug output.
struct PoolHandle(Pool);

impl std::fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pool")
    }
}

impl LayerWriter {
    /// Adds a piece of at most [`PIECE`] bytes. False when going on is useless.
    fn push(&mut self, piece: Vec<u8>) -> Result<bool> {
        self.size += piece.len() as u64;
        if let Some(expected) = &self.expected
            && self.size > expected.size
        {
            return Err(Error::Size { expected: expected.size, found: self.size });
        }
        if self.size > ARCHIVE_BYTES_MAX {
            return Err(Error::Limit { what: "size of the layer", limit: ARCHIVE_BYTES_MAX });
        }
        if let Some((file, path)) = &mut self.keep {
            file.write_all(&piece).map_err(Error::io("write", path))?;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.open = self.open && self.next.send(Some(piece)).is_ok();
        Ok(self.open || self.expected.is_some())
    }

    /// Reads the whole layer from `reader`.
    pub(crate) fn copy(&mut self, first: Vec<u8>, reader: &mut dyn Read) -> Result<()> {
        let mut piece = first;
        while !piece.is_empty() && self.push(piece)? {
            piece = self.pool.0.take();
            piece.resize(PIECE, 0);
            let len = crate::blob::read_some(reader, &mut piece).inspect_err(|_| self.broken = true)?;
            piece.truncate(len);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !self.piece.is_empty() {
            let last = std::mem::take(&mut self.piece);
            self.push(last)?;
        }
        if self.open {
            // When nobody listens any more, the thread that stopped says why.
            self.open = self.next.send(None).is_ok();
        }
        Ok(())
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stopped = || io::Error::new(io::ErrorKind::BrokenPipe, "the layer is not acceptable");
        let len = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE {
            let next = self.pool.0.take();
            let full = std::mem::replace(&mut self.piece, next);
            match self.push(full) {
                Ok(true) => {}
                Ok(false) => return Err(stopped()),
                Err(error) => {
                    self.failed = Some(error);
                    return Err(stopped());
                }
            }
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end of a channel of pieces, as a buffered stream.
struct Pieces {
    from: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    pool: Pool,
    hasher: Option<Hasher>,
    total: u64,
}

/// What an inner thread reports when its source went away: another thread knows why.
fn abandoned() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the source was abandoned")
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() && !self.ended {
            match self.from.recv() {
                Ok(Some(next)) => {
                    self.pool.give(std::mem::replace(&mut self.piece, next));
                    self.at = 0;
                    self.total += self.piece.len() as u64;
                    if self.total > ARCHIVE_BYTES_MAX {
                        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the layer is too large"));
                    }
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&self.piece);
                    }
                }
                Ok(None) => self.ended = true,
                Err(_) => return Err(abandoned()),
            }
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(buffer.len());
        buffer[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl Pieces {
    fn new(from: Receiver<Piece>, pool: Pool, hasher: Option<Hasher>) -> Self {
        Self { from, piece: Vec::new(), at: 0, ended: false, pool, hasher, total: 0 }
    }
}

/// Runs the threads, lets `drive` write the layer, and gives what was made. `drive`'s own failure wins over all others but
/// a wrong digest.
pub(crate) fn run<E: From<Error>>(
    plan: &Plan<'_>,
    drive: impl FnOnce(&mut LayerWriter) -> Result<(), E>,
) -> Result<Staged, E> {
    run_kept(plan, drive, &|_| {})
}

/// As [`run`]; `broken` is shown the file that keeps what came, where the stream broke off before its end.
pub(crate) fn run_kept<E: From<Error>>(
    plan: &Plan<'_>,
    drive: impl FnOnce(&mut LayerWriter) -> Result<(), E>,
    broken: &dyn Fn(&Path),
) -> Result<Staged, E> {
    std::fs::create_dir(&plan.folder).map_err(Error::io("make", &plan.folder))?;
    let folder = Temporary(plan.folder.clone());
    let kept = plan.keep.clone().map(Temporary);
    let keep = plan
        .keep
        .as_ref()
        .map(|path| File::create_new(path).map(|file| (file, path.clone())).map_err(Error::io("make", path)));
    let keep = keep.transpose()?;
    let pool = Pool::default();
    let (next, raw) = sync_channel(QUEUE);
    let plain = plan.compression == Compression::None;
    let hasher = plan.hash.then(|| plan.expected.map_or_else(Hasher::sha256, |e| Hasher::for_digest(&e.digest)));
    // Of a plain archive one hash serves as both, when it is sha256.
    let one_hash = plain && plan.hash && plan.expected.is_none_or(|e| e.digest.algorithm().as_str() == "sha256");
    let mut writer = LayerWriter {
        next,
        open: true,
        hasher,
        keep,
        expected: plan.expected.cloned(),
        size: 0,
        piece: pool.take(),
        pool: PoolHandle(pool.clone()),
        failed: None,
        broken: false,
    };
    std::thread::scope(|scope| {
        let (archive, inflate) = if plain {
            (raw, None)
        } else {
            let (to, archive) = sync_channel(QUEUE);
            let source = Pieces::new(raw, pool.clone(), None);
            let (pool, compression) = (pool.clone(), plan.compression);
            (archive, Some(scope.spawn(move || inflate(source, compression, &to, &pool))))
        };
        let pieces = Pieces::new(archive, pool.clone(), (!one_hash).then(Hasher::sha256));
        let extracting = scope.spawn(|| extract_pieces(pieces, &plan.folder));
        let driven = drive(&mut writer).and_then(|()| writer.finish().map_err(E::from));
        let LayerWriter { next, open, hasher, size, failed, broken: broke_off, .. } = writer;
        drop(next);
        if let Some(kept) = kept.as_ref().filter(|_| broke_off) {
            broken(&kept.0);
        }
        let inflated = inflate.map_or(Ok(()), join);
        let extracted = join(extracting);
        let digest = hasher.map(Hasher::finish);
        if let Some(error) = failed {
            return Err(error.into());
        }
        if open || plan.expected.is_some() {
            driven?;
        }
        if let (Some(expected), Some(digest)) = (plan.expected, &digest) {
            check(expected, size, digest)?;
        }
        inflated?;
        let (extracted, diff_id) = extracted?;
        let diff_id = match (diff_id, &digest) {
            (Some(diff_id), _) => diff_id,
            (None, Some(digest)) => digest.clone(),
            (None, None) => return Err(E::from(Error::Record("staging"))),
        };
        let media_type = plan.expected.map_or(plan.compression.layer_media_type(), |e| e.media_type.as_str());
        let blob = digest.map(|digest| (Descriptor::new(media_type, digest, size), kept));
        Ok(Staged { diff_id, extracted, folder, blob })
    })
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Decompresses until the end. Says nothing about a source or a listener that went away.
fn inflate(source: Pieces, compression: Compression, to: &SyncSender<Piece>, pool: &Pool) -> Result<()> {
    let mut reader = decoder(source, compression).map_err(Error::Compression)?;
    loop {
        let mut piece = pool.take();
        piece.resize(PIECE, 0);
        match crate::blob::read_some(&mut *reader, &mut piece) {
            Ok(len) => {
                piece.truncate(len);
                let last = len == 0;
                if to.send((!last).then_some(piece)).is_err() || last {
                    return Ok(());
                }
            }
            Err(Error::Source(error)) if is_abandoned(&error) => return Ok(()),
            Err(Error::Source(error)) => return Err(Error::Compression(error)),
            Err(other) => return Err(other),
        }
    }
}

/// A stream that undoes a compression.
pub(crate) fn decoder<'a>(
    source: impl BufRead + Send + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
    })
}

fn is_abandoned(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

fn extract_pieces(pieces: Pieces, folder: &Path) -> Result<(Extracted, Option<Digest>)> {
    let root = crate::tree::open_folder(folder)?;
    let mut reader = tar::Reader::new(pieces);
    let extracted = extract::extract(&mut reader, root)?;
    // What follows the archive's end counts for its digest.
    let mut rest = reader.into_inner();
    loop {
        let len = rest.fill_buf().map_err(|error| Error::Tar(tar::Error::Io(error)))?.len();
        if len == 0 {
            break;
        }
        rest.consume(len);
    }
    Ok((extracted, rest.hasher.map(Hasher::finish)))
}
