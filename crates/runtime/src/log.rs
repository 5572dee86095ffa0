//! Reads the log files that a supervisor writes (formats: `atoll_wall::log`), while it writes them.
//!
//! A [`Reader`] goes through the files from the oldest on and hands out record after record; at the end of what has been
//! written it says so and can be asked again. It holds the file that it reads open and knows it again whatever its name has
//! become, compressed too, so that a rotation neither loses nor doubles a record for a reader that keeps up; files that were
//! rotated away before it reached them are skipped. A record that is cut off counts as not yet written.

mod file;
mod pack;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use atoll_model::Timestamp;
use atoll_wall::launch::LogFormat;
use atoll_wall::log::Stream;

pub use atoll_wall::log::PAYLOAD_MAX;
use file::LogFile;
pub use pack::{Packed, Published, pack};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read from the workload.
    pub at: Timestamp,
    /// Whether the line goes on in the stream's next record.
    pub partial: bool,
    /// The bytes, with the line feed if there was one.
    pub bytes: Vec<u8>,
    /// What stands beside it, in the format that has such.
    pub attributes: BTreeMap<String, String>,
}

/// The last lines of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// How many.
    pub lines: usize,
    /// Whether lines of standard output count.
    pub stdout: bool,
    /// Whether lines of standard error count.
    pub stderr: bool,
}

/// A place in a log of records, that a later reader can go on at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence number of the file.
    pub file: u64,
    /// Where the next record begins in it.
    pub offset: u64,
}

/// Reads a workload's log.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    format: LogFormat,
    current: Option<LogFile>,
}

impl Reader {
    /// A reader at the start of what is kept, or so that a tail is left.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read. A folder that is not there is an empty log.
    pub fn open(folder: &Path, format: &LogFormat, tail: Option<Tail>) -> io::Result<Self> {
        let mut reader = Self { folder: folder.to_owned(), format: format.clone(), current: None };
        let Some(mut tail) = tail else { return Ok(reader) };
        // From the newest file back, until there are enough lines.
        let mut files = reader.files()?.into_iter().peekable();
        while let Some(mut open) = files.next() {
            let (offset, found) = open.tail_offset(tail)?;
            tail.lines -= found;
            if tail.lines == 0 || files.peek().is_none() {
                open.seek(offset)?;
                reader.current = Some(open);
                break;
            }
        }
        Ok(reader)
    }

    /// A reader of a log of records that goes on at a place, or at the oldest record after it that is kept.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read.
    pub fn open_at(folder: &Path, format: &LogFormat, place: Cursor) -> io::Result<Self> {
        let mut reader = Self::open(folder, format, None)?;
        let mut later = reader.files()?;
        later.retain(|open| open.sequence() >= place.file);
        if let Some(mut open) = later.pop() {
            if open.sequence() == place.file {
                open.resume(place.offset)?;
            }
            reader.current = Some(open);
        }
        Ok(reader)
    }

    /// Where the next record begins; none before the first file was looked at.
    #[must_use]
    pub fn place(&self) -> Option<Cursor> {
        self.current.as_ref().map(|open| Cursor { file: open.sequence(), offset: open.offset() })
    }

    /// The next record, or `None` at the end of what has been written so far.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some(open) = &mut self.current
                && let Some(record) = open.next_record()?
            {
                return Ok(Some(record));
            }
            let Some(newer) = self.newer()? else { return Ok(None) };
            // The writer was done with the old file before the newer one appeared: what is left of it comes first.
            if let Some(open) = &mut self.current
                && let Some(record) = open.next_record()?
            {
                return Ok(Some(record));
            }
            self.current = Some(newer);
        }
    }

    /// The file after the current one.
    fn newer(&self) -> io::Result<Option<LogFile>> {
        let Some(current) = &self.current else { return Ok(self.files()?.pop()) };
        // The common case first: nothing was rotated since the last look.
        match std::fs::metadata(self.folder.join(self.format.file_name(0))) {
            Ok(meta) if current.has(&meta) => return Ok(None),
            Ok(_) => {}
            // Between two steps of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut files = self.files()?;
        match files.iter().position(|open| current.is_or_became(open)) {
            Some(0) => Ok(None),
            Some(index) => Ok(Some(files.swap_remove(index - 1))),
            // It was rotated away: the oldest that is left is the next.
            None => Ok(files.pop()),
        }
    }

    /// The files, newest first. Names are asked for in the order in which files age, and a file is made before the one that it
    /// replaces is removed, so that none is missed while they move.
    fn files(&self) -> io::Result<Vec<LogFile>> {
        let mut files: Vec<LogFile> = Vec::new();
        let Some(oldest) = ages(&self.folder, &self.format)?.last().copied() else { return Ok(files) };
        // One more: a rotation may be under way.
        for age in 0..=oldest.saturating_add(1) {
            if let Some(open) = LogFile::open(&self.folder, &self.format, age)?
                && !files.last().is_some_and(|last| last.is_or_became(&open))
            {
                files.push(open);
            }
        }
        Ok(files)
    }
}

/// The ages of the files that are there.
fn ages(folder: &Path, format: &LogFormat) -> io::Result<BTreeSet<u32>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut ages = BTreeSet::new();
    for entry in entries {
        ages.extend(entry?.file_name().to_str().and_then(|name| format.age(name)));
    }
    Ok(ages)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use atoll_wall::log::{self, Record};

    use super::*;

    /// A log of files, oldest first; each text is a record, one that ends in `…` is partial.
    fn write(folder: &Path, files: &[&[&str]]) {
        for (index, records) in files.iter().enumerate() {
            let age = u32::try_from(files.len() - 1 - index).expect("few files");
            let mut bytes = log::encode_header(index as u64).to_vec();
            for text in *records {
                let partial = text.ends_with('…');
                let payload = text.trim_end_matches('…').as_bytes();
                Record { stream: Stream::Stdout, at: Timestamp(1), partial, payload }.encode_into(&mut bytes);
            }
            std::fs::write(folder.join(format!("log.{age}")), bytes).expect("write");
        }
    }

    fn rest(reader: &mut Reader) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(record) = reader.next_record().expect("readable") {
            texts.push(String::from_utf8(record.bytes).expect("text"));
        }
        texts
    }

    fn check(files: &[&[&str]], tail: Option<usize>, expected: &[&str]) {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), files);
        let tail = tail.map(|lines| Tail { lines, stdout: true, stderr: true });
        let check = |form: &str| {
            let mut reader = Reader::open(folder.path(), &LogFormat::Records, tail).expect("open");
            assert_eq!(rest(&mut reader), expected, "tail {tail:?} of {files:?}, {form}");
        };
        check("plain");
        pack_all(folder.path(), &LogFormat::Records);
        check("compressed");
    }

    #[test]
    fn everything_in_order() {
        check(&[], None, &[]);
        check(&[&["a", "b"], &["c"]], None, &["a", "b", "c"]);
    }

    #[test]
    fn tails_reach_across_files() {
        let files: &[&[&str]] = &[&["a", "b"], &["c", "d"], &["e"]];
        check(files, Some(0), &[]);
        check(files, Some(1), &["e"]);
        check(files, Some(2), &["d", "e"]);
        check(files, Some(4), &["b", "c", "d", "e"]);
        check(files, Some(9), &["a", "b", "c", "d", "e"]);
        check(&[], Some(3), &[]);
    }

    #[test]
    fn a_tail_counts_lines_not_records() {
        check(&[&["x", "a…", "b", "c"]], Some(2), &["a", "b", "c"]);
    }

    #[test]
    fn a_follower_sees_every_record_once_over_rotations() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |age| folder.path().join(format!("log.{age}"));
        write(folder.path(), &[&["a"]]);
        let mut reader = Reader::open(folder.path(), &LogFormat::Records, None).expect("open");
        assert_eq!(rest(&mut reader), ["a"]);

        let mut bytes = Vec::new();
        Record { stream: Stream::Stdout, at: Timestamp(2), partial: false, payload: b"b" }.encode_into(&mut bytes);
        let (first, second) = bytes.split_at(7);
        let mut file = std::fs::OpenOptions::new().append(true).open(path(0)).expect("open");
        file.write_all(first).expect("write");
        assert_eq!(rest(&mut reader), [""; 0], "half a record is none");
        file.write_all(second).expect("write");

        std::fs::rename(path(0), path(1)).expect("rotate");
        let mut next = log::encode_header(1).to_vec();
        Record { stream: Stream::Stderr, at: Timestamp(3), partial: false, payload: b"c" }.encode_into(&mut next);
        std::fs::write(path(0), next).expect("write");
        assert_eq!(rest(&mut reader), ["b", "c"]);
        assert_eq!(rest(&mut reader), [""; 0]);
    }

    #[test]
    fn a_reader_goes_on_where_another_was() {
        let folder = tempfile::tempdir().expect("folder");
        let files: &[&[&str]] = &[&["a", "b"], &["c", "d"], &["e"]];
        let all = ["a", "b", "c", "d", "e"];
        write(folder.path(), files);
        let open = |place| Reader::open_at(folder.path(), &LogFormat::Records, place).expect("open");
        for form in ["plain", "compressed"] {
            let mut places = vec![Cursor::default()];
            let mut reader = open(Cursor::default());
            while reader.next_record().expect("readable").is_some() {
                places.push(reader.place().expect("it reads"));
            }
            for (read, place) in places.into_iter().enumerate() {
                assert_eq!(rest(&mut open(place)), all[read..], "{form}, {place:?}");
            }
            pack_all(folder.path(), &LogFormat::Records);
        }
        // What was not yet on the disk when the host lost its power is written again after what is there.
        let mut reader = open(Cursor { file: 2, offset: 5000 });
        assert_eq!((rest(&mut reader), reader.place().map(|place| place.file)), (Vec::new(), Some(2)));
        std::fs::remove_file(folder.path().join("log.2.gz")).expect("remove");
        let mut reader = open(Cursor { file: 0, offset: 30 });
        assert_eq!(reader.place().map(|place| place.file), Some(1));
        assert_eq!(rest(&mut reader), all[2..]);
    }

    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("log.0"), b"not a log of ours at all").expect("write");
        let mut reader = Reader::open(folder.path(), &LogFormat::Records, None).expect("a folder");
        assert!(reader.next_record().is_err());
    }

    /// Compresses every closed file.
    fn pack_all(folder: &Path, format: &LogFormat) {
        while let Some(packed) = pack(folder, format).expect("compress") {
            packed.publish().expect("publish").expect("it is there").finish().expect("finish");
        }
    }

    fn json() -> LogFormat {
        LogFormat::Json { name: "x-json.log".to_owned(), attributes: BTreeMap::new() }
    }

    fn line(stream: Stream, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = Record { stream, at: Timestamp(7), partial: false, payload: text.as_bytes() };
        log::json::Encoder::new(&BTreeMap::from([("k".to_owned(), "v".to_owned())])).encode_into(&record, &mut bytes);
        bytes
    }

    #[test]
    fn json_lines_are_records_too() {
        let folder = tempfile::tempdir().expect("folder");
        let texts = [line(Stream::Stdout, "a\n"), line(Stream::Stderr, "b"), line(Stream::Stderr, "c\n")].concat();
        std::fs::write(folder.path().join("x-json.log.1"), texts).expect("write");
        std::fs::write(folder.path().join("x-json.log"), line(Stream::Stdout, "d\n")).expect("write");
        let mut reader = Reader::open(folder.path(), &json(), None).expect("open");
        let records: Vec<_> = std::iter::from_fn(|| reader.next_record().expect("readable")).collect();
        let shown: Vec<_> = records.iter().map(|record| (record.stream, &*record.bytes, record.partial)).collect();
        use Stream::{Stderr, Stdout};
        let expected: [(Stream, &[u8], bool); 4] =
            [(Stdout, b"a\n", false), (Stderr, b"b", true), (Stderr, b"c\n", false), (Stdout, b"d\n", false)];
        assert_eq!(shown, expected);
        assert_eq!(records[0].attributes["k"], "v");

        let check = |lines: usize, stdout: bool, stderr: bool, expected: &[&str]| {
            let tail = Tail { lines, stdout, stderr };
            let mut reader = Reader::open(folder.path(), &json(), Some(tail)).expect("open");
            assert_eq!(rest(&mut reader), expected, "{tail:?}");
        };
        for _ in 0..2 {
            check(1, true, true, &["d\n"]);
            check(1, false, true, &["b", "c\n", "d\n"]);
            check(2, true, false, &["a\n", "b", "c\n", "d\n"]);
            check(2, true, true, &["b", "c\n", "d\n"]);
            pack_all(folder.path(), &json());
        }
    }

    #[test]
    fn a_file_that_was_emptied_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x-json.log");
        std::fs::write(&path, line(Stream::Stdout, "before\n")).expect("write");
        let mut reader = Reader::open(folder.path(), &json(), None).expect("open");
        assert_eq!(rest(&mut reader), ["before\n"]);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
        file.set_len(0).expect("truncate");
        assert_eq!(rest(&mut reader), [""; 0]);
        file.write_all(&line(Stream::Stdout, "after\n")).expect("write");
        assert_eq!(rest(&mut reader), ["after\n"]);
    }

    /// Rotates as a supervisor does, and compresses as the daemon does, in an order that a seed decides, while a reader reads.
    #[test]
    fn a_follower_sees_every_line_once_whatever_happens_to_the_files() {
        for format in [LogFormat::Records, json()] {
            for seed in 0..8_u32 {
                let folder = tempfile::tempdir().expect("folder");
                follow_through(folder.path(), &format, seed);
            }
        }
    }

    fn follow_through(folder: &Path, format: &LogFormat, mut seed: u32) {
        let at = |age| folder.join(format.file_name(age));
        let head = |sequence: u64| match format {
            LogFormat::Records => log::encode_header(sequence).to_vec(),
            _ => Vec::new(),
        };
        std::fs::write(at(0), head(0)).expect("write");
        let mut reader = Reader::open(folder, format, None).expect("open");
        let (mut written, mut sequence, mut seen) = (0, 0, Vec::new());
        for _ in 0..200 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match seed >> 29 {
                0..=3 => {
                    let text = format!("{written}\n");
                    let record =
                        Record { stream: Stream::Stdout, at: Timestamp(1), partial: false, payload: text.as_bytes() };
                    let mut bytes = line(Stream::Stdout, &text);
                    if *format == LogFormat::Records {
                        bytes.clear();
                        record.encode_into(&mut bytes);
                    }
                    let mut file = std::fs::OpenOptions::new().append(true).open(at(0)).expect("open");
                    file.write_all(&bytes).expect("write");
                    written += 1;
                }
                4 => {
                    sequence += 1;
                    for age in (0..200).rev() {
                        drop(std::fs::rename(at(age), at(age + 1)));
                        let packed = |age| folder.join(format.packed_name(age));
                        drop(std::fs::rename(packed(age), packed(age + 1)));
                    }
                    std::fs::write(at(0), head(sequence)).expect("write");
                }
                5 => pack_all(folder, format),
                6 => {
                    // A daemon that was killed in the middle of an exchange.
                    if let Some(packed) = pack(folder, format).expect("compress") {
                        drop(packed.publish().expect("publish"));
                    }
                }
                _ => seen.extend(rest(&mut reader)),
            }
        }
        seen.extend(rest(&mut reader));
        let expected: Vec<String> = (0..written).map(|number| format!("{number}\n")).collect();
        assert_eq!(seen, expected);
        pack_all(folder, format);
        assert_eq!(rest(&mut Reader::open(folder, format, None).expect("open")), expected);
    }

    #[test]
    fn a_file_that_was_rotated_away_while_it_was_compressed_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), &[&["a"], &["b"]]);
        let packed = pack(folder.path(), &LogFormat::Records).expect("compress").expect("one is closed");
        std::fs::remove_file(folder.path().join("log.1")).expect("rotate");
        assert!(packed.publish().expect("publish").is_none());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
