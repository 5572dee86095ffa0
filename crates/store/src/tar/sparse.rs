//! Sparse maps: which parts of a file are in the archive, in the four formats that GNU tar has written.
//!
//! A map comes from a header, from records or from the start of the data, and is checked by [`check`] before anybody
//! writes by it.

use super::Error;

/// A run of data inside a sparse file; what lies between runs is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub len: u64,
}

/// Checks that segments ascend, do not overlap, end inside the file and hold exactly the bytes stored.
pub(super) fn check(segments: &[Segment], real_size: u64, stored: u64) -> Result<(), Error> {
    let mut end = 0u64;
    let mut total = 0u64;
    for segment in segments {
        if segment.offset < end {
            return Err(Error::Sparse("segments overlap"));
        }
        end = segment.offset.checked_add(segment.len).ok_or(Error::Sparse("a segment ends beyond 64 bits"))?;
        total = total.saturating_add(segment.len);
    }
    if end > real_size {
        return Err(Error::Sparse("a segment ends beyond the file"));
    }
    if total != stored {
        return Err(Error::Sparse("the segments and the stored data differ in length"));
    }
    Ok(())
}
