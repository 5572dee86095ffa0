//! Values from text, in the form that GVariant prints (its manual, "GVariant Text Format"), as far as properties need it.
//!
//! `true`, `-5`, `uint64 7`, `1.5`, `'text'`, `"text"`, `objectpath '/a'`, `[1, 2]`, `('a', 2)`; a number without a type is
//! an `int32`, or a `double` with a point. Dictionaries, maybes, byte strings, `@type` and empty arrays, whose type cannot
//! be seen, are left out: they are no values.

use super::NoValue;
use super::value::{DEPTH_MAX, Value};

/// Longest text of a value.
const TEXT_MAX: usize = 64 << 10;

impl std::str::FromStr for Value {
    type Err = NoValue;

    fn from_str(text: &str) -> Result<Self, NoValue> {
        if text.len() > TEXT_MAX {
            return Err(NoValue);
        }
        let mut parser = Parser { rest: text };
        let value = parser.value(DEPTH_MAX).ok_or(NoValue)?;
        parser.blanks();
        if parser.rest.is_empty() { Ok(value) } else { Err(NoValue) }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes a sign if it is the next.
    fn sign(&mut self, sign: char) -> bool {
        self.blanks();
        let after = self.rest.strip_prefix(sign);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self) -> &'a str {
        self.blanks();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.blanks();
        match self.rest.chars().next()? {
            '\'' | '"' => self.quoted().map(Value::Text),
            '[' => {
                let values = self.list('[', ']', depth)?;
                let element = values.first()?.signature();
                values.iter().all(|value| value.signature() == element).then_some(Value::Array(element, values))
            }
            '(' => self.list('(', ')', depth).filter(|fields| !fields.is_empty()).map(Value::Struct),
            _ => self.plain(),
        }
    }

    fn list(&mut self, open: char, close: char, depth: u32) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        self.sign(open).then_some(())?;
        loop {
            if self.sign(close) {
                return Some(values);
            }
            if !values.is_empty() {
                self.sign(',').then_some(())?;
                // `(1,)` is how a structure of one is written.
                if self.sign(close) {
                    return (close == ')' && values.len() == 1).then_some(values);
                }
            }
            values.push(self.value(depth)?);
        }
    }

    /// A word alone, or the name of a type and a value of it.
    fn plain(&mut self) -> Option<Value> {
        let word = self.word();
        Some(match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "boolean" => Value::Bool(self.word().parse().ok()?),
            "byte" => Value::Byte(number(self.word())?),
            "int16" => Value::Int16(number(self.word())?),
            "uint16" => Value::Uint16(number(self.word())?),
            "int32" => Value::Int32(number(self.word())?),
            "uint32" => Value::Uint32(number(self.word())?),
            "int64" => Value::Int64(number(self.word())?),
            "uint64" => Value::Uint64(number(self.word())?),
            "double" => Value::Double(double(self.word())?),
            "string" => Value::Text(self.quoted()?),
            "objectpath" => Value::Path(self.quoted().filter(|path| is_path(path))?),
            _ => match number(word) {
                Some(number) => Value::Int32(number),
                None => Value::Double(double(word).filter(|_| word.contains(['.', 'e']))?),
            },
        })
    }

    fn quoted(&mut self) -> Option<String> {
        self.blanks();
        let mut signs = self.rest.char_indices();
        let (_, quote) = signs.next().filter(|(_, sign)| matches!(sign, '\'' | '"'))?;
        let mut text = String::new();
        while let Some((at, sign)) = signs.next() {
            match sign {
                '\0' => return None,
                '\\' => text.push(match signs.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return None,
                }),
                _ if sign == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                _ => text.push(sign),
            }
        }
        None
    }
}

/// A decimal number, or a hexadecimal one with `0x`.
fn number<T: TryFrom<i128>>(word: &str) -> Option<T> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    // The signs that `from_str_radix` takes beside digits are none here.
    digits.starts_with(|c: char| c.is_digit(radix)).then_some(())?;
    T::try_from(sign * i128::from(u64::from_str_radix(digits, radix).ok()?)).ok()
}

fn double(word: &str) -> Option<f64> {
    word.starts_with(|c: char| c.is_ascii_digit() || c == '-').then_some(())?;
    word.parse().ok().filter(|value: &f64| value.is_finite())
}

/// D-Bus specification, "Valid Object Paths".
fn is_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    path == "/" || path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(part))
}
