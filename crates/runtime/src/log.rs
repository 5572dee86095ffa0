//! Reads the log files that a supervisor writes (format: `atoll_wall::log`), while it writes them.
//!
//! A [`Reader`] goes through the files in the order of their sequence numbers and hands out record after record; at
//! the end of what has been written it says so and can be asked again. It holds the file that it reads open, so a
//! rotation neither loses nor doubles a record for a reader that keeps up; files that were rotated away before it
//! reached them are skipped. A record that is cut off counts as not yet written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use atoll_model::Timestamp;
use atoll_wall::log::{self, FILE_HEADER, Stream};

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Files looked for: a bound on the rotation count that any configuration may have.
const FILES_MAX: u32 = 1000;

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
}

/// Reads a workload's log.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    current: Option<LogFile>,
    /// The lowest sequence number not yet read.
    wanted: u64,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    sequence: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Reader {
    /// A reader at the start of what is kept, or so that `tail` lines are left.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read. A folder that is not there is an empty log.
    pub fn open(folder: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut reader = Self { folder: folder.to_owned(), current: None, wanted: 0 };
        let Some(mut lines) = tail else {
            return Ok(reader);
        };
        let mut files = list(folder)?;
        let newest = files.last().map_or(0, |open| open.sequence + 1);
        // From the newest file backwards, until there are enough lines.
        while let Some(mut open) = files.pop() {
            let (offset, found) = open.tail_offset(lines)?;
            lines -= found;
            if lines == 0 || files.is_empty() {
                open.seek(offset)?;
                reader.wanted = open.sequence + 1;
                reader.current = Some(open);
                return Ok(reader);
            }
        }
        reader.wanted = newest;
        Ok(reader)
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
            let Some(newer) = self.newer()? else {
                return Ok(None);
            };
            // The writer was done with the old file before the newer one appeared: what is left of it comes first.
            if let Some(open) = &mut self.current
                && let Some(record) = open.next_record()?
            {
                return Ok(Some(record));
            }
            self.wanted = newer.sequence + 1;
            self.current = Some(newer);
        }
    }

    fn newer(&self) -> io::Result<Option<LogFile>> {
        // The common case first: nothing was rotated since the last look.
        if let (Some(current), Some(head)) = (&self.current, LogFile::open(&self.folder.join(log::file_name(0)))?)
            && head.sequence == current.sequence
        {
            return Ok(None);
        }
        Ok(list(&self.folder)?.into_iter().find(|open| open.sequence >= self.wanted))
    }
}

impl LogFile {
    /// Opens one file, unless it is not there or its header is not yet whole.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut header = [0; FILE_HEADER];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let sequence = log::decode_header(&header).map_err(damaged)?;
        Ok(Some(Self { file, sequence, buffer: Vec::new(), used: 0 }))
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.buffer.clear();
        self.used = 0;
        Ok(())
    }

    fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some(record) = log::decode(&self.buffer[self.used..]).map_err(damaged)? {
                self.used += record.encoded_len();
                return Ok(Some(LogRecord {
                    stream: record.stream,
                    at: record.at,
                    partial: record.partial,
                    bytes: record.payload.to_vec(),
                }));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let filled = self.buffer.len();
            self.buffer.resize(filled + BLOCK, 0);
            let count = self.file.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *count.as_ref().unwrap_or(&0));
            if count? == 0 {
                return Ok(None);
            }
        }
    }

    /// Where the last `lines` lines begin, and how many there are if fewer.
    fn tail_offset(&mut self, lines: usize) -> io::Result<(u64, usize)> {
        let mut starts = VecDeque::new();
        let mut position = FILE_HEADER as u64;
        let mut at_start = true;
        while let Some(record) = self.next_record()? {
            if at_start {
                starts.push_back(position);
                if starts.len() > lines {
                    starts.pop_front();
                }
            }
            at_start = !record.partial;
            position += (log::RECORD_HEADER + record.bytes.len() + log::RECORD_TRAILER) as u64;
        }
        Ok((starts.front().copied().unwrap_or(position), starts.len()))
    }
}

/// The files of a log, oldest first.
fn list(folder: &Path) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for age in 0..FILES_MAX {
        match LogFile::open(&folder.join(log::file_name(age)))? {
            Some(file) => files.push(file),
            // A rotation in progress leaves `log.0` missing for a moment.
            None if age == 0 => {}
            None => break,
        }
    }
    files.sort_by_key(|open| open.sequence);
    files.dedup_by_key(|open| open.sequence);
    Ok(files)
}

fn damaged(error: log::Corrupt) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use atoll_wall::log::Record;

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
            std::fs::write(folder.join(log::file_name(age)), bytes).expect("write");
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
        let mut reader = Reader::open(folder.path(), tail).expect("open");
        assert_eq!(rest(&mut reader), expected, "tail {tail:?} of {files:?}");
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
        let path = |age| folder.path().join(log::file_name(age));
        write(folder.path(), &[&["a"]]);
        let mut reader = Reader::open(folder.path(), None).expect("open");
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
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("log.0"), b"not a log of ours at all").expect("write");
        assert!(Reader::open(folder.path(), Some(1)).is_err());
    }
}
