//! What an entry's path means in a layer: a plain path, a whiteout, an opaque marker, or nothing (OCI image spec, layer).
//!
//! Pure: a path as the archive has it goes in, a cleaned path relative to the layer's root comes out. `..` is refused
//! rather than resolved: no tool that writes layers needs it.

use super::{PATH_DEPTH_MAX, hostile};
use crate::error::{Error, Result};

const WHITEOUT: &[u8] = b".wh.";
/// What aufs kept for itself; of these only the opaque marker means something.
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The meaning of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// An entry at this path; empty is the root itself.
    Plain(Vec<u8>),
    /// The folder hides what lies below it.
    Opaque(Vec<u8>),
    /// A name that lower layers have is gone.
    Whiteout {
        /// In this folder.
        folder: Vec<u8>,
        /// This name.
        name: Vec<u8>,
    },
    /// Bookkeeping of aufs.
    Ignored,
}

/// Cleans a path: components joined by single slashes, neither `.` nor empty; refuses `..` and too much depth.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut depth = 0;
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(hostile(path, "its path has the component \"..\"")),
            _ => {}
        }
        if part.contains(&0) {
            return Err(hostile(path, "its path has a NUL byte"));
        }
        depth += 1;
        if depth > PATH_DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path in the layer", limit: PATH_DEPTH_MAX as u64 });
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// Folder and last component of a cleaned path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Cleans a path and finds out what it means.
pub(super) fn classify(raw: &[u8]) -> Result<Name> {
    let path = clean(raw)?;
    let (folder, last) = split(&path);
    for part in folder.split(|b| *b == b'/') {
        if part.starts_with(RESERVED) {
            return Ok(Name::Ignored);
        }
        if part.starts_with(WHITEOUT) {
            return Err(hostile(raw, "it lies inside a whiteout"));
        }
    }
    if last == OPAQUE {
        return Ok(Name::Opaque(folder.to_vec()));
    }
    if last.starts_with(RESERVED) {
        return Ok(Name::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain(path)),
        Some(b"" | b"." | b"..") => Err(hostile(raw, "it is a whiteout of no name")),
        Some(name) => Ok(Name::Whiteout { folder: folder.to_vec(), name: name.to_vec() }),
    }
}
