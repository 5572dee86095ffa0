//! Writes an archive, the same bytes for the same entries: ustar headers, pax records only where ustar cannot say it.
//!
//! An [`Entry`] becomes one optional extended header, one header and its padded data. Names of users, access times and
//! sparse files are left out on purpose: the first two differ between hosts, the last between tools.

use std::io::{Read, Write};

use super::header::BLOCK;
use super::{Entry, EntryKind, Error, META_MAX, NAME_BYTES_MAX, pax};

/// Largest number in an 8-byte octal field.
const OCTAL_7: u64 = 0o777_7777;
/// Largest number in a 12-byte octal field.
const OCTAL_11: u64 = 0o777_7777_7777;

/// A tar archive that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`, which should take small writes well.
    pub fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::new() }
    }

    /// Adds an entry with the data that `data` gives: exactly `entry.size` bytes, none for what is no file.
    ///
    /// # Errors
    /// The stream below fails, `data` is shorter than the entry says, or a name cannot be written.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        let size = if matches!(entry.kind, EntryKind::File) { entry.size } else { 0 };
        self.header(entry, size)?;
        if size == 0 {
            return Ok(());
        }
        self.buffer.resize(64 << 10, 0);
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let len = data.read(&mut self.buffer[..wanted]).map_err(Error::Io)?;
            if len == 0 {
                return Err(Error::Data);
            }
            self.inner.write_all(&self.buffer[..len]).map_err(Error::Io)?;
            left -= len as u64;
        }
        self.pad(size)
    }

    /// Adds an entry with its data; `entry.size` is taken from `data`.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_bytes(&mut self, entry: &Entry, data: &[u8]) -> Result<(), Error> {
        self.header(entry, data.len() as u64)?;
        self.inner.write_all(data).map_err(Error::Io)?;
        self.pad(data.len() as u64)
    }

    /// Ends the archive and gives the stream back.
    ///
    /// # Errors
    /// The stream below fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.inner.write_all(&[0; 2 * BLOCK]).map_err(Error::Io)?;
        self.inner.flush().map_err(Error::Io)?;
        Ok(self.inner)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if used == 0 {
            return Ok(());
        }
        self.inner.write_all(&[0; BLOCK][used..]).map_err(Error::Io)
    }

    fn header(&mut self, entry: &Entry, size: u64) -> Result<(), Error> {
        let mut path = entry.path.clone();
        if matches!(entry.kind, EntryKind::Directory) && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let link: &[u8] = match &entry.kind {
            EntryKind::HardLink(target) | EntryKind::Symlink(target) => target,
            _ => &[],
        };
        for name in [path.as_slice(), link] {
            if name.len() > NAME_BYTES_MAX || name.contains(&0) {
                return Err(Error::Name);
            }
        }
        if path.is_empty() {
            return Err(Error::Name);
        }
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind
            && u64::from(major.max(minor)) > OCTAL_7
        {
            return Err(Error::Number("device number"));
        }
        let records = extended(entry, &path, link, size)?;
        if !records.is_empty() {
            let len = records.len() as u64;
            if len > META_MAX {
                return Err(Error::Limit("extended header"));
            }
            let block = block(&Entry::file("././@PaxHeader", 0o644, len), b"././@PaxHeader", &[], len, b'x');
            self.inner.write_all(&block).map_err(Error::Io)?;
            self.inner.write_all(&records).map_err(Error::Io)?;
            self.pad(len)?;
        }
        self.inner.write_all(&block(entry, &path, link, size, flag(&entry.kind))).map_err(Error::Io)
    }
}

fn flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File => b'0',
        EntryKind::HardLink(_) => b'1',
        EntryKind::Symlink(_) => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// The records for what the plain header cannot hold, in a fixed order.
fn extended(entry: &Entry, path: &[u8], link: &[u8], size: u64) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    if path.len() > 100 {
        record(&mut out, b"path", path);
    }
    if link.len() > 100 {
        record(&mut out, b"linkpath", link);
    }
    if size > OCTAL_11 {
        record(&mut out, b"size", size.to_string().as_bytes());
    }
    if entry.uid > OCTAL_7 {
        record(&mut out, b"uid", entry.uid.to_string().as_bytes());
    }
    if entry.gid > OCTAL_7 {
        record(&mut out, b"gid", entry.gid.to_string().as_bytes());
    }
    if entry.mtime_nsec != 0 || u64::try_from(entry.mtime).map_or(true, |t| t > OCTAL_11) {
        record(&mut out, b"mtime", time(entry.mtime, entry.mtime_nsec).as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        if name.contains(&b'=') || name.contains(&0) {
            return Err(Error::Name);
        }
        record(&mut out, &[pax::XATTR, name].concat(), value);
    }
    Ok(out)
}

fn time(seconds: i64, nanos: u32) -> String {
    let text = match (seconds < 0, nanos) {
        (_, 0) => return seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        // Seconds are rounded down: -1 s and 0.25 s more is -0.75.
        (true, nanos) => format!("-{}.{:09}", seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    text.trim_end_matches('0').into()
}

/// Adds `length key=value\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len.to_string().len() + body != len {
        len = len.to_string().len() + body;
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn block(entry: &Entry, path: &[u8], link: &[u8], size: u64, flag: u8) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |width: usize, value: u64| format!("{value:0width$o}\0").into_bytes();
    put(0, &path[..path.len().min(100)]);
    put(100, &octal(7, u64::from(entry.mode & 0o7777)));
    put(108, &octal(7, if entry.uid > OCTAL_7 { 0 } else { entry.uid }));
    put(116, &octal(7, if entry.gid > OCTAL_7 { 0 } else { entry.gid }));
    put(124, &octal(11, if size > OCTAL_11 { 0 } else { size }));
    put(136, &octal(11, u64::try_from(entry.mtime).ok().filter(|t| *t <= OCTAL_11).unwrap_or(0)));
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind {
        put(329, &octal(7, u64::from(major)));
        put(337, &octal(7, u64::from(minor)));
    }
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
