//! Detach keys: the sequence on a terminal that leaves a container running.
//!
//! Keys are written `ctrl-p,ctrl-q` or `a,b`. A scanner passes bytes on and holds back a prefix of the sequence until it
//! is complete (detach) or broken (the prefix was input after all). Docker's daemon and client both do this; so do ours.

use std::str::FromStr;

/// What Docker uses when nothing is said.
pub const DEFAULT_DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// The bytes of a detach sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// A text that is no detach sequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown key {0:?} in the detach keys: use single characters or ctrl- and one of a-z @ ^ [ ] _ \\, separated by commas"
)]
pub struct InvalidKey(pub String);

/// What a piece of input comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// Pass these bytes on.
    Input(Vec<u8>),
    /// Pass these bytes on, then detach.
    Detach(Vec<u8>),
}

/// Watches input for the sequence.
#[derive(Clone, Debug)]
pub struct Detacher {
    keys: Vec<u8>,
    matched: usize,
}

impl FromStr for DetachKeys {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let text = if text.is_empty() { DEFAULT_DETACH_KEYS } else { text };
        text.split(',')
            .map(|key| byte(key).ok_or_else(|| InvalidKey(key.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn byte(key: &str) -> Option<u8> {
    match key.as_bytes() {
        [single] => Some(*single),
        [b'c', b't', b'r', b'l', b'-', key] => match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
        _ => None,
    }
}

impl Detacher {
    /// A scanner at the beginning of input.
    #[must_use]
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// What the next bytes of input come to.
    #[must_use]
    pub fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut input = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte != self.keys[self.matched] {
                input.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
            } else {
                input.push(byte);
            }
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Scanned::Detach(input);
            }
        }
        Scanned::Input(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str, pieces: &[&[u8]], expected: &[u8], detached: bool) {
        let mut detacher = Detacher::new(keys.parse().expect("valid keys"));
        let mut all = Vec::new();
        for piece in pieces {
            match detacher.scan(piece) {
                Scanned::Input(bytes) => all.extend(bytes),
                Scanned::Detach(bytes) => {
                    all.extend(bytes);
                    assert!(detached, "{pieces:?}");
                    assert_eq!(all, expected);
                    return;
                }
            }
        }
        assert!(!detached, "{pieces:?}");
        assert_eq!(all, expected, "{pieces:?}");
    }

    #[test]
    fn sequences_are_found_wherever_they_are_cut() {
        check("", &[b"ab\x10\x11"], b"ab", true);
        check("", &[b"ab\x10", b"\x11"], b"ab", true);
        check("", &[b"\x10x"], b"\x10x", false);
        check("", &[b"\x10", b"x"], b"\x10x", false);
        check("", &[b"\x10\x10\x11"], b"\x10", true);
        check("", &[b"\x11\x10"], b"\x11", false);
        check("a,b,c", &[b"abxabc"], b"abx", true);
        check("ctrl-@", &[b"x\0"], b"x", true);
    }

    #[test]
    fn keys_that_there_are_not() {
        for bad in ["ctrl-1", "ctrl-", "abc", "a,,b", "ctrl-P"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }
}
