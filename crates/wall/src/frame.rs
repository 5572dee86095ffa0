//! The unit that travels: a kind, a length and that many bytes.
//!
//! A header is eight bytes: the [`Kind`], three zero bytes, the payload's length as a little-endian `u32`. A
//! [`Decoder`] is fed whatever a socket delivered and hands out whole frames; it allocates no more than a peer has
//! sent, and refuses lengths above [`MESSAGE_MAX`] before reading them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes in a header.
pub const HEADER: usize = 8;
/// Largest payload of a message: a launch carries a whole runtime specification with its system call filter.
pub const MESSAGE_MAX: usize = 8 << 20;
/// Largest payload of a stream frame that our code sends.
pub const STREAM_MAX: usize = 64 << 10;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON: a request, a response or an event.
    Message = 0,
    /// Bytes towards standard input; empty is its end.
    Stdin = 1,
    /// Bytes from standard output, or from a terminal.
    Stdout = 2,
    /// Bytes from standard error.
    Stderr = 3,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Why a peer cannot be understood; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A header with an unknown kind or with bits where zeroes belong.
    #[error("frame of unknown kind {0:#010x}: the peer speaks another protocol")]
    Kind(u32),
    /// A length above the limit.
    #[error("frame of {0} bytes: at most {MESSAGE_MAX} are allowed")]
    TooLong(usize),
    /// A message that is not what was expected here.
    #[error("message that does not parse")]
    Message(#[from] serde_json::Error),
}

impl Kind {
    const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::Message),
            1 => Some(Self::Stdin),
            2 => Some(Self::Stdout),
            3 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// The header of a frame with a payload of `length` bytes.
///
/// # Panics
/// When `length` exceeds [`MESSAGE_MAX`]: a mistake of ours, not of a peer.
#[must_use]
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    assert!(length <= MESSAGE_MAX, "payload of {length} bytes in one frame");
    let length = u32::try_from(length).expect("the limit fits into 32 bits");
    let mut bytes = [0; HEADER];
    bytes[0] = kind as u8;
    bytes[4..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// A whole frame as bytes.
#[must_use]
pub fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&header(kind, payload.len()));
    bytes.extend_from_slice(payload);
    bytes
}

/// A message as the bytes of its frame.
///
/// # Panics
/// When the message is longer than [`MESSAGE_MAX`]; those who build messages from foreign input check before.
#[must_use]
pub fn encode_message<T: Serialize>(message: &T) -> Vec<u8> {
    let payload = serde_json::to_vec(message).expect("messages are plain data with string keys");
    encode(Kind::Message, &payload)
}

impl Frame {
    /// The payload as a message.
    ///
    /// # Errors
    /// [`Malformed::Message`] when it is something else.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        Ok(serde_json::from_slice(&self.payload)?)
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out already.
    used: usize,
}

impl Decoder {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What arrived and was not handed out yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// The next whole frame, if it has arrived.
    ///
    /// # Errors
    /// [`Malformed`] when the stream is no sequence of frames.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let pending = &self.buffer[self.used..];
        let Some((head, rest)) = pending.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [k0, k1, k2, k3, l0, l1, l2, l3] = *head;
        let word = u32::from_le_bytes([k0, k1, k2, k3]);
        let kind = Kind::from_word(word).ok_or(Malformed::Kind(word))?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MESSAGE_MAX {
            return Err(Malformed::TooLong(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.used += HEADER + length;
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(step.max(1)) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn hostile_headers_are_refused() {
        assert!(matches!(frames(&[9, 0, 0, 0, 0, 0, 0, 0], 8), Err(Malformed::Kind(9))));
        assert!(matches!(frames(&[0, 0, 1, 0, 0, 0, 0, 0], 8), Err(Malformed::Kind(0x10000))));
        assert!(matches!(frames(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 8), Err(Malformed::TooLong(_))));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8), step in 1usize..40) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode(Kind::Stdout, payload)).collect();
            let got: Vec<_> = frames(&bytes, step).expect("well-formed").into_iter().map(|frame| frame.payload).collect();
            prop_assert_eq!(got, payloads);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1usize..40) {
            drop(frames(&bytes, step));
        }
    }
}
