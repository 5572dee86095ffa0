//! The log of one workload (formats: `atoll_wall::log`): opened by the launching stage, written by the monitor.
//!
//! Output never ends because of the log: when the disk is full, what does not fit is counted and dropped, and the next record
//! that fits is preceded by one that says how much is missing. Where the workload is not to wait for the disk either, a
//! [`ring`] is in between.

mod encoder;
mod files;
mod ring;

use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use atoll_model::Timestamp;
use atoll_wall::launch::{LogFormat, LogPlan};
use atoll_wall::log::{PAYLOAD_MAX, Stream};

use crate::handover::LogState;
use encoder::Encoder;
use files::Files;
use ring::Ring;

pub(crate) use ring::run as run_writer;

/// Bytes of records that are written together.
const BATCH: u64 = 64 << 10;

/// Replaces a small file of the run folder as a whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(&temporary, path)
}

/// Opens what the monitor will write to: the current file, or the socket of the process that writes it.
pub(crate) fn open(plan: LogPlan) -> std::io::Result<(LogState, OwnedFd)> {
    if matches!(plan.format, LogFormat::Nothing) {
        return Ok((LogState::new(plan), File::open("/dev/null")?.into()));
    }
    if plan.buffer.is_some() {
        let socket = ring::start(&plan)?;
        return Ok((LogState::new(plan), socket));
    }
    files::open(plan)
}

/// Writes the log.
#[derive(Debug)]
pub(crate) struct Writer {
    sink: Sink,
    encoder: Encoder,
    batch: Vec<u8>,
    /// Bytes that make a batch.
    full: usize,
}

/// Where batches go.
#[derive(Debug)]
enum Sink {
    Files(Files),
    Ring(Ring),
    /// What it was opened with, for the next run.
    Nothing(LogState, OwnedFd),
}

impl Writer {
    /// Of what [`open`] opened.
    pub(crate) fn new(state: LogState, fd: OwnedFd) -> Self {
        let (format, buffer) = (&state.plan.format, state.plan.buffer);
        let encoder = Encoder::of(format);
        let full = BATCH.min(state.plan.file_bytes).min(buffer.unwrap_or(BATCH));
        let sink = match (format, buffer) {
            (LogFormat::Nothing, _) => Sink::Nothing(state, fd),
            (_, Some(limit)) => Sink::Ring(Ring::new(state, fd, limit)),
            (_, None) => Sink::Files(Files::new(state, fd)),
        };
        Self { sink, encoder, batch: Vec::new(), full: usize::try_from(full).unwrap_or(PAYLOAD_MAX) }
    }

    /// What [`Writer::new`] needs to go on, after everything was flushed.
    pub(crate) fn into_parts(self) -> (LogState, OwnedFd) {
        match self.sink {
            Sink::Files(files) => files.into_parts(),
            Sink::Ring(ring) => ring.into_parts(),
            Sink::Nothing(state, fd) => (state, fd),
        }
    }

    /// Adds a record to the batch.
    pub(crate) fn add(&mut self, stream: Stream, at: Timestamp, payload: &[u8], partial: bool) {
        self.encoder.encode((stream, at), payload, partial, &mut self.batch);
        if self.batch.len() >= self.full {
            self.write(at);
        }
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self, at: Timestamp) {
        self.write(at);
        // Idle workloads keep no buffer from their last burst.
        self.batch.shrink_to(PAYLOAD_MAX);
    }

    fn write(&mut self, at: Timestamp) {
        if self.batch.is_empty() {
            return;
        }
        match &mut self.sink {
            Sink::Files(files) => files.write(&self.batch, at),
            Sink::Ring(ring) => ring.write(&self.batch, at, &mut self.encoder),
            Sink::Nothing(..) => {}
        }
        self.batch.clear();
    }

    /// What to wait for when batches wait, and then to be told by [`Writer::pump`].
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Ring(ring) => ring.waits_for(),
            Sink::Files(_) | Sink::Nothing(..) => None,
        }
    }

    /// Writes what waits.
    pub(crate) fn pump(&mut self) {
        if let Sink::Ring(ring) = &mut self.sink {
            ring.pump();
        }
    }

    /// The end: afterwards everything is in the files.
    pub(crate) fn finish(&mut self, at: Timestamp) {
        self.flush(at);
        if let Sink::Ring(ring) = &mut self.sink {
            ring.finish();
        }
    }

    const fn discards(&self) -> bool {
        matches!(self.sink, Sink::Nothing(..))
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
        while !bytes.is_empty() && !writer.discards() {
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
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;

    use atoll_wall::log::{self, FILE_HEADER, Record};

    use super::*;

    const AT: Timestamp = Timestamp(5);

    fn plan(folder: &Path, file_bytes: u64) -> LogPlan {
        let format = LogFormat::Records;
        LogPlan { folder: folder.to_owned(), file_bytes, files: 3, format, buffer: None }
    }

    fn json_plan(folder: &Path, file_bytes: u64) -> LogPlan {
        let format = LogFormat::Json { name: "x-json.log".to_owned(), attributes: BTreeMap::new() };
        LogPlan { format, ..plan(folder, file_bytes) }
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
        let kept: Vec<_> = (0..3).map(|age| records(&folder.path().join(format!("log.{age}")))[0].0.clone()).collect();
        assert_eq!(kept, [5, 4, 3].map(|number| format!("line {number} of some length\n")));
        assert!(!folder.path().join("log.3").exists());
    }

    #[test]
    fn what_is_read_together_is_written_in_batches_that_files_can_hold() {
        let folder = tempfile::tempdir().expect("folder");
        let (state, file) = open(json_plan(folder.path(), 1000)).expect("open");
        let mut writer = Writer::new(state, file);
        let mut lines = Lines::default();
        lines.push("0123456789\n".repeat(50).as_bytes(), (Stream::Stdout, AT), &mut writer);
        writer.flush(AT);
        for name in ["x-json.log", "x-json.log.1", "x-json.log.2"] {
            let text = std::fs::read_to_string(folder.path().join(name)).expect(name);
            assert!(text.len() <= 1100 && text.ends_with("}\n"), "{name}: {}", text.len());
        }
        assert!(!folder.path().join("x-json.log.3").exists());
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x-json.log");
        let check = |content: &str, kept: &str| {
            std::fs::write(&path, content).expect("write");
            open(json_plan(folder.path(), 1000)).expect("open");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), kept);
        };
        check("{}\n{\"log", "{}\n");
        check("{\"log", "");
        check("{}\n", "{}\n");
        let long = "x".repeat(100_000);
        check(&format!("{long}\n{long}"), &format!("{long}\n"));
    }

    #[test]
    fn compressed_files_age_too_and_a_locked_folder_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let (state, file) = open(plan(folder.path(), 64)).expect("open");
        let mut writer = Writer::new(state, file);
        let mut write = |text: &str| {
            writer.add(
                Stream::Stdout,
                AT,
                format!("line {text} of some length, so that one fills a file\n").as_bytes(),
                false,
            );
            writer.flush(AT);
        };
        write("0");
        write("1");
        std::fs::rename(at("log.1"), at("log.1.gz")).expect("as if compressed");
        // Of a daemon that was killed between the two steps of the exchange.
        write("2");
        assert!(at("log.2.gz").exists() && at("log.1").exists() && !at("log.1.gz").exists());
        std::fs::write(at("log.1.gz"), "half an exchange").expect("write");
        write("3");
        assert!(at("log.2").exists() && !at("log.2.gz").exists() && !at("log.1.gz").exists());

        let lock = File::open(folder.path()).expect("open");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock");
        write("4");
        assert_eq!(records(&at("log.0")).len(), 2, "it goes on in the same file");
        drop(lock);
        write("5");
        assert_eq!(records(&at("log.0")).len(), 1);
    }

    #[test]
    fn nothing_is_written_to_no_log() {
        let folder = tempfile::tempdir().expect("folder");
        let format = LogFormat::Nothing;
        let (state, file) = open(LogPlan { format, ..plan(folder.path(), 64) }).expect("open");
        let mut writer = Writer::new(state, file);
        Lines::default().push(b"text\n", (Stream::Stdout, AT), &mut writer);
        writer.finish(AT);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn what_does_not_fit_into_the_ring_is_counted_and_said() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        ours.set_nonblocking(true).expect("non-blocking");
        let state = LogState::new(LogPlan { buffer: Some(4096), ..plan(Path::new("/"), 1 << 20) });
        let mut writer = Writer::new(state, ours.into());
        let line = [b'x'; 999].as_slice();
        // More than the socket and the ring hold together.
        for _ in 0..1000 {
            writer.add(Stream::Stdout, AT, line, false);
            writer.flush(AT);
        }
        assert!(writer.waits_for().is_some());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut &theirs, &mut all).expect("read");
            all
        });
        while writer.waits_for().is_some() {
            writer.pump();
        }
        writer.add(Stream::Stdout, AT, b"last", false);
        writer.flush(AT);
        drop(writer);
        let all = reader.join().expect("read");
        let mut texts = Vec::new();
        let mut rest = &all[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (batch, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            let record = log::decode(batch).expect("whole").expect("a record");
            texts.push(String::from_utf8_lossy(record.payload).into_owned());
            rest = after;
        }
        let [.., note, last] = texts.as_slice() else { panic!("{texts:?}") };
        let lost = (1000 - (texts.len() - 2)) * (999 + 20);
        assert_eq!(
            (note.as_str(), last.as_str()),
            (&*format!("[atoll: {lost} bytes of log records were lost: the log's buffer was full]\n"), "last")
        );
    }
}
