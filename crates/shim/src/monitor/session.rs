//! The streams and the process of the workload itself, or of one exec session.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_model::Exit;
use atoll_wall::log::Stream;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::handover::StreamFds;
use crate::logfile::Lines;

/// Bytes read at a time; a stream frame holds as much.
const BLOCK: usize = 64 << 10;
/// Input that waits for a program that does not read; more is left with its client.
const INPUT_MAX: usize = 64 << 10;

/// Whose streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Init,
    Exec(String),
    /// The check of the workload's health that goes on.
    Check,
}

/// One set of streams with its process.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) whose: Whose,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) exit: Option<Exit>,
    pub(super) outputs: Vec<Output>,
    input: Option<Input>,
    /// Master of the terminal, if it has one.
    terminal: Option<OwnedFd>,
    stdin_once: bool,
}

/// A stream that is read.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: Stream,
    /// `None` when it has ended.
    pub(super) fd: Option<OwnedFd>,
    pub(super) lines: Lines,
}

/// The stream that is written.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    queue: VecDeque<u8>,
    /// Whether it ends after the queue.
    ending: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) stream: Stream,
    pub(super) bytes: Vec<u8>,
}

impl Session {
    pub(super) fn new(whose: Whose, (pid, pidfd): (i32, OwnedFd), streams: StreamFds, stdin_once: bool) -> Self {
        let output = |stream, fd| Output { stream, fd: Some(fd), lines: Lines::default() };
        let input = |fd| Input { fd, queue: VecDeque::new(), ending: false };
        let (outputs, input, terminal) = match streams {
            StreamFds::Terminal(master) => {
                // Out of descriptors: then input, or the size, is what it does without.
                let (writer, sizer) = (master.try_clone().ok(), master.try_clone().ok());
                (vec![output(Stream::Stdout, master)], writer.map(input), sizer)
            }
            StreamFds::Pipes { stdin, stdout, stderr } => {
                (vec![output(Stream::Stdout, stdout), output(Stream::Stderr, stderr)], stdin.map(input), None)
            }
        };
        Self { whose, pid, pidfd, exit: None, outputs, input, terminal, stdin_once }
    }

    pub(super) const fn is_stdin_once(&self) -> bool {
        self.stdin_once
    }

    /// Lets go of what its process has left open.
    pub(super) fn close(&mut self) {
        self.outputs.clear();
        self.input = None;
        self.terminal = None;
    }

    /// Reads once; `None` when there is nothing (any more).
    pub(super) fn read(&mut self, output: usize) -> Option<Chunk> {
        let source = &mut self.outputs[output];
        let mut bytes = vec![0; BLOCK];
        match rustix::io::read(source.fd.as_ref()?, &mut bytes[..]) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                Some(Chunk { stream: source.stream, bytes })
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            // The end; a terminal's is EIO.
            Ok(_) | Err(_) => {
                source.fd = None;
                None
            }
        }
    }

    /// Whether nothing more comes. When its process has ended, whoever else holds the streams' other ends is not waited
    /// for: what they hold now is all.
    pub(super) fn is_drained(&self) -> bool {
        self.outputs.iter().filter_map(|output| output.fd.as_ref()).all(|fd| {
            let mut fds = [PollFd::new(fd, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
        })
    }

    /// Takes input from a client; empty is its end.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let is_terminal = self.terminal.is_some();
        let Some(input) = &mut self.input else { return };
        if bytes.is_empty() {
            input.ending |= !is_terminal;
        } else {
            input.queue.extend(bytes);
        }
        self.pump_input();
    }

    /// A client that was coupled to the input has left.
    pub(super) fn client_left(&mut self) {
        if self.stdin_once {
            self.feed(&[]);
        }
    }

    /// Writes what waits.
    pub(super) fn pump_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.queue.is_empty() {
            match rustix::io::write(&input.fd, input.queue.as_slices().0) {
                Ok(count) => drop(input.queue.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.ending {
            self.input = None;
        } else {
            input.queue.shrink_to(0);
        }
    }

    /// The descriptor to wait for when input waits.
    pub(super) fn input_waiting(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().filter(|input| !input.queue.is_empty()).map(|input| input.fd.as_fd())
    }

    pub(super) fn input_is_full(&self) -> bool {
        self.input.as_ref().is_some_and(|input| input.queue.len() >= INPUT_MAX)
    }

    /// Changes the size of the terminal.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> std::io::Result<()> {
        match &self.terminal {
            Some(terminal) => atoll_sys::pty::resize(terminal, rows, columns),
            None => Err(std::io::Error::from(Errno::NOTTY)),
        }
    }
}
