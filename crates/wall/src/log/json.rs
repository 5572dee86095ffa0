//! Log files in Docker's `json-file` format, which log shippers read: a JSON object on each line.
//!
//! ```text
//!   {"log":"text\n","stream":"stdout","attrs":{"tag":"web"},"time":"2026-01-31T12:00:00.5Z"}
//! ```
//!
//! `attrs` is there when there are attributes. A text without its line feed goes on in the stream's next object. Bytes that are
//! no UTF-8 are replaced by U+FFFD one by one, and what Go's encoder escapes is escaped, so that the files are the same as
//! dockerd's. A line that is cut off (the host died) is the end of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use atoll_model::Timestamp;
use serde::Deserialize;

use super::{Corrupt, Record, Stream};

/// Longest line: six bytes for each of a payload, and attributes of the length that a command line may have.
pub const LINE_MAX: usize = 4 << 20;
const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Encodes records, all with the same attributes.
#[derive(Debug, Default)]
pub struct Encoder {
    /// `,"attrs":{…}`, or nothing.
    attributes: Vec<u8>,
    /// The time of the last record, and its text: records that were read together have the same.
    time: Option<(Timestamp, String)>,
}

/// What a line says.
#[derive(Debug)]
pub struct Line<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read from the workload.
    pub at: Timestamp,
    /// The text, with its line feed if there was one.
    pub text: Cow<'a, str>,
    /// What stands beside it.
    pub attributes: BTreeMap<String, String>,
}

impl Encoder {
    /// An encoder for a log with these attributes.
    #[must_use]
    pub fn new(attributes: &BTreeMap<String, String>) -> Self {
        let mut encoder = Self::default();
        for (index, (key, value)) in attributes.iter().enumerate() {
            let text = &mut encoder.attributes;
            text.extend_from_slice(if index == 0 { b",\"attrs\":{" } else { b"," });
            write_text(text, key.as_bytes());
            text.push(b':');
            write_text(text, value.as_bytes());
        }
        if !attributes.is_empty() {
            encoder.attributes.push(b'}');
        }
        encoder
    }

    /// Appends a record's line to `buffer`.
    pub fn encode_into(&mut self, record: &Record<'_>, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(b"{\"log\":");
        write_text(buffer, record.payload);
        buffer.extend_from_slice(match record.stream {
            Stream::Stdout => b",\"stream\":\"stdout\"",
            Stream::Stderr => b",\"stream\":\"stderr\"",
        });
        buffer.extend_from_slice(&self.attributes);
        buffer.extend_from_slice(b",\"time\":\"");
        if self.time.as_ref().is_none_or(|(at, _)| *at != record.at) {
            self.time = Some((record.at, time_text(record.at)));
        }
        if let Some((_, text)) = &self.time {
            buffer.extend_from_slice(text.as_bytes());
        }
        buffer.extend_from_slice(b"\"}\n");
    }
}

/// Reads one line, without its line feed.
///
/// # Errors
/// [`Corrupt::Line`] when it is none.
pub fn decode(line: &[u8]) -> Result<Line<'_>, Corrupt> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        log: Cow<'a, str>,
        #[serde(borrow)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    let object: Object<'_> = serde_json::from_slice(line).map_err(|_| Corrupt::Line)?;
    let stream = match &*object.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return Err(Corrupt::Line),
    };
    let at = parse_time(&object.time).ok_or(Corrupt::Line)?;
    Ok(Line { stream, at, text: object.log, attributes: object.attrs })
}

/// A text in quotes, as Go's encoder writes it.
fn write_text(buffer: &mut Vec<u8>, text: &[u8]) {
    buffer.push(b'"');
    for chunk in text.utf8_chunks() {
        write_valid(buffer, chunk.valid());
        for _ in chunk.invalid() {
            buffer.extend_from_slice(b"\\ufffd");
        }
    }
    buffer.push(b'"');
}

fn write_valid(buffer: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let plain = !matches!(byte, 0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        if plain {
            continue;
        }
        let (length, escape): (usize, &[u8]) = match byte {
            b'"' => (1, b"\\\""),
            b'\\' => (1, b"\\\\"),
            b'\n' => (1, b"\\n"),
            b'\r' => (1, b"\\r"),
            // The line separators that JavaScript does not take in a string.
            0xe2 if bytes[index..].starts_with("\u{2028}".as_bytes()) => (3, b"\\u2028"),
            0xe2 if bytes[index..].starts_with("\u{2029}".as_bytes()) => (3, b"\\u2029"),
            0xe2 => continue,
            _ => (1, &[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        };
        buffer.extend_from_slice(&bytes[copied..index]);
        buffer.extend_from_slice(escape);
        copied = index + length;
    }
    buffer.extend_from_slice(&bytes[copied..]);
}

/// As Go's `RFC3339Nano`: in UTC, no trailing zeros in the fraction.
fn time_text(at: Timestamp) -> String {
    let (seconds, nanos) = (at.seconds(), at.0.rem_euclid(NANOS));
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let (hour, minute, second) =
        (seconds.rem_euclid(DAY) / 3600, seconds.rem_euclid(3600) / 60, seconds.rem_euclid(60));
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// A time as [`time_text`] writes it.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let numbers = |text: &str, separator: char| -> Option<[i64; 3]> {
        let mut parts = text.split(separator).map(|part| part.parse::<u16>().ok().map(i64::from));
        let three = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(three)
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    seconds.checked_mul(NANOS)?.checked_add(nanos).map(Timestamp)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, whose years are counted from March so that the leap day is the
/// last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day
        - 719_469
}

/// The date that is so many days after 1970-01-01.
fn date(since: i64) -> (i64, i64, i64) {
    // A year that is not later, then the year.
    let mut year = 1969 + since.div_euclid(366);
    while days(year + 1, 1, 1) <= since {
        year += 1;
    }
    let month = (2..=12).rev().find(|month| days(year, *month, 1) <= since).unwrap_or(1);
    (year, month, since - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(payload: &[u8], attributes: &[(&str, &str)]) -> String {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let at = Timestamp(1_795_704_914_314_698_360);
        let record = Record { stream: Stream::Stdout, at, partial: false, payload };
        let mut buffer = Vec::new();
        Encoder::new(&attributes).encode_into(&record, &mut buffer);
        String::from_utf8(buffer).expect("JSON is text")
    }

    /// What dockerd 20.10 wrote for the same bytes.
    #[test]
    fn lines_are_dockerd_s() {
        let expected = r#"{"log":"a\u0009b\u003c\u003e\u0026\"\\\u0001\ufffd\ufffd\u2028x\r\n","stream":"stdout","attrs":{"B":"2","a":"1"},"time":"2026-11-26T14:55:14.31469836Z"}"#;
        let written = encode(b"a\tb<>&\"\\\x01\xff\xc3\xe2\x80\xa8x\r\n", &[("a", "1"), ("B", "2")]);
        assert_eq!(written, format!("{expected}\n"));
        assert_eq!(
            encode(b"", &[]),
            "{\"log\":\"\",\"stream\":\"stdout\",\"time\":\"2026-11-26T14:55:14.31469836Z\"}\n"
        );
    }

    #[test]
    fn times_have_no_trailing_zeros() {
        let check = |nanos: i64, expected: &str| {
            assert_eq!(
                (time_text(Timestamp(nanos)).as_str(), parse_time(expected)),
                (expected, Some(Timestamp(nanos)))
            );
        };
        check(0, "1970-01-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59.999999999Z");
        check(951_782_400 * NANOS, "2000-02-29T00:00:00Z");
        check(1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z");
        check(i64::MAX, "2262-04-11T23:47:16.854775807Z");
        for bad in
            ["", "Z", "2023-11-14T22:13Z", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20+01:00", "9999-01-01T00:00:00Z"]
        {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn strangers_are_damage() {
        for line in ["", "{}", "text", r#"{"log":"a","stream":"stdin","time":"2023-11-14T22:13:20Z"}"#] {
            assert!(decode(line.as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn lines_round_trip(text: String, nanos: i64, key: String) {
            let at = Timestamp(nanos);
            let attributes = BTreeMap::from([(key, text.clone())]);
            let record = Record { stream: Stream::Stderr, at, partial: false, payload: text.as_bytes() };
            let mut buffer = Vec::new();
            Encoder::new(&attributes).encode_into(&record, &mut buffer);
            prop_assert_eq!(buffer.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line = decode(&buffer[..buffer.len() - 1]).expect("our own");
            prop_assert_eq!((line.stream, line.at, &*line.text, line.attributes), (Stream::Stderr, at, &*text, attributes));
        }

        #[test]
        fn any_bytes_are_a_line_or_an_error(bytes: Vec<u8>) {
            let mut buffer = Vec::new();
            write_text(&mut buffer, &bytes);
            prop_assert!(serde_json::from_slice::<String>(&buffer).is_ok());
            drop(decode(&bytes));
        }
    }
}
