//! The files of one log: opened where they were left, appended to, rotated.
//!
//! Rotation renames within the folder while it holds the folder's lock, and never waits for it: where the daemon is about to
//! exchange a closed file for its compressed form, the file that is written grows for one more batch.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use atoll_model::Timestamp;
use atoll_wall::launch::{LogFormat, LogPlan};
use atoll_wall::log::{self, FILE_HEADER, Stream};
use rustix::fs::FlockOperation;

use super::encoder::Encoder;
use crate::handover::LogState;

/// Logs are for root: they hold whatever the workload wrote.
const MODE: u32 = 0o640;

/// Opens the current file, after cutting off a record that was not finished; makes it when there is none.
pub(super) fn open(plan: LogPlan) -> std::io::Result<(LogState, OwnedFd)> {
    let path = plan.folder.join(plan.format.file_name(0));
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&path)?;
    let (size, sequence) = match plan.format {
        LogFormat::Records => open_records(&plan, &mut file)?,
        LogFormat::Json { .. } => (whole_lines(&file)?, 0),
        LogFormat::Nothing => (0, 0),
    };
    file.set_len(size)?;
    Ok((LogState { size, sequence, ..LogState::new(plan) }, file.into()))
}

fn open_records(plan: &LogPlan, file: &mut File) -> std::io::Result<(u64, u64)> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    match content.first_chunk::<FILE_HEADER>().map(log::decode_header) {
        Some(Ok(sequence)) => Ok((whole_records(&content) as u64, sequence)),
        // Nothing of ours, or a header that was not finished: what may be older keeps its numbers below.
        _ => {
            let sequence = previous_sequence(plan)?.map_or(0, |sequence| sequence + 1);
            file.set_len(0)?;
            file.write_all(&log::encode_header(sequence))?;
            Ok((FILE_HEADER as u64, sequence))
        }
    }
}

/// Bytes up to the end of the last whole record.
fn whole_records(content: &[u8]) -> usize {
    let mut end = FILE_HEADER;
    while let Ok(Some(record)) = log::decode(&content[end..]) {
        end += record.encoded_len();
    }
    end
}

/// Bytes up to the end of the last whole line, looked for from the end.
fn whole_lines(file: &File) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - start).unwrap_or(0), 0);
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn previous_sequence(plan: &LogPlan) -> std::io::Result<Option<u64>> {
    let mut header = [0; FILE_HEADER];
    match File::open(plan.folder.join(plan.format.file_name(1))) {
        Ok(mut file) => Ok(file.read_exact(&mut header).ok().and_then(|()| log::decode_header(&header).ok())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Files that are written.
#[derive(Debug)]
pub(super) struct Files {
    state: LogState,
    file: File,
    encoder: Encoder,
}

impl Files {
    pub(super) fn new(state: LogState, file: OwnedFd) -> Self {
        let encoder = Encoder::of(&state.plan.format);
        Self { state, file: file.into(), encoder }
    }

    /// What [`Files::new`] needs to go on.
    pub(super) fn into_parts(self) -> (LogState, OwnedFd) {
        (self.state, self.file.into())
    }

    /// Writes whole records: all of them, or none.
    pub(super) fn write(&mut self, batch: &[u8], at: Timestamp) {
        let length = batch.len() as u64;
        if self.state.size.saturating_add(length) > self.state.plan.file_bytes && self.state.size > self.empty_size() {
            // A rotation that fails leaves the current file, which then grows until one succeeds.
            let _ = self.rotate();
        }
        if self.state.dropped > 0 {
            let why = format!("[atoll: {} bytes of log records were lost: the disk was full]\n", self.state.dropped);
            let mut note = Vec::new();
            self.encoder.encode((Stream::Stderr, at), why.as_bytes(), false, &mut note);
            if self.append(&note).is_ok() {
                self.state.dropped = 0;
            }
        }
        if self.append(batch).is_err() {
            self.state.dropped += length;
        }
    }

    /// Bytes of a file without a record.
    const fn empty_size(&self) -> u64 {
        match self.state.plan.format {
            LogFormat::Records => FILE_HEADER as u64,
            LogFormat::Json { .. } | LogFormat::Nothing => 0,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.state.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Whatever part of it was written is not a record. A file that somebody else made shorter stays so.
                if self.file.metadata().is_ok_and(|meta| meta.len() > self.state.size) {
                    let _ = self.file.set_len(self.state.size);
                }
                Err(error)
            }
        }
    }

    /// From the oldest file on, so that each finds its next name free, and whoever looks for a file meanwhile finds it under
    /// this name or the next.
    fn rotate(&mut self) -> std::io::Result<()> {
        let plan = &self.state.plan;
        let folder = File::open(&plan.folder)?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        let next = self.state.sequence + 1;
        let fresh = plan.folder.join("log.new");
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&fresh)?;
        file.set_len(0)?;
        if matches!(plan.format, LogFormat::Records) {
            file.write_all(&log::encode_header(next))?;
        }
        for age in (1..plan.files).rev() {
            self.age_by_one(age - 1)?;
        }
        std::fs::rename(&fresh, self.path(&self.state.plan.format.file_name(0)))?;
        self.file = file;
        self.state.sequence = next;
        self.state.size = self.empty_size();
        Ok(())
    }

    /// Gives the file of this age, compressed or not, the name of the next age, in the place of what has that.
    fn age_by_one(&self, age: u32) -> std::io::Result<()> {
        let format = &self.state.plan.format;
        let plain =
            ignore_absent(std::fs::rename(self.path(&format.file_name(age)), self.path(&format.file_name(age + 1))))?;
        let packed_after = self.path(&format.packed_name(age + 1));
        if plain {
            // What the compressed form of that age holds is older than what has its place now.
            ignore_absent(std::fs::remove_file(&packed_after))?;
        }
        let packed = self.path(&format.packed_name(age));
        if plain {
            // Left by a daemon that was killed between making it and taking the plain file away.
            ignore_absent(std::fs::remove_file(packed))?;
        } else if ignore_absent(std::fs::rename(packed, packed_after))? {
            ignore_absent(std::fs::remove_file(self.path(&format.file_name(age + 1))))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.plan.folder.join(name)
    }
}

/// Whether something was there.
fn ignore_absent(result: std::io::Result<()>) -> std::io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
