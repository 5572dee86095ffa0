//! Extended header records (POSIX.1-2017 pax, "pax Extended Header"): `length key=value\n`, as values.
//!
//! Records are split by [`records`] and folded into [`Pax`], which overrides the fields of the header that follows.

use super::sparse::Segment;
use super::{Error, NAME_BYTES_MAX, SPARSE_SEGMENTS_MAX};

/// Prefix of the records that carry extended attributes (star, GNU tar, Docker).
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// Most extended attributes of one entry.
const XATTRS_MAX: usize = 256;

/// What the extended headers in force say.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// The `GNU.sparse.*` records.
#[derive(Clone, Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) segments: Vec<Segment>,
    pub(super) present: bool,
    offset: Option<u64>,
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits the data of an extended header into keys and values.
pub(super) fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, Error> {
    let mut list = Vec::new();
    while !data.is_empty() {
        // Some writers pad with NUL bytes.
        if data.iter().all(|b| *b == 0) {
            break;
        }
        let space = data.iter().take(20).position(|b| *b == b' ').ok_or(Error::Pax("a record has no length"))?;
        let len = decimal(&data[..space]).ok_or(Error::Pax("a record has no length"))?;
        let len = usize::try_from(len).map_err(|_| Error::Pax("a record is too long"))?;
        let record = data.get(space + 1..len).ok_or(Error::Pax("a record is longer than its header"))?;
        let record = record.strip_suffix(b"\n").ok_or(Error::Pax("a record does not end in a newline"))?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(Error::Pax("a record has no ="))?;
        if equals == 0 {
            return Err(Error::Pax("a record has no key"));
        }
        list.push((&record[..equals], &record[equals + 1..]));
        data = &data[len..];
    }
    Ok(list)
}

impl Pax {
    /// Takes over the records of one header; later ones win, an empty value withdraws.
    pub(super) fn apply(&mut self, data: &[u8]) -> Result<(), Error> {
        for (key, value) in records(data)? {
            self.record(key, value)?;
        }
        if self.sparse.offset.is_some() {
            return Err(Error::Sparse("an offset has no length"));
        }
        Ok(())
    }

    /// Takes over a global header. Records that only make sense for one entry are refused there.
    pub(super) fn apply_global(&mut self, data: &[u8]) -> Result<(), Error> {
        for (key, value) in records(data)? {
            if matches!(key, b"path" | b"linkpath" | b"size")
                || key.starts_with(b"GNU.sparse.")
                || key.starts_with(XATTR)
            {
                return Err(Error::Pax("a global header names the path, size or attributes of every entry"));
            }
            self.record(key, value)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = number(value, "size")?,
            b"uid" => self.uid = number(value, "owner")?,
            b"gid" => self.gid = number(value, "group")?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    self.xattr(attribute, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.present = true;
                    self.sparse.record(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, attribute: &[u8], value: &[u8]) -> Result<(), Error> {
        if attribute.is_empty() || attribute.contains(&0) || attribute.len() > 255 {
            return Err(Error::Pax("an extended attribute has an impossible name"));
        }
        self.xattrs.retain(|(name, _)| name != attribute);
        if self.xattrs.len() == XATTRS_MAX {
            return Err(Error::Limit("extended attributes"));
        }
        self.xattrs.push((attribute.to_vec(), value.to_vec()));
        Ok(())
    }
}

impl PaxSparse {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let wrong = Error::Sparse("a record is no number");
        match key {
            b"major" => self.major = number(value, "sparse version")?,
            b"minor" => self.minor = number(value, "sparse version")?,
            b"name" => self.name = name(value)?,
            b"size" | b"realsize" => self.real_size = number(value, "sparse size")?,
            b"offset" => self.offset = Some(decimal(value).ok_or(wrong)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Error::Sparse("a length has no offset"))?;
                self.push(offset, decimal(value).ok_or(wrong)?)?;
            }
            b"map" => {
                self.segments.clear();
                let mut fields = value.split(|b| *b == b',').filter(|f| !f.is_empty());
                while let Some(offset) = fields.next() {
                    let len = fields.next().ok_or(Error::Sparse("an offset has no length"))?;
                    let pair = decimal(offset).zip(decimal(len));
                    let (offset, len) = pair.ok_or(Error::Sparse("a record is no number"))?;
                    self.push(offset, len)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, len: u64) -> Result<(), Error> {
        if self.segments.len() == SPARSE_SEGMENTS_MAX {
            return Err(Error::Limit("sparse segments"));
        }
        self.segments.push(Segment { offset, len });
        Ok(())
    }
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if value.contains(&0) || value.len() > NAME_BYTES_MAX {
        return Err(Error::Name);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8], what: &'static str) -> Result<Option<u64>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    // Sizes are signed 64-bit on every system that writes archives.
    let value = decimal(value).filter(|v| i64::try_from(*v).is_ok());
    Ok(Some(value.ok_or(Error::Number(what))?))
}

/// Plain decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds since 1970 with an optional sign and fraction, as whole seconds rounded down and nanoseconds.
fn time(value: &[u8]) -> Result<(i64, u32), Error> {
    let wrong = || Error::Number("time");
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let whole = parts.next().and_then(decimal).and_then(|v| i64::try_from(v).ok()).ok_or_else(wrong)?;
    let mut nanos = 0u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return Err(wrong());
        }
        for at in 0..9 {
            nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |d| d - b'0'));
        }
    }
    Ok(match (negative, nanos) {
        (false, nanos) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, nanos) => (-whole - 1, 1_000_000_000 - nanos),
    })
}
