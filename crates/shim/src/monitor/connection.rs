//! One client: the daemon's control connection, or one that carries a client's streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_wall::frame::{Decoder, Frame, Kind, Malformed, encode_message, header};
use atoll_wall::log::Stream;
use atoll_wall::message::{Attach, Reply};
use rustix::io::Errno;

use super::session::Whose;
use crate::handover::ClientState;

/// Output that waits for a client before the streams it is coupled to are read no further.
const CONGESTED: usize = 256 << 10;
const BLOCK: usize = 16 << 10;

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    stream: OwnedFd,
    decoder: Decoder,
    output: Vec<u8>,
    /// The version that is spoken; none before it has said hello.
    pub(super) protocol: Option<u32>,
    /// Whether it is told events.
    pub(super) watches: bool,
    pub(super) coupling: Option<Coupling>,
    ending: bool,
    hung_up: bool,
    closed: bool,
}

/// What a client is coupled to.
#[derive(Debug)]
pub(super) struct Coupling {
    pub(super) whose: Whose,
    pub(super) attach: Attach,
}

/// Whether the other end is root or us: nobody else can reach the socket's folder, and this does not rely on that.
pub(super) fn is_trusted(stream: &OwnedFd) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else { return false };
    peer.uid.is_root() || peer.uid == rustix::process::geteuid()
}

impl Connection {
    /// One that was handed over.
    pub(super) fn inherited(number: u64, stream: OwnedFd, state: ClientState) -> Self {
        let ClientState { protocol, watches, ending, unread, unsent } = state;
        let mut decoder = Decoder::default();
        decoder.push(&unread);
        Self { protocol, watches, ending, decoder, output: unsent, ..Self::accepted(number, stream) }
    }

    /// What [`Connection::inherited`] needs to go on; whatever it was coupled to is over.
    pub(super) fn into_parts(self) -> (OwnedFd, ClientState) {
        let state = ClientState {
            protocol: self.protocol,
            watches: self.watches,
            ending: self.ending,
            unread: self.decoder.rest().to_vec(),
            unsent: self.output,
        };
        (self.stream, state)
    }

    /// One that came through the socket.
    pub(super) fn accepted(number: u64, stream: OwnedFd) -> Self {
        Self {
            number,
            stream,
            decoder: Decoder::default(),
            output: Vec::new(),
            protocol: None,
            watches: false,
            coupling: None,
            ending: false,
            hung_up: false,
            closed: false,
        }
    }

    pub(super) fn is_coupled_to(&self, whose: &Whose) -> bool {
        self.coupling.as_ref().is_some_and(|coupling| coupling.whose == *whose)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() && !self.closed
    }

    pub(super) fn is_congested(&self) -> bool {
        self.output.len() > CONGESTED
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads what there is.
    pub(super) fn read(&mut self) {
        let mut block = [0; BLOCK];
        match rustix::io::read(&self.stream, &mut block) {
            Ok(0) => self.closed = true,
            Ok(count) => self.decoder.push(&block[..count]),
            Err(Errno::INTR) => {}
            // Only one that has hung up is read without being ready: nothing is left of it.
            Err(Errno::AGAIN) => self.closed |= self.hung_up,
            Err(_) => self.closed = true,
        }
    }

    /// Reads all that a client sent before it left: as much as a socket holds.
    pub(super) fn read_to_end(&mut self) {
        self.hung_up = true;
        while !self.closed {
            self.read();
        }
    }

    /// The next whole frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        self.decoder.next_frame()
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Closes it when everything is sent.
    pub(super) fn close_when_sent(&mut self) {
        self.ending = true;
        self.write();
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        self.send(&encode_message(reply));
    }

    /// Sends bytes, now or when the client takes them.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.write();
    }

    /// Sends a piece of output, if the client is coupled to that.
    pub(super) fn offer(&mut self, whose: &Whose, stream: Stream, bytes: &[u8]) {
        let Some(coupling) = self.coupling.as_ref().filter(|coupling| coupling.whose == *whose) else { return };
        let (wanted, kind) = match stream {
            Stream::Stdout => (coupling.attach.stdout, Kind::Stdout),
            Stream::Stderr => (coupling.attach.stderr, Kind::Stderr),
        };
        if wanted {
            self.output.extend_from_slice(&header(kind, bytes.len()));
            self.send(bytes);
        }
    }

    /// Writes what waits.
    pub(super) fn write(&mut self) {
        let mut sent = 0;
        while sent < self.output.len() && !self.closed {
            match rustix::net::send(&self.stream, &self.output[sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.closed = true,
            }
        }
        self.output.drain(..sent);
        if self.output.is_empty() {
            self.output.shrink_to(0);
            self.closed |= self.ending;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
