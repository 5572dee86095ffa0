//! One 512-byte header block as a value: fields of ustar (POSIX.1-2017, pax) and of GNU's variant.
//!
//! A block is checked and taken apart by [`RawHeader::parse`]; nothing here reads a stream.

use super::Error;
use super::sparse::Segment;

/// Size of a block, bytes.
pub const BLOCK: usize = 512;

/// The fields of a header block, numbers decoded, names as written.
#[derive(Debug)]
pub(super) struct RawHeader {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) flag: u8,
    pub(super) link: Vec<u8>,
    pub(super) device: (u32, u32),
    /// The four segments and the real size of GNU's old sparse format.
    pub(super) sparse: Option<OldSparse>,
}

/// The start of an old GNU sparse map.
#[derive(Debug)]
pub(super) struct OldSparse {
    pub(super) segments: Vec<Segment>,
    pub(super) more: bool,
    pub(super) real_size: u64,
}

/// Whether `block` starts with a header whose checksum is right.
#[must_use]
pub fn looks_like_header(block: &[u8]) -> bool {
    block.first_chunk::<BLOCK>().is_some_and(|block| block.iter().any(|b| *b != 0) && checksum_is_right(block))
}

fn checksum_is_right(block: &[u8; BLOCK]) -> bool {
    let Ok(stored) = number(&block[148..156], "checksum") else {
        return false;
    };
    let bytes = || block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
    let unsigned: i64 = bytes().map(i64::from).sum();
    // Some old writers summed signed characters.
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    stored == unsigned || stored == signed
}

impl RawHeader {
    /// Takes a block apart. The caller has looked for the zero block that ends an archive.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, Error> {
        if !checksum_is_right(block) {
            return Err(Error::Checksum);
        }
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let flag = block[156];
        let mut name = text(&block[..100]).to_vec();
        let prefix = text(&block[345..500]);
        if ustar && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let is_device = matches!(flag, b'3' | b'4');
        let device = if is_device && (ustar || gnu) {
            (unsigned32(&block[329..337], "device number")?, unsigned32(&block[337..345], "device number")?)
        } else {
            (0, 0)
        };
        let mode = number(&block[100..108], "mode")? & 0o7777;
        Ok(Self {
            name,
            mode: u32::try_from(mode).map_err(|_| Error::Number("mode"))?,
            uid: unsigned(&block[108..116], "owner")?,
            gid: unsigned(&block[116..124], "group")?,
            size: unsigned(&block[124..136], "size")?,
            mtime: number(&block[136..148], "time")?,
            flag,
            link: text(&block[157..257]).to_vec(),
            device,
            sparse: if flag == b'S' { Some(old_sparse(block)?) } else { None },
        })
    }
}

fn old_sparse(block: &[u8; BLOCK]) -> Result<OldSparse, Error> {
    Ok(OldSparse {
        segments: sparse_segments(&block[386..482])?,
        more: block[482] != 0,
        real_size: unsigned(&block[483..495], "size")?,
    })
}

/// Segments of an old GNU map: pairs of 12-byte numbers until an empty pair.
pub(super) fn sparse_segments(bytes: &[u8]) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        segments.push(Segment {
            offset: unsigned(&pair[..12], "sparse offset")?,
            len: unsigned(&pair[12..], "sparse length")?,
        });
    }
    Ok(segments)
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

fn unsigned(field: &[u8], what: &'static str) -> Result<u64, Error> {
    u64::try_from(number(field, what)?).map_err(|_| Error::Number(what))
}

fn unsigned32(field: &[u8], what: &'static str) -> Result<u32, Error> {
    u32::try_from(number(field, what)?).map_err(|_| Error::Number(what))
}

/// A number field: octal digits with blanks around them, empty meaning zero, or big-endian two's complement when the top
/// bit of the first byte is set (GNU's base 256).
pub(super) fn number(field: &[u8], what: &'static str) -> Result<i64, Error> {
    let wrong = || Error::Number(what);
    let first = *field.first().ok_or_else(wrong)?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start: i128 = if negative { -1 } else { 0 };
        let mut value = (start << 6) | i128::from(first & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| wrong());
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|b| !matches!(b, 0 | b' ')) {
        return Err(wrong());
    }
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or_else(wrong),
        _ => Err(wrong()),
    })
}
