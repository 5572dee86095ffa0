//! The formats of log files: what a workload wrote, when, and to which stream. This is our own; [`json`] is Docker's.
//!
//! The current file is `log.0`; on rotation `log.N` becomes `log.N+1` and the oldest goes. A file is a
//! [`FILE_HEADER`]-byte header (magic, version, sequence number of the file) and records after it:
//!
//! ```text
//!   u32 length of the payload │ u8 stream │ u8 flags │ u16 zero │ i64 nanoseconds since the epoch │ payload │ u32 length
//! ```
//!
//! All numbers are little-endian. The length stands at both ends so that a reader can walk backwards from the end
//! (`--tail`). One writer appends each record with a single `write`; a record that is cut off (the disk was full, or
//! the host died) is the end of the file for a reader, and a writer that finds one truncates it before it appends.
//! A record holds at most one line with its line feed; longer lines, and output without one, are [`PARTIAL`] records.

pub mod json;

use atoll_model::Timestamp;

/// Bytes before the first record.
pub const FILE_HEADER: usize = 16;
/// Bytes of a record before its payload.
pub const RECORD_HEADER: usize = 16;
/// Bytes of a record after its payload.
pub const RECORD_TRAILER: usize = 4;
/// Longest payload: longer lines are cut into partial records, as Docker does.
pub const PAYLOAD_MAX: usize = 16 << 10;
/// Flag of a record that the next one of its stream continues.
pub const PARTIAL: u8 = 1;

const MAGIC: [u8; 4] = *b"ALOG";
const VERSION: u32 = 1;

/// Which stream a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// One record, borrowed from a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read from the workload.
    pub at: Timestamp,
    /// Whether the line goes on in the stream's next record.
    pub partial: bool,
    /// The bytes, with the line feed if there was one.
    pub payload: &'a [u8],
}

/// Why bytes are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// A line that is none of a log in JSON.
    #[error("damaged line")]
    Line,
    /// Not the header of a log file, or one of a later version.
    #[error("not a log file of a version that this program reads")]
    Header,
    /// A record whose fields contradict each other.
    #[error("damaged record")]
    Record,
}

/// A file's header. `sequence` grows by one with every rotation, so that a follower knows what it missed.
#[must_use]
pub fn encode_header(sequence: u64) -> [u8; FILE_HEADER] {
    let mut bytes = [0; FILE_HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..].copy_from_slice(&sequence.to_le_bytes());
    bytes
}

/// The sequence number in a file's header.
///
/// # Errors
/// [`Corrupt::Header`].
pub fn decode_header(bytes: &[u8; FILE_HEADER]) -> Result<u64, Corrupt> {
    let [m0, m1, m2, m3, v0, v1, v2, v3, sequence @ ..] = *bytes;
    if [m0, m1, m2, m3] != MAGIC || u32::from_le_bytes([v0, v1, v2, v3]) != VERSION {
        return Err(Corrupt::Header);
    }
    Ok(u64::from_le_bytes(sequence))
}

impl Record<'_> {
    /// Appends the record's bytes to `buffer`.
    ///
    /// # Panics
    /// When the payload is longer than [`PAYLOAD_MAX`].
    pub fn encode_into(&self, buffer: &mut Vec<u8>) {
        assert!(self.payload.len() <= PAYLOAD_MAX, "log payload of {} bytes", self.payload.len());
        let length = u32::try_from(self.payload.len()).expect("the limit fits into 32 bits").to_le_bytes();
        buffer.extend_from_slice(&length);
        buffer.extend_from_slice(&[self.stream as u8, if self.partial { PARTIAL } else { 0 }, 0, 0]);
        buffer.extend_from_slice(&self.at.0.to_le_bytes());
        buffer.extend_from_slice(self.payload);
        buffer.extend_from_slice(&length);
    }

    /// Bytes that the record takes in a file.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        RECORD_HEADER + self.payload.len() + RECORD_TRAILER
    }
}

/// The record at the start of `bytes`, or `None` when it is cut off.
///
/// # Errors
/// [`Corrupt::Record`] when no writer of ours wrote this.
pub fn decode(bytes: &[u8]) -> Result<Option<Record<'_>>, Corrupt> {
    let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    let [l0, l1, l2, l3, stream, flags, z0, z1, at @ ..] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Err(Corrupt::Record),
    };
    if length > PAYLOAD_MAX || flags & !PARTIAL != 0 || z0 != 0 || z1 != 0 {
        return Err(Corrupt::Record);
    }
    let Some((payload, tail)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let Some(trailer) = tail.first_chunk::<RECORD_TRAILER>() else {
        return Ok(None);
    };
    if *trailer != [l0, l1, l2, l3] {
        return Err(Corrupt::Record);
    }
    Ok(Some(Record { stream, at: Timestamp(i64::from_le_bytes(at)), partial: flags & PARTIAL != 0, payload }))
}

/// The last record of `bytes` (which end where a record ends), or `None` when the bytes do not reach back to its start.
///
/// # Errors
/// [`Corrupt::Record`].
pub fn decode_last(bytes: &[u8]) -> Result<Option<Record<'_>>, Corrupt> {
    let Some((_, trailer)) = bytes.split_last_chunk::<RECORD_TRAILER>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*trailer) as usize;
    if length > PAYLOAD_MAX {
        return Err(Corrupt::Record);
    }
    let Some(start) = bytes.len().checked_sub(RECORD_HEADER + length + RECORD_TRAILER) else {
        return Ok(None);
    };
    decode(&bytes[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: &[u8], partial: bool) -> Record<'_> {
        Record { stream: Stream::Stderr, at: Timestamp(1_700_000_000_000_000_001), partial, payload }
    }

    #[test]
    fn headers_round_trip_and_strangers_are_refused() {
        assert_eq!(decode_header(&encode_header(7)), Ok(7));
        assert_eq!(decode_header(&[0; FILE_HEADER]), Err(Corrupt::Header));
    }

    #[test]
    fn a_cut_record_is_the_end() {
        let mut bytes = Vec::new();
        record(b"hello\n", false).encode_into(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn records_read_backwards() {
        let mut bytes = Vec::new();
        record(b"first\n", false).encode_into(&mut bytes);
        let end_of_first = bytes.len();
        record(b"second", true).encode_into(&mut bytes);
        assert_eq!(decode_last(&bytes), Ok(Some(record(b"second", true))));
        assert_eq!(decode_last(&bytes[..end_of_first]), Ok(Some(record(b"first\n", false))));
        assert_eq!(decode_last(&bytes[end_of_first + 3..]), Ok(None));
    }

    proptest! {
        #[test]
        fn records_round_trip(payload in prop::collection::vec(any::<u8>(), 0..300), partial: bool) {
            let mut bytes = Vec::new();
            record(&payload, partial).encode_into(&mut bytes);
            prop_assert_eq!(bytes.len(), record(&payload, partial).encoded_len());
            prop_assert_eq!(decode(&bytes), Ok(Some(record(&payload, partial))));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let within = |record: Option<Record<'_>>| record.is_none_or(|record| record.payload.len() <= bytes.len());
            prop_assert!(decode(&bytes).is_err() || decode(&bytes).is_ok_and(within));
            prop_assert!(decode_last(&bytes).is_err() || decode_last(&bytes).is_ok_and(within));
        }
    }
}
