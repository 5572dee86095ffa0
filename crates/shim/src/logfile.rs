//! The log files of one workload (format: `atoll_wall::log`): opened by the launching stage, written by the monitor.
//!
//! Output never waits for the log and never ends because of it: when the disk is full, what does not fit is counted and
//! dropped, and the next record that fits is preceded by one that says how much is missing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use atoll_model::Timestamp;
use atoll_wall::launch::LogPlan;
use atoll_wall::log::{self, FILE_HEADER, PAYLOAD_MAX, Record, Stream};

use crate::handover::LogState;

/// Logs are for root: they hold whatever the workload wrote.
const MODE: u32 = 0o640;

/// Replaces a small file of the run folder as a whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(&temporary, path)
}

/// Opens the current file, after cutting off a record that was not finished; makes it when there is none.
pub(crate) fn open(plan: LogPlan) -> std::io::Result<(LogState, OwnedFd)> {
    let path = plan.folder.join(log::file_name(0));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(&path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let (size, sequence) = match content.first_chunk::<FILE_HEADER>().map(log::decode_header) {
        Some(Ok(sequence)) => (whole_records(&content), sequence),
        // Nothing of ours, or a header that was not finished: what may be older keeps its numbers below.
        _ => {
            let sequence = previous_sequence(&plan)?.map_or(0, |sequence| sequence + 1);
            file.set_len(0)?;
            file.write_all_at(&log::encode_header(sequence), 0)?;
            (FILE_HEADER, sequence)
        }
    };
    file.set_len(size as u64)?;
    Ok((LogState { plan, size: size as u64, sequence, dropped: 0 }, file.into()))
}

/// Bytes up to the end of the last whole record.
fn whole_records(content: &[u8]) -> usize {
    let mut end = FILE_HEADER;
    while let Ok(Some(record)) = log::decode(&content[end..]) {
        end += record.encoded_len();
    }
    end
}

fn previous_sequence(plan: &LogPlan) -> std::io::Result<Option<u64>> {
    let mut header = [0; FILE_HEADER];
    match File::open(plan.folder.join(log::file_name(1))) {
        Ok(mut file) => Ok(file.read_exact(&mut header).ok().and_then(|()| log::decode_header(&header).ok())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the log.
#[derive(Debug)]
pub(crate) struct Writer {
    state: LogState,
    file: File,
    batch: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(state: LogState, file: OwnedFd) -> Self {
        Self { state, file: file.into(), batch: Vec::new() }
    }

    /// What [`Writer::new`] needs to go on.
    pub(crate) fn into_parts(self) -> (LogState, OwnedFd) {
        (self.state, self.file.into())
    }

    /// Adds a record to the batch.
    pub(crate) fn add(&mut self, stream: Stream, at: Timestamp, payload: &[u8], partial: bool) {
        Record { stream, at, partial, payload }.encode_into(&mut self.batch);
    }

    /// Writes the batch: all of it, or nothing.
    pub(crate) fn flush(&mut self, at: Timestamp) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let length = batch.len() as u64;
        if self.state.size + length > self.state.plan.file_bytes && self.state.size > FILE_HEADER as u64 {
            // A rotation that fails leaves the current file, which then grows until one succeeds.
            let _ = self.rotate();
        }
        if self.state.dropped > 0 {
            self.note_dropped(at);
        }
        if self.append(&batch).is_err() {
            self.state.dropped += length;
        }
        self.batch = batch;
        self.batch.clear();
        // Idle workloads keep no buffer from their last burst.
        self.batch.shrink_to(PAYLOAD_MAX);
    }

    fn note_dropped(&mut self, at: Timestamp) {
        let text = format!("[atoll: {} bytes of log records were lost: the disk was full]\n", self.state.dropped);
        let mut note = Vec::new();
        Record { stream: Stream::Stderr, at, partial: false, payload: text.as_bytes() }.encode_into(&mut note);
        if self.append(&note).is_ok() {
            self.state.dropped = 0;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.file.write_all_at(bytes, self.state.size) {
            Ok(()) => {
                self.state.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Whatever part of it was written is not a record.
                let _ = self.file.set_len(self.state.size);
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let path = |age| self.state.plan.folder.join(log::file_name(age));
        let keep = self.state.plan.files;
        let next = self.state.sequence + 1;
        let fresh = self.state.plan.folder.join("log.new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(MODE).open(&fresh)?;
        file.write_all_at(&log::encode_header(next), 0)?;
        for age in (1..keep).rev() {
            match std::fs::rename(path(age - 1), path(age)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&fresh, path(0))?;
        self.file = file;
        self.state.sequence = next;
        self.state.size = FILE_HEADER as u64;
        Ok(())
    }
}

/// Cuts a stream into lines for the log.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds what was read; whole lines go to the writer, the rest waits for its line feed, up to one payload.
    pub(crate) fn push(&mut self, mut bytes: &[u8], (stream, at): (Stream, Timestamp), writer: &mut Writer) {
        while !bytes.is_empty() {
            let room = PAYLOAD_MAX - self.rest.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, ends) = match window.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (window.len(), false),
            };
            let (piece, after) = bytes.split_at(taken);
            bytes = after;
            if ends && self.rest.is_empty() {
                writer.add(stream, at, piece, false);
                continue;
            }
            self.rest.extend_from_slice(piece);
            if ends || self.rest.len() == PAYLOAD_MAX {
                writer.add(stream, at, &self.rest, !ends);
                self.rest = Vec::new();
            }
        }
    }

    /// The end of the stream: what has no line feed is written as it is.
    pub(crate) fn finish(&mut self, (stream, at): (Stream, Timestamp), writer: &mut Writer) {
        if !self.rest.is_empty() {
            writer.add(stream, at, &self.rest, true);
            self.rest = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(5);

    fn plan(folder: &Path, file_bytes: u64) -> LogPlan {
        LogPlan { folder: folder.to_owned(), file_bytes, files: 3 }
    }

    fn records(path: &Path) -> Vec<(String, bool)> {
        let content = std::fs::read(path).expect("a log");
        let mut rest = &content[FILE_HEADER..];
        let mut all = Vec::new();
        while let Some(record) = log::decode(rest).expect("whole records") {
            all.push((String::from_utf8_lossy(record.payload).into_owned(), record.partial));
            rest = &rest[record.encoded_len()..];
        }
        assert!(rest.is_empty());
        all
    }

    fn write(pieces: &[&str]) -> Vec<(String, bool)> {
        let folder = tempfile::tempdir().expect("folder");
        let (state, file) = open(plan(folder.path(), 1 << 20)).expect("open");
        let mut writer = Writer::new(state, file);
        let mut lines = Lines::default();
        for piece in pieces {
            lines.push(piece.as_bytes(), (Stream::Stdout, AT), &mut writer);
            writer.flush(AT);
        }
        lines.finish((Stream::Stdout, AT), &mut writer);
        writer.flush(AT);
        records(&folder.path().join("log.0"))
    }

    #[test]
    fn lines_are_records() {
        let check = |pieces: &[&str], expected: &[(&str, bool)]| {
            let expected: Vec<_> = expected.iter().map(|(text, partial)| ((*text).to_owned(), *partial)).collect();
            assert_eq!(write(pieces), expected, "{pieces:?}");
        };
        check(&["a\nb\n"], &[("a\n", false), ("b\n", false)]);
        check(&["a", "b\nc", "\n"], &[("ab\n", false), ("c\n", false)]);
        check(&["a\n", "no end"], &[("a\n", false), ("no end", true)]);
        check(&["\n\n"], &[("\n", false), ("\n", false)]);
        check(&[], &[]);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = "x".repeat(PAYLOAD_MAX + 3) + "\n";
        let written = write(&[&long]);
        assert_eq!(
            written.iter().map(|(text, partial)| (text.len(), *partial)).collect::<Vec<_>>(),
            [(PAYLOAD_MAX, true), (4, false)]
        );
    }

    #[test]
    fn a_torn_record_is_cut_off_and_the_log_goes_on() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log.0");
        let (state, file) = open(plan(folder.path(), 1 << 20)).expect("open");
        let mut writer = Writer::new(state, file);
        writer.add(Stream::Stdout, AT, b"one\n", false);
        writer.flush(AT);
        let mut torn = Vec::new();
        Record { stream: Stream::Stdout, at: AT, partial: false, payload: b"torn\n" }.encode_into(&mut torn);
        OpenOptions::new().append(true).open(&path).expect("open").write_all(&torn[..9]).expect("write");
        let (state, file) = open(plan(folder.path(), 1 << 20)).expect("open again");
        let mut writer = Writer::new(state, file);
        writer.add(Stream::Stdout, AT, b"two\n", false);
        writer.flush(AT);
        assert_eq!(records(&path), [("one\n".to_owned(), false), ("two\n".to_owned(), false)]);
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let (state, file) = open(plan(folder.path(), 64)).expect("open");
        let mut writer = Writer::new(state, file);
        for number in 0..6 {
            writer.add(Stream::Stdout, AT, format!("line {number} of some length\n").as_bytes(), false);
            writer.flush(AT);
        }
        let kept: Vec<_> = (0..3).map(|age| records(&folder.path().join(log::file_name(age)))[0].0.clone()).collect();
        assert_eq!(kept, [5, 4, 3].map(|number| format!("line {number} of some length\n")));
        assert!(!folder.path().join("log.3").exists());
    }
}
