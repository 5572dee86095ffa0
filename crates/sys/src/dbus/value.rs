//! Values of D-Bus, their signatures and their form on the wire (D-Bus specification, "Type System" and "Marshaling").
//!
//! Little-endian alone. What comes from the bus is bounded: by the message it stands in, and by [`DEPTH_MAX`]. File
//! descriptors and dictionaries as values of our own are left out; dictionaries that come are read as arrays of pairs.

/// Deepest nesting of arrays, structures and variants that is read or written.
pub(super) const DEPTH_MAX: u32 = 16;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`: signature of the elements, which all have it.
    Array(String, Vec<Value>),
    /// `(…)`, and `{…}` when read.
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// As text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The text of an `s`, `o` or `g`.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// An array of pairs of a name and a variant, as properties are given: `a(sv)`.
    pub fn properties(properties: impl IntoIterator<Item = (String, Value)>) -> Self {
        let pair = |(name, value)| Self::Struct(vec![Self::Text(name), Self::Variant(Box::new(value))]);
        Self::Array("(sv)".into(), properties.into_iter().map(pair).collect())
    }

    /// Its type.
    #[must_use]
    pub fn signature(&self) -> String {
        let code = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::Int16(_) => "n",
            Self::Uint16(_) => "q",
            Self::Int32(_) => "i",
            Self::Uint32(_) => "u",
            Self::Int64(_) => "x",
            Self::Uint64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(element, _) => return format!("a{element}"),
            Self::Struct(fields) => return format!("({})", fields.iter().map(Self::signature).collect::<String>()),
        };
        code.to_owned()
    }
}

/// Writes values one behind the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Zeros up to a multiple of `boundary`.
    pub(super) fn align(&mut self, boundary: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(boundary), 0);
    }

    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    fn length(&mut self, length: usize) {
        // Messages are far shorter than 4 GiB: see `Message::encode`.
        self.fixed(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(value) => self.bytes.push(*value),
            Value::Bool(value) => self.fixed(u32::from(*value).to_le_bytes()),
            Value::Int16(value) => self.fixed(value.to_le_bytes()),
            Value::Uint16(value) => self.fixed(value.to_le_bytes()),
            Value::Int32(value) => self.fixed(value.to_le_bytes()),
            Value::Uint32(value) => self.fixed(value.to_le_bytes()),
            Value::Int64(value) => self.fixed(value.to_le_bytes()),
            Value::Uint64(value) => self.fixed(value.to_le_bytes()),
            Value::Double(value) => self.fixed(value.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.signature(text),
            Value::Variant(inner) => {
                self.signature(&inner.signature());
                self.value(inner);
            }
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Array(element, values) => {
                self.length(0);
                let at = self.bytes.len() - 4;
                // The padding before the first element is not part of the length.
                self.align(alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
                let start = self.bytes.len();
                values.iter().for_each(|value| self.value(value));
                let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
                self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            }
        }
    }
}

fn alignment(code: u8) -> usize {
    match code {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

/// Reads values of a message; `None` wherever the bytes are not what the signature says.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// `bytes` begin at a boundary of 8 of their message.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// All values of a signature; nothing may be left.
    pub(super) fn all(mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (first, after) = rest.split_at_checked(complete(rest, DEPTH_MAX)?)?;
            values.push(self.value(first, DEPTH_MAX)?);
            rest = after;
        }
        (self.at == self.bytes.len()).then_some(values)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn align(&mut self, boundary: usize) -> Option<()> {
        let padding = self.take(self.at.next_multiple_of(boundary) - self.at)?;
        padding.iter().all(|byte| *byte == 0).then_some(())
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.fixed()?)).ok()
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.take(1)? == [0] && !text.contains('\0')).then_some(text)
    }

    fn short(&mut self) -> Option<String> {
        let length = usize::from(self.fixed::<1>()?[0]);
        self.terminated(length)
    }

    /// One value of one complete type.
    fn value(&mut self, signature: &[u8], depth: u32) -> Option<Value> {
        let deeper = depth.checked_sub(1)?;
        Some(match signature.first()? {
            b'y' => Value::Byte(self.fixed::<1>()?[0]),
            b'b' => match u32::from_le_bytes(self.fixed()?) {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return None,
            },
            b'n' => Value::Int16(i16::from_le_bytes(self.fixed()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.fixed()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.fixed()?)),
            b'u' | b'h' => Value::Uint32(u32::from_le_bytes(self.fixed()?)),
            b'x' => Value::Int64(i64::from_le_bytes(self.fixed()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.fixed()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.fixed()?)),
            b's' => {
                let length = self.length()?;
                Value::Text(self.terminated(length)?)
            }
            b'o' => {
                let length = self.length()?;
                Value::Path(self.terminated(length)?)
            }
            b'g' => Value::Signature(self.short()?),
            b'v' => {
                let inner = self.short()?;
                let inner = inner.as_bytes();
                if complete(inner, deeper)? != inner.len() {
                    return None;
                }
                Value::Variant(Box::new(self.value(inner, deeper)?))
            }
            b'a' => self.array(&signature[1..], deeper)?,
            b'(' | b'{' => {
                self.align(8)?;
                let mut rest = signature.get(1..signature.len() - 1)?;
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (first, after) = rest.split_at_checked(complete(rest, deeper)?)?;
                    fields.push(self.value(first, deeper)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }

    fn array(&mut self, element: &[u8], depth: u32) -> Option<Value> {
        let length = self.length()?;
        self.align(alignment(*element.first()?))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut values = Vec::new();
        // Each value takes at least one byte.
        while self.at < end {
            values.push(self.value(element, depth)?);
        }
        (self.at == end).then(|| Value::Array(String::from_utf8_lossy(element).into_owned(), values))
    }
}

/// Length of the first complete type of a signature.
fn complete(signature: &[u8], depth: u32) -> Option<usize> {
    let deeper = depth.checked_sub(1)?;
    match signature.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h' => Some(1),
        b'a' => Some(1 + complete(&signature[1..], deeper)?),
        open @ (b'(' | b'{') => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at)? != close {
                at += complete(&signature[at..], deeper)?;
            }
            // Neither is empty.
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}
