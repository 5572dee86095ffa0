//! One file of a log, in either format, compressed or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atoll_wall::launch::LogFormat;
use atoll_wall::log::json::{self, LINE_MAX};
use atoll_wall::log::{self, Corrupt, FILE_HEADER, Stream};
use flate2::read::GzDecoder;

use super::{LogRecord, Tail};

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;

/// Which file this is, whatever its name is now: inode and device, which nobody gets while the file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(meta: &std::fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }

    /// As the comment of a compressed file names the one that it was made of.
    pub(super) fn note(self) -> String {
        format!("{}:{}", self.device, self.inode)
    }

    fn parse(note: &[u8]) -> Option<Self> {
        let (device, inode) = std::str::from_utf8(note).ok()?.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct LogFile {
    content: Content,
    codec: Codec,
    /// Of this file, and of the one that it was compressed from.
    identity: Identity,
    origin: Option<Identity>,
    /// The number in its header; 0 without one.
    sequence: u64,
    /// Where the buffer's first byte is in the (expanded) file.
    position: u64,
    buffer: Vec<u8>,
    used: usize,
}

#[derive(Debug)]
enum Content {
    Plain(File),
    Packed(Box<GzDecoder<File>>),
}

#[derive(Clone, Copy, Debug)]
enum Codec {
    Records,
    Lines,
}

impl Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Packed(decoder) => decoder.read(buffer),
        }
    }
}

impl LogFile {
    /// Opens the file of one age, unless there is none or its header is not yet whole.
    pub(super) fn open(folder: &Path, format: &LogFormat, age: u32) -> io::Result<Option<Self>> {
        let codec = match format {
            LogFormat::Json { .. } => Codec::Lines,
            LogFormat::Records | LogFormat::Nothing => Codec::Records,
        };
        // The plain form first: where both are there, it is the one that counts.
        let (file, packed) = match open(&folder.join(format.file_name(age)))? {
            Some(file) => (file, false),
            None => match open(&folder.join(format.packed_name(age)))? {
                Some(file) => (file, true),
                None => return Ok(None),
            },
        };
        let identity = Identity::of(&file.metadata()?);
        let (content, origin) = if packed {
            let decoder = GzDecoder::new(file);
            let origin = decoder.header().and_then(flate2::GzHeader::comment).and_then(Identity::parse);
            (Content::Packed(Box::new(decoder)), origin)
        } else {
            (Content::Plain(file), None)
        };
        let mut open = Self { content, codec, identity, origin, sequence: 0, position: 0, buffer: Vec::new(), used: 0 };
        Ok(open.read_head()?.then_some(open))
    }

    /// Whether the head of the file is there.
    fn read_head(&mut self) -> io::Result<bool> {
        if matches!(self.codec, Codec::Lines) {
            return Ok(true);
        }
        while self.buffer.len() < FILE_HEADER {
            if !self.fill()? {
                return Ok(false);
            }
        }
        let head = self.buffer.first_chunk::<FILE_HEADER>().ok_or(ErrorKind::UnexpectedEof)?;
        self.sequence = log::decode_header(head).map_err(damaged)?;
        self.used = FILE_HEADER;
        Ok(true)
    }

    /// Whether `later` is this file, or what it was compressed into. Not the other way round, and not of a compressed file: the
    /// inode that compression freed is given to the next one, often the next compressed file.
    pub(super) fn is_or_became(&self, later: &Self) -> bool {
        let plain = matches!(self.content, Content::Plain(_));
        self.identity == later.identity || (plain && later.origin == Some(self.identity))
    }

    /// Whether a file with this metadata is this one.
    pub(super) fn has(&self, meta: &std::fs::Metadata) -> bool {
        self.identity == Identity::of(meta)
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.position + self.used as u64
    }

    /// Goes on at a place that [`LogFile::offset`] named.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Plain(file) => {
                file.seek(SeekFrom::Start(offset))?;
                self.position = offset;
                self.buffer.clear();
                self.used = 0;
            }
            Content::Packed(decoder) => {
                let mut file = decoder.get_ref().try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                **decoder = GzDecoder::new(file);
                (self.position, self.used) = (0, 0);
                self.buffer.clear();
                while self.position + (self.buffer.len() as u64) < offset {
                    self.position += self.buffer.len() as u64;
                    self.buffer.clear();
                    if !self.fill()? {
                        break;
                    }
                }
                self.used = usize::try_from(offset.saturating_sub(self.position)).unwrap_or(0).min(self.buffer.len());
            }
        }
        Ok(())
    }

    /// Goes on at a place that an earlier reader named, or at the end where the file is shorter now.
    pub(super) fn resume(&mut self, offset: u64) -> io::Result<()> {
        let shorter = match &self.content {
            Content::Plain(file) => file.metadata()?.len() < offset,
            Content::Packed(_) => false,
        };
        if shorter {
            while self.next_record()?.is_some() {}
            return Ok(());
        }
        if offset > self.offset() { self.seek(offset) } else { Ok(()) }
    }

    pub(super) fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some((record, length)) = decode(self.codec, &self.buffer[self.used..])? {
                self.used += length;
                return Ok(Some(record));
            }
            if self.buffer.len() - self.used > LINE_MAX {
                return Err(damaged(Corrupt::Line));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on; whether there was something.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.position += self.used as u64;
        self.used = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + BLOCK, 0);
        let count = self.content.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + *count.as_ref().unwrap_or(&0));
        if count? > 0 {
            return Ok(true);
        }
        // Who waits for more keeps no room for it.
        self.buffer.shrink_to_fit();
        if let (Content::Plain(file), Codec::Lines) = (&mut self.content, self.codec)
            && file.metadata()?.len() < self.position + self.buffer.len() as u64
        {
            // Somebody emptied it, as people do with Docker's: what is written now stands at its beginning.
            file.seek(SeekFrom::Start(0))?;
            self.position = 0;
            self.buffer.clear();
            return Ok(file.metadata()?.len() > 0);
        }
        Ok(false)
    }

    /// Where the last `tail.lines` lines begin, and how many there are if fewer. A line of a stream begins where the one before
    /// has ended.
    pub(super) fn tail_offset(&mut self, tail: Tail) -> io::Result<(u64, usize)> {
        let mut starts = std::collections::VecDeque::new();
        let mut within = [false; 2];
        let mut position = self.offset();
        while let Some(record) = self.next_record()? {
            let (wanted, within) = match record.stream {
                Stream::Stdout => (tail.stdout, &mut within[0]),
                Stream::Stderr => (tail.stderr, &mut within[1]),
            };
            if wanted && !*within {
                starts.push_back(position);
                if starts.len() > tail.lines {
                    starts.pop_front();
                }
            }
            *within = record.partial;
            position = self.offset();
        }
        Ok((starts.front().copied().unwrap_or(position), starts.len()))
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The record at the start of `bytes` and its length, unless it is cut off.
fn decode(codec: Codec, bytes: &[u8]) -> io::Result<Option<(LogRecord, usize)>> {
    match codec {
        Codec::Records => {
            let record = log::decode(bytes).map_err(damaged)?;
            let owned = |record: log::Record<'_>| {
                let attributes = BTreeMap::new();
                let log::Record { stream, at, partial, payload } = record;
                (LogRecord { stream, at, partial, bytes: payload.to_vec(), attributes }, record.encoded_len())
            };
            Ok(record.map(owned))
        }
        Codec::Lines => {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
            let json::Line { stream, at, text, attributes } = json::decode(&bytes[..end]).map_err(damaged)?;
            let bytes = text.into_owned().into_bytes();
            let partial = bytes.last() != Some(&b'\n');
            Ok(Some((LogRecord { stream, at, partial, bytes, attributes }, end + 1)))
        }
    }
}

fn damaged(error: Corrupt) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
