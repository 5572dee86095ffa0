//! The frames of a multiplexed stream: one byte of stream, three of nothing, four of length (big endian), the bytes.
//!
//! Source: the API reference, `ContainerAttach`, "Stream format". A decoder is fed what arrives and says what it means.

/// Bytes before each payload.
pub const HEADER_LENGTH: usize = 8;
/// Stream number of standard input (written to standard output by clients).
pub const STDIN: u8 = 0;
/// Stream number of standard output.
pub const STDOUT: u8 = 1;
/// Stream number of standard error.
pub const STDERR: u8 = 2;
/// Stream number of an error of the daemon.
const SYSTEM_ERROR: u8 = 3;

/// What goes before a payload of `length` bytes.
#[must_use]
pub fn header(stream: u8, length: u32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

/// A stream that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A stream number that there is not.
    #[error("the daemon sent stream number {0}, which there is not: is this a terminal's stream?")]
    Stream(u8),
    /// The stream ended within a frame.
    #[error("the daemon hung up in the middle of a frame")]
    Truncated,
}

/// Takes a multiplexed stream apart.
#[derive(Clone, Debug, Default)]
pub struct FrameDecoder {
    header: [u8; HEADER_LENGTH],
    filled: usize,
    left: usize,
}

impl FrameDecoder {
    /// Hands the payloads in `bytes` to `sink` as they come, with their stream number; what is incomplete is kept.
    ///
    /// # Errors
    /// [`FrameError::Stream`] on a stream number that there is not.
    pub fn feed(&mut self, mut bytes: &[u8], mut sink: impl FnMut(u8, &[u8])) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                sink(self.header[0], payload);
                self.left -= payload.len();
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at((HEADER_LENGTH - self.filled).min(bytes.len()));
            self.header[self.filled..self.filled + part.len()].copy_from_slice(part);
            self.filled += part.len();
            bytes = rest;
            if self.filled == HEADER_LENGTH {
                self.filled = 0;
                let [stream, _, _, _, a, b, c, d] = self.header;
                if stream > SYSTEM_ERROR {
                    return Err(FrameError::Stream(stream));
                }
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            }
        }
        Ok(())
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] within a frame.
    pub const fn finish(&self) -> Result<(), FrameError> {
        if self.left == 0 && self.filled == 0 { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(stream, payload.len() as u32).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn any_cut_gives_the_same_streams() {
        let bytes = [frame(1, b"out"), frame(2, b"err"), frame(1, b""), frame(1, b"put")].concat();
        for cut in 1..bytes.len() {
            let mut streams = [Vec::new(), Vec::new(), Vec::new()];
            let mut decoder = FrameDecoder::default();
            for piece in bytes.chunks(cut) {
                decoder
                    .feed(piece, |stream, payload| streams[usize::from(stream)].extend_from_slice(payload))
                    .expect("only good stream numbers");
            }
            assert_eq!((streams[1].as_slice(), streams[2].as_slice()), (&b"output"[..], &b"err"[..]), "cut {cut}");
            assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn bad_streams_are_told() {
        let mut decoder = FrameDecoder::default();
        assert_eq!(decoder.feed(b"hello, world", |_, _| ()), Err(FrameError::Stream(b'h')));
        let mut decoder = FrameDecoder::default();
        decoder.feed(&frame(1, b"abc")[..9], |_, _| ()).expect("the beginning of a frame");
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}
