//! Reads an archive entry by entry from a buffered stream.
//!
//! [`Reader::next_entry`] skips what is left of the current entry, folds the extended headers before the next one into
//! an [`Entry`], and stops at its data; [`Reader::chunk`] then lends that data straight out of the stream's buffer.

use std::io::{self, BufRead, Read};

use super::header::{self, BLOCK, RawHeader};
use super::pax::{self, Pax};
use super::sparse::{self, Segment};
use super::{Entry, EntryKind, Error, META_HEADERS_MAX, META_MAX, NAME_BYTES_MAX, SPARSE_SEGMENTS_MAX};

/// A tar archive that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// Bytes of the current entry's data that nobody has read yet.
    remaining: u64,
    /// Bytes between the end of that data and the next header.
    padding: u64,
    global: Pax,
    ended: bool,
}

/// Headers seen before the entry that they describe.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the archive that `inner` gives, uncompressed.
    pub fn new(inner: R) -> Self {
        Self { inner, remaining: 0, padding: 0, global: Pax::default(), ended: false }
    }

    /// The stream below, for what follows the archive.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the end: two zero blocks, or the end of the stream where a header would start.
    ///
    /// # Errors
    /// See [`Error`]; the reader must not be used afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut pending = Pending::default();
        for _ in 0..META_HEADERS_MAX {
            let Some(block) = self.header_block()? else {
                self.ended = true;
                let leftover = pending.pax.is_some() || pending.long_name.is_some() || pending.long_link.is_some();
                return if leftover { Err(Error::Truncated) } else { Ok(None) };
            };
            let raw = RawHeader::parse(&block)?;
            match raw.flag {
                b'x' | b'X' => {
                    let data = self.meta(raw.size, META_MAX, "extended header")?;
                    let mut pax = self.global.clone();
                    pax.apply(&data)?;
                    pending.pax = Some(pax);
                }
                b'g' => {
                    let data = self.meta(raw.size, META_MAX, "extended header")?;
                    self.global.apply_global(&data)?;
                }
                b'L' => pending.long_name = Some(self.long(raw.size)?),
                b'K' => pending.long_link = Some(self.long(raw.size)?),
                // A volume label is a remark.
                b'V' => {
                    self.meta(raw.size, META_MAX, "volume label")?;
                }
                _ => return self.entry(raw, pending).map(Some),
            }
        }
        Err(Error::Limit("extended headers"))
    }

    /// The next bytes of the current entry's data, at most `max`, empty at its end. Take them off with
    /// [`consume`](Self::consume). For a sparse file these are the stored segments, one after another.
    ///
    /// # Errors
    /// The stream fails or ends too early.
    pub fn chunk(&mut self, max: usize) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.inner.fill_buf().map_err(Error::Io)?;
        if available.is_empty() {
            return Err(Error::Truncated);
        }
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(max);
        let len = available.len().min(wanted);
        Ok(&available[..len])
    }

    /// Takes `len` bytes off the front of the data; not more than [`chunk`](Self::chunk) has lent.
    pub fn consume(&mut self, len: usize) {
        let taken = (len as u64).min(self.remaining);
        self.inner.consume(len);
        self.remaining -= taken;
    }

    /// All data of the current entry.
    ///
    /// # Errors
    /// Longer than `limit` bytes, or the stream fails.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.remaining > limit {
            return Err(Error::Limit("size"));
        }
        let mut data = Vec::new();
        loop {
            let piece = self.chunk(usize::MAX)?;
            if piece.is_empty() {
                return Ok(data);
            }
            data.extend_from_slice(piece);
            let len = piece.len();
            self.consume(len);
        }
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        let mut left = self.remaining + self.padding;
        while left > 0 {
            let available = self.inner.fill_buf().map_err(Error::Io)?.len();
            if available == 0 {
                return Err(Error::Truncated);
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
            self.inner.consume(taken);
            left -= taken as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// Fills `buffer`; false when the stream is at its end before the first byte.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        let mut done = 0;
        while done < buffer.len() {
            match self.inner.read(&mut buffer[done..]) {
                Ok(0) if done == 0 => return Ok(false),
                Ok(0) => return Err(Error::Truncated),
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(true)
    }

    /// The next header, or `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0u8; BLOCK];
        if !self.fill(&mut block)? {
            return Ok(None);
        }
        if block.iter().any(|b| *b != 0) {
            return Ok(Some(block));
        }
        if self.fill(&mut block)? && block.iter().any(|b| *b != 0) {
            return Err(Error::Checksum);
        }
        Ok(None)
    }

    fn meta(&mut self, size: u64, limit: u64, what: &'static str) -> Result<Vec<u8>, Error> {
        if size > limit {
            return Err(Error::Limit(what));
        }
        (self.remaining, self.padding) = (size, padding(size));
        let data = self.read_all(limit)?;
        self.skip_rest()?;
        Ok(data)
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut data = self.meta(size, NAME_BYTES_MAX as u64 + 1, "name")?;
        if let Some(end) = data.iter().position(|b| *b == 0) {
            data.truncate(end);
        }
        Ok(data)
    }

    fn entry(&mut self, mut raw: RawHeader, pending: Pending) -> Result<Entry, Error> {
        let pax = pending.pax.unwrap_or_else(|| self.global.clone());
        let path = pax.path.or(pending.long_name).unwrap_or_else(|| std::mem::take(&mut raw.name));
        let link = pax.link.or(pending.long_link).unwrap_or_else(|| std::mem::take(&mut raw.link));
        let kind = kind(&raw, &path, link)?;
        let is_file = matches!(kind, EntryKind::File);
        // As Go's reader has it: only regular files have data, whatever the size field of a link says.
        let has_data = matches!(raw.flag, 0 | b'0' | b'7' | b'S');
        let stored = if has_data { pax.size.unwrap_or(raw.size) } else { 0 };
        if i64::try_from(stored).is_err() {
            return Err(Error::Number("size"));
        }
        (self.remaining, self.padding) = (stored, padding(stored));
        let (mtime, mtime_nsec) = pax.mtime.unwrap_or((raw.mtime, 0));
        let mut entry = Entry {
            path,
            kind,
            mode: raw.mode,
            uid: pax.uid.unwrap_or(raw.uid),
            gid: pax.gid.unwrap_or(raw.gid),
            mtime,
            mtime_nsec,
            size: if is_file { stored } else { 0 },
            xattrs: pax.xattrs,
            sparse: None,
        };
        if is_file {
            self.sparse_map(&mut entry, pax.sparse, raw)?;
        }
        if entry.path.is_empty() || entry.path.len() > NAME_BYTES_MAX || entry.path.contains(&0) {
            return Err(Error::Name);
        }
        Ok(entry)
    }

    /// Finds the sparse map of a file, if it has one, and gives the entry its real size and name.
    fn sparse_map(&mut self, entry: &mut Entry, pax: pax::PaxSparse, raw: RawHeader) -> Result<(), Error> {
        let (segments, real_size) = if let Some(old) = raw.sparse {
            let mut segments = old.segments;
            let mut more = old.more;
            while more {
                let mut block = [0u8; BLOCK];
                if !self.fill(&mut block)? {
                    return Err(Error::Truncated);
                }
                segments.extend(header::sparse_segments(&block[..504])?);
                if segments.len() > SPARSE_SEGMENTS_MAX {
                    return Err(Error::Limit("sparse segments"));
                }
                more = block[504] != 0;
            }
            (segments, old.real_size)
        } else if pax.present {
            let real_size = pax.real_size.ok_or(Error::Sparse("the real size is missing"))?;
            if let Some(name) = pax.name {
                entry.path = name;
            }
            match (pax.major, pax.minor) {
                (Some(1), Some(0)) => (self.map_in_data()?, real_size),
                (None | Some(0), _) => (pax.segments, real_size),
                _ => return Err(Error::Sparse("its version is unknown")),
            }
        } else {
            return Ok(());
        };
        if i64::try_from(real_size).is_err() {
            return Err(Error::Number("size"));
        }
        sparse::check(&segments, real_size, self.remaining)?;
        entry.size = real_size;
        entry.sparse = Some(segments);
        Ok(())
    }

    /// The map of format 1.0: decimal lines at the start of the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<Segment>, Error> {
        let mut used = 0u64;
        let count = self.map_line(&mut used)?;
        let count = usize::try_from(count).ok().filter(|c| *c <= SPARSE_SEGMENTS_MAX);
        let count = count.ok_or(Error::Limit("sparse segments"))?;
        let mut segments = Vec::new();
        for _ in 0..count {
            let offset = self.map_line(&mut used)?;
            let len = self.map_line(&mut used)?;
            segments.push(Segment { offset, len });
        }
        for _ in 0..padding(used) {
            self.data_byte()?;
        }
        Ok(segments)
    }

    fn map_line(&mut self, used: &mut u64) -> Result<u64, Error> {
        let mut digits = Vec::new();
        loop {
            let byte = self.data_byte()?;
            *used += 1;
            if byte == b'\n' {
                return pax::decimal(&digits).ok_or(Error::Sparse("a line is no number"));
            }
            if digits.len() == 20 {
                return Err(Error::Sparse("a line is no number"));
            }
            digits.push(byte);
        }
    }

    fn data_byte(&mut self) -> Result<u8, Error> {
        let byte = *self.chunk(1)?.first().ok_or(Error::Sparse("the map is longer than the data"))?;
        self.consume(1);
        Ok(byte)
    }
}

/// Reads the data of the current entry.
impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.chunk(buffer.len()).map_err(|error| match error {
            Error::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        })?;
        let len = piece.len();
        buffer[..len].copy_from_slice(piece);
        self.consume(len);
        Ok(len)
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn kind(raw: &RawHeader, path: &[u8], link: Vec<u8>) -> Result<EntryKind, Error> {
    let (major, minor) = raw.device;
    let link_target = |link: Vec<u8>| {
        if link.is_empty() || link.len() > NAME_BYTES_MAX || link.contains(&0) { Err(Error::Name) } else { Ok(link) }
    };
    Ok(match raw.flag {
        // Before ustar, a folder was a file whose name ends in a slash.
        0 | b'0' | b'7' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink(link_target(link)?),
        b'2' => EntryKind::Symlink(link_target(link)?),
        b'3' => EntryKind::CharDevice { major, minor },
        b'4' => EntryKind::BlockDevice { major, minor },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(Error::Kind(char::from(other))),
    })
}
