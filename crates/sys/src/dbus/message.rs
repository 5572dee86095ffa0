//! Messages of D-Bus (D-Bus specification, "Message Format").

use super::Error;
use super::value::{Reader, Value, Writer};

/// Longest message in bytes: systemd's are below a hundredth of it.
pub(super) const MESSAGE_MAX: usize = 1 << 20;
/// Bytes of a message that say how long it is.
pub(super) const PREFIX: usize = 16;

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// One message, its body not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) path: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) member: Option<String>,
    pub(super) error: Option<String>,
    pub(super) reply_to: Option<u32>,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// Numbers of the fields of a header.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR: u8 = 4;
    pub(super) const REPLY_TO: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// A call to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Name of the called program on the bus.
    pub destination: &'a str,
    /// Object.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
    /// Method.
    pub member: &'a str,
    /// Arguments.
    pub arguments: &'a [Value],
}

impl Call<'_> {
    /// Its bytes. A direct connection has no destination.
    pub(super) fn encode(&self, serial: u32, direct: bool) -> Result<Vec<u8>, Error> {
        let mut body = Writer::default();
        self.arguments.iter().for_each(|argument| body.value(argument));
        let signature: String = self.arguments.iter().map(Value::signature).collect();
        let mut fields = vec![
            (field::PATH, Value::Path(self.path.to_owned())),
            (field::INTERFACE, Value::text(self.interface)),
            (field::MEMBER, Value::text(self.member)),
        ];
        if !direct {
            fields.push((field::DESTINATION, Value::text(self.destination)));
        }
        if !signature.is_empty() {
            fields.push((field::SIGNATURE, Value::Signature(signature.clone())));
        }
        let fields = fields
            .into_iter()
            .map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]));
        let mut writer = Writer { bytes: vec![b'l', 1, 0, 1] };
        writer.value(&Value::Uint32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX)));
        writer.value(&Value::Uint32(serial));
        writer.value(&Value::Array("(yv)".into(), fields.collect()));
        writer.align(8);
        writer.bytes.append(&mut body.bytes);
        if writer.bytes.len() > MESSAGE_MAX || signature.len() > 255 {
            return Err(Error::TooLong);
        }
        Ok(writer.bytes)
    }
}

/// Length of the whole message that begins so.
pub(super) fn length(prefix: [u8; PREFIX]) -> Result<usize, Error> {
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]) as usize;
    if prefix[0] != b'l' || prefix[3] != 1 {
        return Err(Error::Malformed);
    }
    let (body, fields) = (number(4), number(12));
    if body > MESSAGE_MAX || fields > MESSAGE_MAX {
        return Err(Error::TooLong);
    }
    let whole = PREFIX + fields.next_multiple_of(8) + body;
    if whole > MESSAGE_MAX { Err(Error::TooLong) } else { Ok(whole) }
}

impl Message {
    /// From all of its bytes, as many as [`length`] says.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::try_decode(bytes).ok_or(Error::Malformed)
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let (prefix, _) = bytes.split_first_chunk::<PREFIX>()?;
        if length(*prefix).ok()? != bytes.len() {
            return None;
        }
        let kind = match prefix[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let fields = u32::from_le_bytes(*prefix.last_chunk()?) as usize;
        let (header, body) = bytes.split_at_checked(PREFIX + fields)?;
        let body = body.get(fields.next_multiple_of(8) - fields..)?.to_vec();
        let header = Reader::new(header).all("yyyyuua(yv)")?;
        let Some(Value::Array(_, fields)) = header.into_iter().next_back() else { return None };
        let mut message = Self {
            kind,
            path: None,
            interface: None,
            member: None,
            error: None,
            reply_to: None,
            signature: String::new(),
            body,
        };
        for field in fields {
            message.set(field)?;
        }
        Some(message)
    }

    fn set(&mut self, field: Value) -> Option<()> {
        let Value::Struct(pair) = field else { return None };
        let [Value::Byte(number), Value::Variant(value)] = <[Value; 2]>::try_from(pair).ok()? else { return None };
        match (number, *value) {
            (field::PATH, Value::Path(text)) => self.path = Some(text),
            (field::INTERFACE, Value::Text(text)) => self.interface = Some(text),
            (field::MEMBER, Value::Text(text)) => self.member = Some(text),
            (field::ERROR, Value::Text(text)) => self.error = Some(text),
            (field::REPLY_TO, Value::Uint32(serial)) => self.reply_to = Some(serial),
            (field::SIGNATURE, Value::Signature(text)) => self.signature = text,
            (field::PATH..=field::REPLY_TO | field::SIGNATURE, _) => return None,
            // Who sent it and to whom: a bus vouches for both, and we ask one at a time.
            _ => {}
        }
        Some(())
    }

    /// The values of its body.
    pub(super) fn values(&self) -> Result<Vec<Value>, Error> {
        Reader::new(&self.body).all(&self.signature).ok_or(Error::Malformed)
    }
}
