//! Netlink messages as bytes (netlink(7)): a batch is written, replies are read.
//!
//! A [`Batch`] is one send: messages of header, fixed part and attributes, each aligned to four bytes. [`messages`] and
//! [`attributes`] walk what came back and turn every impossible length into an error. Knows no protocol's own types.

use super::Error;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// Where flags and sequence stand in the header.
const FLAGS_AT: usize = 6;
const SEQUENCE_AT: usize = 8;

/// `NLM_F_*` of netlink(7).
#[expect(missing_docs, reason = "the kernel's names: netlink(7)")]
pub mod flag {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const DUMP_INTR: u16 = 0x10;
    pub const DUMP: u16 = 0x300;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// Kinds of messages that every protocol has.
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
/// In the flags of an acknowledgement: attributes follow it (`NLM_F_ACK_TLVS`), and it lacks the request's body
/// (`NLM_F_CAPPED`).
pub(super) const ACK_ATTRIBUTES: u16 = 0x200;
pub(super) const ACK_CAPPED: u16 = 0x100;

/// The bits of an attribute's kind that are no part of it (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Messages for one send. An attribute or message that grew beyond its length field makes the send fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    acknowledged: usize,
    too_long: bool,
}

impl Batch {
    /// Adds a message of `kind` with `flags` besides `REQUEST`, its fixed part and the attributes that `fill` writes. The last
    /// such message of a batch is acknowledged; the others speak only when they fail.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        self.acknowledged = self.starts.len();
        self.bare(kind, flags, fixed, fill);
    }

    /// As [`Batch::message`], for a message that the kernel does not acknowledge.
    pub(super) fn bare(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed);
        align(&mut self.bytes);
        fill(&mut Attributes { bytes: &mut self.bytes, too_long: &mut self.too_long });
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => put(&mut self.bytes, start, &length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
    }

    /// How many messages it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The bytes to send with the messages numbered from `first`, and the number of the one that is acknowledged.
    pub(super) fn seal(&self, first: u32, acknowledge: bool) -> Result<(Vec<u8>, u32), Error> {
        if self.too_long {
            return Err(Error::TooLong);
        }
        let mut bytes = self.bytes.clone();
        let mut sequence = first;
        let mut awaited = first;
        for (index, start) in self.starts.iter().enumerate() {
            put(&mut bytes, start + SEQUENCE_AT, &sequence.to_ne_bytes());
            if index == self.acknowledged {
                awaited = sequence;
                let flags = u16_at(&bytes, start + FLAGS_AT)? | if acknowledge { flag::ACK } else { 0 };
                put(&mut bytes, start + FLAGS_AT, &flags.to_ne_bytes());
            }
            sequence = sequence.wrapping_add(1);
        }
        Ok((bytes, awaited))
    }
}

/// Writes the attributes of one message or of one nested attribute.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
    too_long: &'a mut bool,
}

impl Attributes<'_> {
    /// An attribute of plain bytes.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.within(kind, |inner| inner.bytes.extend_from_slice(payload))
    }

    /// A number in the host's byte order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order (nfnetlink).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text with its terminating zero byte.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.within(kind, |inner| {
            inner.bytes.extend_from_slice(value.as_bytes());
            inner.bytes.push(0);
        })
    }

    /// An attribute of attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.within(kind | NESTED, fill)
    }

    /// Bytes of a fixed part that stands before the attributes of a nested one (`VETH_INFO_PEER`).
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        align(self.bytes);
        self
    }

    fn within(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(&mut Attributes { bytes: self.bytes, too_long: self.too_long });
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => put(self.bytes, start, &length.to_ne_bytes()),
            Err(_) => *self.too_long = true,
        }
        align(self.bytes);
        self
    }
}

/// A message that came from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Which message, by the protocol's numbers.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram. After a malformed one nothing more comes.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Error>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = next_message(&mut rest);
        if message.is_err() {
            rest = &[];
        }
        Some(message)
    })
}

fn next_message<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, Error> {
    let length = usize::try_from(u32_at(rest, 0)?).map_err(|_| Error::Malformed("a message's length"))?;
    let all = rest.get(..length).filter(|all| all.len() >= HEADER).ok_or(Error::Malformed("a message's length"))?;
    *rest = rest.get(aligned(length)..).unwrap_or_default();
    let body = all.get(HEADER..).unwrap_or_default();
    Ok(Message { kind: u16_at(all, 4)?, flags: u16_at(all, FLAGS_AT)?, sequence: u32_at(all, SEQUENCE_AT)?, body })
}

/// The attributes of a message (after its fixed part) or of a nested attribute, as kind and payload. After a malformed one
/// nothing more comes.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Error>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = next_attribute(&mut rest);
        if attribute.is_err() {
            rest = &[];
        }
        Some(attribute)
    })
}

fn next_attribute<'a>(rest: &mut &'a [u8]) -> Result<(u16, &'a [u8]), Error> {
    let length = usize::from(u16_at(rest, 0)?);
    let all = rest.get(..length).filter(|all| all.len() >= ATTRIBUTE);
    let all = all.ok_or(Error::Malformed("an attribute's length"))?;
    *rest = rest.get(aligned(length)..).unwrap_or_default();
    Ok((u16_at(all, 2)? & KIND_MASK, all.get(ATTRIBUTE..).unwrap_or_default()))
}

/// The first attribute of `kind`, if there is one.
///
/// # Errors
/// [`Error::Malformed`].
pub fn find(bytes: &[u8], kind: u16) -> Result<Option<&[u8]>, Error> {
    for attribute in attributes(bytes) {
        let (found, payload) = attribute?;
        if found == kind {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

/// The text of an attribute, up to its zero byte.
///
/// # Errors
/// [`Error::Malformed`] when it is not UTF-8.
pub fn text(payload: &[u8]) -> Result<&str, Error> {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(payload.get(..end).unwrap_or_default()).map_err(|_| Error::Malformed("a text"))
}

/// Two bytes at an offset, in the host's byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

/// Four bytes at an offset, in the host's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

/// Four bytes at the start, in network byte order.
pub(super) fn be32(bytes: &[u8]) -> Result<u32, Error> {
    array_at(bytes, 0).map(u32::from_be_bytes)
}

/// A fixed number of bytes at an offset.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Error> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|found| found.try_into().ok());
    found.ok_or(Error::Malformed("a field beyond its message"))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(aligned(bytes.len()), 0);
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An attribute as a value, for round trips.
    #[derive(Debug, Clone, PartialEq)]
    enum Tree {
        Leaf(u16, Vec<u8>),
        Branch(u16, Vec<Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf =
            (0..KIND_MASK, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, bytes)| Tree::Leaf(kind, bytes));
        leaf.prop_recursive(3, 24, 4, |inner| {
            (0..KIND_MASK, prop::collection::vec(inner, 0..4)).prop_map(|(kind, inner)| Tree::Branch(kind, inner))
        })
    }

    fn write(attributes: &mut Attributes<'_>, trees: &[Tree]) {
        for tree in trees {
            match tree {
                Tree::Leaf(kind, bytes) => attributes.bytes(*kind, bytes),
                Tree::Branch(kind, inner) => attributes.nested(*kind, |attributes| write(attributes, inner)),
            };
        }
    }

    fn read_as(like: &[Tree], bytes: &[u8]) -> Vec<Tree> {
        let read = attributes(bytes).map(Result::unwrap).zip(like).map(|((kind, payload), like)| match like {
            Tree::Leaf(..) => Tree::Leaf(kind, payload.to_vec()),
            Tree::Branch(_, inner) => Tree::Branch(kind, read_as(inner, payload)),
        });
        read.collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trees in prop::collection::vec(tree(), 0..6), kinds in prop::collection::vec(16_u16.., 1..4)) {
            let mut batch = Batch::default();
            for kind in &kinds {
                batch.message(*kind, flag::CREATE, &[1, 2, 3, 4], |attributes| write(attributes, &trees));
            }
            let (bytes, awaited) = batch.seal(u32::MAX, true).unwrap();
            prop_assert_eq!(bytes.len() % 4, 0);
            let read: Vec<_> = messages(&bytes).map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), kinds.len());
            prop_assert_eq!(read.last().unwrap().sequence, awaited);
            for (index, (message, kind)) in read.iter().zip(&kinds).enumerate() {
                prop_assert_eq!(message.kind, *kind);
                prop_assert_eq!(message.flags & flag::ACK != 0, index + 1 == kinds.len());
                prop_assert_eq!(read_as(&trees, &message.body[4..]), trees.clone());
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes).flatten() {
                let _ = attributes(message.body).flatten().map(|(_, payload)| attributes(payload).count()).sum::<usize>();
            }
            let _ = attributes(&bytes).count();
            let _ = text(&bytes);
        }
    }

    #[test]
    fn what_outgrows_its_length_field_is_refused() {
        let mut batch = Batch::default();
        batch.message(16, 0, &[], |attributes| {
            attributes.nested(1, |inner| {
                inner.bytes(1, &vec![0; 70_000]);
            });
        });
        assert!(matches!(batch.seal(0, true), Err(Error::TooLong)));
    }
}
