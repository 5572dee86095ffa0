//! Messages of syslog, as Docker's driver writes them: one line each, ended by a line feed (RFC 6587, section 3.4.2), in the forms
//! of RFC 3164 and RFC 5424. The bytes of a line are sent as they are; they hold no line feed.

use std::io::Write;

use atoll_model::{SyslogFormat, Timestamp};
use jiff::ZonedDateTime;
use jiff::tz::TimeZone;

use super::super::LogLine;
use crate::runtime::Stream;

/// Severities (RFC 5424, section 6.2.1).
const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;
/// Longest fields of a header (RFC 5424, section 6).
const APP_NAME_MAX: usize = 48;
const MESSAGE_ID_MAX: usize = 32;
const HOST_NAME_MAX: usize = 255;

/// What all messages of a workload have in common.
#[derive(Debug)]
pub(super) struct Form {
    facility: u8,
    format: SyslogFormat,
    host: String,
    tag: String,
    process: u32,
    zone: TimeZone,
}

impl Form {
    pub(super) fn new(facility: u8, format: SyslogFormat, tag: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (process, zone) = (std::process::id(), TimeZone::system());
        Self { facility, format, host: printable(&host), tag: printable(tag), process, zone }
    }

    /// Writes a line's message; an empty line has none, as with Docker.
    pub(super) fn encode(&self, line: &LogLine, into: &mut Vec<u8>) {
        let text = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        if text.is_empty() {
            return;
        }
        let severity = match line.stream {
            Stream::Stdout => INFORMATIONAL,
            Stream::Stderr => ERROR,
        };
        let head = self.head(self.facility * 8 + severity, line.at);
        // Writing to memory does not fail.
        let _ = into.write_all(head.as_bytes());
        into.extend_from_slice(text);
        into.push(b'\n');
    }

    fn head(&self, priority: u8, at: Timestamp) -> String {
        let Self { host, tag, process, .. } = self;
        let time = |format: &str| self.time(at).strftime(format).to_string();
        let modern = |time: String| {
            let (app, id) = (field(tag, APP_NAME_MAX), field(tag, MESSAGE_ID_MAX));
            format!("<{priority}>1 {time} {} {app} {process} {id} - ", field(host, HOST_NAME_MAX))
        };
        match self.format {
            SyslogFormat::Unix => format!("<{priority}>{} {tag}[{process}]: ", time("%b %e %H:%M:%S")),
            SyslogFormat::Rfc3164 => format!("<{priority}>{} {host} {tag}[{process}]: ", time("%b %e %H:%M:%S")),
            SyslogFormat::Rfc5424 => modern(time("%Y-%m-%dT%H:%M:%S%:z")),
            SyslogFormat::Rfc5424Micro => modern(time("%Y-%m-%dT%H:%M:%S%.6f%:z")),
        }
    }

    fn time(&self, at: Timestamp) -> ZonedDateTime {
        jiff::Timestamp::from_nanosecond(at.0.into()).unwrap_or_default().to_zoned_datetime(self.zone.clone())
    }
}

/// A field of a header as it may be: what a label or a command brought into it ends neither the field nor the message. Brackets
/// are around the process.
fn printable(text: &str) -> String {
    let fits = |letter: &char| letter.is_ascii_graphic() && !matches!(letter, '[' | ']');
    text.chars().map(|letter| if fits(&letter) { letter } else { '_' }).collect()
}

/// Not longer than it may be; `-` where it is empty.
fn field(text: &str, max: usize) -> &str {
    let cut = text.get(..max).unwrap_or(text);
    if cut.is_empty() { "-" } else { cut }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const AT: Timestamp = Timestamp(1_770_000_005_012_345_678);

    fn check(format: SyslogFormat, stream: Stream, tag: &str, bytes: &[u8], expected: &[u8]) {
        let form = Form { host: "host".to_owned(), process: 7, zone: TimeZone::UTC, ..Form::new(3, format, tag) };
        let line = LogLine { stream, at: AT, partial: false, bytes: bytes.to_vec(), attributes: BTreeMap::new() };
        let mut message = Vec::new();
        form.encode(&line, &mut message);
        assert_eq!(String::from_utf8_lossy(&message), String::from_utf8_lossy(expected));
        assert_eq!(message, expected);
    }

    #[test]
    fn each_form() {
        let out = Stream::Stdout;
        check(SyslogFormat::Unix, out, "web", b"text\n", b"<30>Feb  2 02:40:05 web[7]: text\n");
        check(SyslogFormat::Rfc3164, Stream::Stderr, "web", b"text", b"<27>Feb  2 02:40:05 host web[7]: text\n");
        let second = b"<30>1 2026-02-02T02:40:05+00:00 host web 7 web - text\n";
        check(SyslogFormat::Rfc5424, out, "web", b"text\n", second);
        let micro = b"<30>1 2026-02-02T02:40:05.012345+00:00 host web 7 web - text\n";
        check(SyslogFormat::Rfc5424Micro, out, "web", b"text\n", micro);
    }

    #[test]
    fn nothing_breaks_out_of_its_field() {
        let out = Stream::Stdout;
        check(
            SyslogFormat::Unix,
            out,
            "a b\n<0>\u{e9}",
            b"x\r\0\xff\n",
            b"<30>Feb  2 02:40:05 a_b_<0>_[7]: x\r\0\xff\n",
        );
        check(SyslogFormat::Unix, out, "a[1]: b", b"x\n", b"<30>Feb  2 02:40:05 a_1_:_b[7]: x\n");
        check(SyslogFormat::Unix, out, "web", b"\n", b"");
        let long = "x".repeat(60);
        let expected = format!("<30>1 2026-02-02T02:40:05+00:00 host {} 7 {} - text\n", "x".repeat(48), "x".repeat(32));
        check(SyslogFormat::Rfc5424, out, &long, b"text\n", expected.as_bytes());
        check(SyslogFormat::Rfc5424, out, "", b"t\n", b"<30>1 2026-02-02T02:40:05+00:00 host - 7 - - t\n");
    }
}
