//! Netlink (netlink(7)): how the kernel is told about links, addresses, routes ([`route`]) and packet filters ([`nft`]).
//!
//! A [`message::Batch`] goes out in one send and is done when the send returns; the errors and the one acknowledgement of its last
//! message are then read. Dumps are read to their end, and again when the kernel says that they changed meanwhile. Multicast
//! groups (watching for changes) are left out until something watches.

pub mod message;
pub mod nft;
pub mod route;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use message::{Batch, Message, flag, messages};

/// Bytes of the receive buffer: twice what the kernel puts into one datagram of a dump.
const RECEIVE_BYTES: usize = 64 << 10;
/// Bytes that one dump may have: a full routing table of the internet is below.
const MAX_DUMP_BYTES: usize = 256 << 20;
/// How often a dump is begun anew because the kernel's tables changed while it was read.
const MAX_DUMP_TRIES: usize = 16;
/// Datagrams that one batch may be answered with.
const MAX_ANSWERS: usize = 4096;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words on an error.
const ERROR_TEXT: u16 = 1;

/// What can go wrong with netlink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed.
    #[error("netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel refused a message.
    #[error("{}", refusal(*errno, text))]
    Refused {
        /// Which message of the batch, from 0.
        index: usize,
        /// Why.
        errno: Errno,
        /// The kernel's own words (extended acknowledgement), often empty.
        text: String,
    },
    /// The kernel did not acknowledge a batch.
    #[error("the kernel gave no answer over netlink")]
    NoAnswer,
    /// A reply's lengths do not fit each other.
    #[error("a netlink reply is malformed: {0}")]
    Malformed(&'static str),
    /// A message or attribute is longer than its length field can say.
    #[error("a netlink message would be too long")]
    TooLong,
    /// A datagram is larger than the buffer for it, or a dump or the answers to a batch go beyond their limits.
    #[error("a netlink reply is larger than its limit")]
    ReplyTooLarge,
    /// The kernel's tables changed during each of many tries.
    #[error("the kernel's tables kept changing while they were read: try again")]
    KeepsChanging,
}

impl Error {
    /// Why the kernel refused, if that is what happened.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(error) => Errno::from_io_error(error),
            _ => None,
        }
    }
}

fn refusal(errno: Errno, text: &str) -> String {
    let reason = io::Error::from(errno);
    if text.is_empty() {
        format!("the kernel refused: {reason}")
    } else {
        format!("the kernel refused: {text} ({reason})")
    }
}

/// Which part of the kernel a socket speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes (rtnetlink(7)).
    Route,
    /// Packet filters (nfnetlink).
    Netfilter,
}

/// A message that answered a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Which message, by the protocol's numbers.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// A netlink socket. It belongs to the network namespace of the thread that opened it and may be used from any.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace; only the kernel can send to it.
    ///
    /// # Errors
    /// [`Error::Socket`]: `EPROTONOSUPPORT` when the kernel lacks the protocol.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number);
        let fd = fd.map_err(socket_error)?;
        set_option(&fd, libc::NETLINK_EXT_ACK)?;
        set_option(&fd, libc::NETLINK_CAP_ACK)?;
        if protocol == Protocol::Route {
            set_option(&fd, libc::NETLINK_GET_STRICT_CHK)?;
        }
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(socket_error)?;
        Ok(Self { fd, sequence: 1, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends a batch and returns the messages that answered it. Rtnetlink runs every message of a batch even when one before
    /// it failed; nfnetlink runs a transaction whole or not at all.
    ///
    /// # Errors
    /// [`Error::Refused`] with the first message that was refused.
    pub fn execute(&mut self, batch: &Batch) -> Result<Vec<Reply>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (first, awaited) = self.send(batch, true)?;
        let mut replies = Vec::new();
        let mut refused = None;
        for _ in 0..MAX_ANSWERS {
            // The kernel answered within the send: what is not there now will not come.
            let received = match receive(&self.fd, &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(received) => received,
                Err(Error::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(refused.unwrap_or(Error::NoAnswer));
                }
                Err(error) => return Err(error),
            };
            for message in messages(received) {
                let message = message?;
                let index = message.sequence.wrapping_sub(first);
                if index as usize >= batch.len() {
                    continue;
                }
                if message.kind != message::ERROR {
                    replies.push(Reply { kind: message.kind, body: message.body.to_vec() });
                    continue;
                }
                if let Some(error) = refusal_in(&message, index as usize)? {
                    refused.get_or_insert(error);
                }
                if message.sequence == awaited {
                    return refused.map_or(Ok(replies), Err);
                }
            }
        }
        Err(Error::ReplyTooLarge)
    }

    /// Sends a batch of one dump request and returns all that it lists.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot be listed, [`Error::KeepsChanging`].
    pub fn dump(&mut self, batch: &Batch) -> Result<Vec<Reply>, Error> {
        for _ in 0..MAX_DUMP_TRIES {
            if let Some(replies) = self.dump_once(batch)? {
                return Ok(replies);
            }
        }
        Err(Error::KeepsChanging)
    }

    /// One try; none when the kernel's tables changed meanwhile.
    fn dump_once(&mut self, batch: &Batch) -> Result<Option<Vec<Reply>>, Error> {
        let (first, _) = self.send(batch, false)?;
        let mut replies = Vec::new();
        let mut consistent = true;
        let mut total = 0;
        loop {
            let received = receive(&self.fd, &mut self.buffer, RecvFlags::empty())?;
            total += received.len();
            if total > MAX_DUMP_BYTES {
                return Err(Error::ReplyTooLarge);
            }
            for message in messages(received) {
                let message = message?;
                if message.sequence != first {
                    continue;
                }
                consistent &= message.flags & flag::DUMP_INTR == 0;
                match message.kind {
                    // Some dumps end with a status, some with an error, which may be zero.
                    message::DONE if message.body.len() < 4 => return Ok(consistent.then_some(replies)),
                    message::DONE | message::ERROR => {
                        return match refusal_in(&message, 0)? {
                            Some(Error::Refused { errno: Errno::INTR, .. }) => Ok(None),
                            Some(error) => Err(error),
                            None => Ok(consistent.then_some(replies)),
                        };
                    }
                    kind => replies.push(Reply { kind, body: message.body.to_vec() }),
                }
            }
        }
    }

    fn send(&mut self, batch: &Batch, acknowledge: bool) -> Result<(u32, u32), Error> {
        let first = self.sequence;
        let (bytes, awaited) = batch.seal(first, acknowledge)?;
        let count = u32::try_from(batch.len()).map_err(|_| Error::TooLong)?;
        self.sequence = first.wrapping_add(count);
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &bytes, SendFlags::empty())).map_err(socket_error)?;
        Ok((first, awaited))
    }
}

/// What an error message says: none when it is an acknowledgement.
fn refusal_in(message: &Message<'_>, index: usize) -> Result<Option<Error>, Error> {
    let code = i32::from_ne_bytes(message::array_at(message.body, 0)?);
    if code >= 0 {
        return Ok(None);
    }
    let errno = Errno::from_raw_os_error(code.checked_neg().unwrap_or(libc::EIO));
    let mut text = String::new();
    if message.flags & message::ACK_ATTRIBUTES != 0 {
        let request = if message.kind == message::DONE {
            0
        } else if message.flags & message::ACK_CAPPED != 0 {
            message::HEADER
        } else {
            message::u32_at(message.body, 4)? as usize
        };
        let attributes = message.body.get(4 + request.next_multiple_of(4)..).unwrap_or_default();
        if let Some(words) = message::find(attributes, ERROR_TEXT)? {
            text = message::text(words)?.to_owned();
        }
    }
    Ok(Some(Error::Refused { index, errno, text }))
}

fn receive<'a>(fd: &OwnedFd, buffer: &'a mut [u8], flags: RecvFlags) -> Result<&'a [u8], Error> {
    let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(fd, &mut *buffer, flags | RecvFlags::TRUNC))
        .map_err(socket_error)?;
    buffer.get(..length).ok_or(Error::ReplyTooLarge)
}

fn socket_error(errno: Errno) -> Error {
    Error::Socket(errno.into())
}

/// Switches an option of level SOL_NETLINK on.
fn set_option(fd: &OwnedFd, option: libc::c_int) -> Result<(), Error> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(|_| Error::TooLong)?;
    // SAFETY: the kernel reads `length` bytes of an integer that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast::<libc::c_void>(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::Socket(io::Error::last_os_error())) }
}
