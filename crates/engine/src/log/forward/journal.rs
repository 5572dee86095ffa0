//! Entries for the journal (systemd, `JOURNAL_NATIVE_PROTOCOL`), with the fields of Docker's driver.
//!
//! ```text
//!   NAME=value\n                                  a value without a line feed
//!   NAME\n u64 length, little-endian value\n      any other, and the message, whose bytes may be anything
//! ```

use std::collections::{BTreeMap, HashSet};

use atoll_model::Workload;

use super::super::LogLine;
use crate::host;
use crate::runtime::Stream;
use crate::runtime::log::PAYLOAD_MAX;

/// Longest name of a field that the journal takes.
const NAME_MAX: usize = 64;
/// Fields of each entry: what a workload's labels bring does not take their place.
const OWN: [&str; 6] =
    ["MESSAGE", "PRIORITY", "SYSLOG_TIMESTAMP", "CONTAINER_PARTIAL_MESSAGE", "SYSLOG_FACILITY", "SYSLOG_PID"];

/// The fields that all entries of a workload have, encoded.
#[derive(Debug)]
pub(super) struct Form {
    fields: Vec<u8>,
}

impl Form {
    pub(super) fn new(workload: &Workload, tag: &str, chosen: BTreeMap<String, String>) -> Self {
        let short = workload.id.short().to_string();
        let own = [
            ("CONTAINER_ID", short.as_str()),
            ("CONTAINER_ID_FULL", workload.id.as_str()),
            ("CONTAINER_NAME", &workload.name),
            ("CONTAINER_TAG", tag),
            ("IMAGE_NAME", &workload.image.name),
            ("SYSLOG_IDENTIFIER", tag),
        ];
        let mut fields = Vec::new();
        let mut taken: HashSet<String> = OWN.map(str::to_owned).into();
        for (name, value) in own {
            taken.insert(name.to_owned());
            write(&mut fields, name, value.as_bytes());
        }
        for (name, value) in chosen {
            if let Some(name) = field_name(&name).filter(|name| taken.insert(name.clone())) {
                write(&mut fields, &name, value.as_bytes());
            }
        }
        Self { fields }
    }

    pub(super) fn encode(&self, line: &LogLine, into: &mut Vec<u8>) {
        let text = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        write_counted(into, "MESSAGE", text);
        let priority: &[u8] = match line.stream {
            Stream::Stdout => b"6",
            Stream::Stderr => b"3",
        };
        write(into, "PRIORITY", priority);
        if let Some(time) = host::rfc3339(line.at) {
            write(into, "SYSLOG_TIMESTAMP", time.as_bytes());
        }
        // One that is shorter is the end of the output, which has no line feed.
        if line.partial && line.bytes.len() == PAYLOAD_MAX {
            write(into, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        into.extend_from_slice(&self.fields);
    }
}

fn write(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    if value.contains(&b'\n') {
        return write_counted(into, name, value);
    }
    into.extend_from_slice(name.as_bytes());
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

fn write_counted(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    into.push(b'\n');
    into.extend_from_slice(&(value.len() as u64).to_le_bytes());
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// A label's name as the journal takes it, with capitals and underscores; none where nothing is left of it. Names that begin with
/// an underscore are the journal's own.
fn field_name(text: &str) -> Option<String> {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name: String = text.chars().map(letter).collect();
    let name = name.trim_start_matches('_');
    let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with(|first: char| first.is_ascii_digit());
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use atoll_model::Timestamp;

    use super::*;

    #[test]
    fn names_are_the_journal_s() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(field_name(text).as_deref(), expected, "{text}");
        check("com.example.Role", Some("COM_EXAMPLE_ROLE"));
        check("__x-1", Some("X_1"));
        check("é", None);
        check("1a", None);
        check(&"a".repeat(65), None);
    }

    #[test]
    fn a_message_may_be_anything() {
        let form = Form { fields: b"A=b\n".to_vec() };
        let line = |bytes: &[u8], partial| LogLine {
            stream: Stream::Stderr,
            at: Timestamp(0),
            partial,
            bytes: bytes.to_vec(),
            attributes: BTreeMap::new(),
        };
        let encoded = |line: &LogLine| {
            let mut entry = Vec::new();
            form.encode(line, &mut entry);
            entry
        };
        let rest = b"\nPRIORITY=3\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\nA=b\n";
        let message = [b"MESSAGE\n\x04\0\0\0\0\0\0\0a\0=\xff", &rest[..]].concat();
        assert_eq!(encoded(&line(b"a\0=\xff\n", false)), message);
        assert!(!encoded(&line(b"end", true)).windows(7).any(|seen| seen == b"PARTIAL"));
        assert!(encoded(&line(&[b'x'; PAYLOAD_MAX], true)).windows(13).any(|seen| seen == b"MESSAGE=true\n"));
    }

    #[test]
    fn values_with_line_feeds_are_counted() {
        let mut fields = Vec::new();
        write(&mut fields, "A", b"b\nMESSAGE=c");
        assert_eq!(fields, b"A\n\x0b\0\0\0\0\0\0\0b\nMESSAGE=c\n");
    }
}
