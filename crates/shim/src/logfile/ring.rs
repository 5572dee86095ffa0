//! A log that its workload never waits for (`mode=non-blocking`).
//!
//! ```text
//!   monitor ── batches of records ──► ring ── socket ──► atoll-shim log ──► files
//! ```
//!
//! The files are written by a process of their own, so that a disk that hangs stops that and nothing else; a thread would not
//! do, because the monitor makes exec sessions by clone(2). What does not fit into the ring is dropped and counted, and a
//! record in its place says how much is missing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use atoll_model::Timestamp;
use atoll_wall::launch::LogPlan;
use atoll_wall::log::Stream;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::encoder::Encoder;
use super::files::{self, Files};
use crate::handover::LogState;

/// How long the writer may take nothing when the workload has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the writer says when its file is open.
const READY: u8 = b'+';
/// Length of a batch on the socket, before it.
const LENGTH: usize = 4;

/// Starts the process that writes the files; our end of the socket.
pub(super) fn start(plan: &LogPlan) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Itself, whose file is a sealed copy that the workload cannot change.
    Command::new("/proc/self/exe").arg("log").stdin(theirs).stdout(Stdio::null()).spawn()?;
    let mut head = serde_json::to_vec(plan)?;
    head.push(b'\n');
    let mut socket = File::from(ours);
    socket.write_all(&head)?;
    if socket.read(&mut [0])? == 0 {
        return Err(std::io::Error::other("the process that writes the log could not begin"));
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket.into())
}

/// The process that writes the files: what it is told comes on standard input, until that ends.
pub(crate) fn run() -> Result<()> {
    let mut input = BufReader::new(File::from(std::io::stdin().as_fd().try_clone_to_owned()?));
    let mut head = Vec::new();
    input.read_until(b'\n', &mut head)?;
    let plan: LogPlan = serde_json::from_slice(&head).context("reading the plan of a log")?;
    let (state, file) = files::open(plan).context("opening a log")?;
    input.get_mut().write_all(&[READY])?;
    let mut files = Files::new(state, file);
    let mut length = [0; LENGTH];
    let mut batch = Vec::new();
    while input.read_exact(&mut length).is_ok() {
        batch.resize(u32::from_le_bytes(length) as usize, 0);
        if input.read_exact(&mut batch).is_err() {
            break;
        }
        files.write(&batch, SystemTime::now().into());
    }
    Ok(())
}

/// The monitor's end.
#[derive(Debug)]
pub(super) struct Ring {
    plan: LogPlan,
    socket: OwnedFd,
    waiting: Vec<u8>,
    /// Bytes that may wait.
    limit: usize,
    /// Bytes of records that did not fit since the last that did.
    dropped: u64,
}

impl Ring {
    pub(super) fn new(state: LogState, socket: OwnedFd, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { plan: state.plan, socket, waiting: state.waiting, limit, dropped: state.dropped }
    }

    /// What [`Ring::new`] needs to go on.
    pub(super) fn into_parts(self) -> (LogState, OwnedFd) {
        let state = LogState { waiting: self.waiting, dropped: self.dropped, ..LogState::new(self.plan) };
        (state, self.socket)
    }

    /// Hands whole records on, or drops them.
    pub(super) fn write(&mut self, batch: &[u8], at: Timestamp, encoder: &mut Encoder) {
        self.pump();
        // One batch may always wait: a small limit does not shut a long line out.
        if !self.waiting.is_empty() && self.waiting.len().saturating_add(batch.len()) > self.limit {
            self.dropped += batch.len() as u64;
            return;
        }
        if self.dropped > 0 {
            let why = format!("[atoll: {} bytes of log records were lost: the log's buffer was full]\n", self.dropped);
            let mut note = Vec::new();
            encoder.encode((Stream::Stderr, at), why.as_bytes(), false, &mut note);
            self.push(&note);
            self.dropped = 0;
        }
        self.push(batch);
        self.pump();
    }

    fn push(&mut self, batch: &[u8]) {
        let length = u32::try_from(batch.len()).expect("batches are short");
        self.waiting.extend_from_slice(&length.to_le_bytes());
        self.waiting.extend_from_slice(batch);
    }

    /// Writes what waits, as far as that goes at once.
    pub(super) fn pump(&mut self) {
        let mut sent = 0;
        while sent < self.waiting.len() {
            match rustix::io::write(&self.socket, &self.waiting[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The writer is gone, and with it whatever would read this.
                Err(_) => sent = self.waiting.len(),
            }
        }
        self.waiting.drain(..sent);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }

    /// What to wait for when something waits.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.socket.as_fd())
    }

    /// The end: waits until everything is in the files, while the writer goes on.
    pub(super) fn finish(&mut self) {
        while !self.waiting.is_empty() && self.wait(PollFlags::OUT) {
            self.pump();
        }
        // It says nothing: what comes is its end.
        if rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).is_ok() {
            self.wait(PollFlags::IN);
        }
    }

    /// Whether something came of waiting.
    fn wait(&self, flags: PollFlags) -> bool {
        let Ok(timeout) = Timespec::try_from(PATIENCE) else { return false };
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout)) {
                Err(Errno::INTR) => {}
                other => return other.is_ok_and(|ready| ready > 0),
            }
        }
    }
}
