//! A client of D-Bus: one connection, one call at a time, in the calling thread (D-Bus specification).
//!
//! ```text
//!   connect ──► SASL EXTERNAL: the kernel tells the other end who we are ──► Hello, on a bus
//!   call    ──► method call ──► its return or error; signals that come meanwhile are kept
//!   signal  ──► the next signal that was kept or comes
//! ```
//!
//! Each connection has [`PATIENCE`] for everything that is done with it, and takes messages up to a length: a peer that
//! stalls or babbles costs that much and no more. Served objects, descriptors and other byte orders than little-endian are
//! left out.

mod message;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub use message::Call;
use message::{Kind, Message};
pub use value::Value;

/// How long a connection may take for all that is done with it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most signals that are kept while a reply is waited for; the oldest go first.
const KEPT_MAX: usize = 64;
/// Longest line of the authentication.
const LINE_MAX: usize = 512;
/// The bus itself, as a program on the bus.
const BUS: (&str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there, or it went away or took too long.
    #[error("the message bus does not answer")]
    Io(#[from] io::Error),
    /// The other end does not take us for who we are.
    #[error("the message bus refuses us: {0:?}")]
    Refused(String),
    /// It does not speak D-Bus.
    #[error("the message bus sends what is no message")]
    Malformed,
    /// A message is longer than what is sent or taken.
    #[error("a message is too long")]
    TooLong,
    /// The called program answered with an error.
    #[error("{text} ({name})")]
    Answer {
        /// The error's name.
        name: String,
        /// What it says.
        text: String,
    },
}

/// What a text is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no value in the text form of GVariant that is understood here")]
pub struct NoValue;

/// A signal that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Its interface and name, with a dot between.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Without a bus between us and the called program.
    direct: bool,
    deadline: Instant,
    serial: u32,
    kept: VecDeque<Message>,
}

impl Connection {
    /// Connects to the bus at `path`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn to_bus(path: &Path) -> Result<Self, Error> {
        let mut connection = Self::new(connect(path)?, false)?;
        connection.call(&on_bus("Hello", &[]))?;
        Ok(connection)
    }

    /// Connects to one program at `path`, which no bus is in front of.
    ///
    /// # Errors
    /// [`Error`].
    pub fn to_peer(path: &Path) -> Result<Self, Error> {
        Self::new(connect(path)?, true)
    }

    fn new(stream: UnixStream, direct: bool) -> Result<Self, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut connection = Self { stream, direct, deadline, serial: 0, kept: VecDeque::new() };
        connection.authenticate()?;
        Ok(connection)
    }

    /// Whether the called program is at the other end itself.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Without a name of our own in it: the other end takes whom the kernel names, which holds in user namespaces too. All
    /// lines go at once: systemd overlooks a message that it reads together with the last of them.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(Error::Refused(line));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LINE_MAX {
                return Err(Error::TooLong);
            }
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    fn patience(&self) -> io::Result<Option<Duration>> {
        match self.deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(self.patience()?)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut into: &mut [u8]) -> Result<(), Error> {
        while !into.is_empty() {
            self.stream.set_read_timeout(self.patience()?)?;
            match self.stream.read(into) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => into = &mut into[read..],
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Message, Error> {
        let mut prefix = [0; message::PREFIX];
        self.receive(&mut prefix)?;
        let mut bytes = vec![0; message::length(prefix)?];
        let (head, rest) = bytes.split_at_mut(message::PREFIX);
        head.copy_from_slice(&prefix);
        self.receive(rest)?;
        Message::decode(&bytes)
    }

    /// Calls a method and waits for what it returns.
    ///
    /// # Errors
    /// [`Error::Answer`] when the method fails.
    pub fn call(&mut self, call: &Call<'_>) -> Result<Vec<Value>, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.encode(serial, self.direct)?)?;
        loop {
            let message = self.message()?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return message.values(),
                Kind::Error if message.reply_to == Some(serial) => return Err(answer(message)),
                Kind::Signal => self.keep(message),
                // An answer to nothing, or a call: nobody is served here.
                _ => {}
            }
        }
    }

    fn keep(&mut self, message: Message) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(message);
    }

    /// Asks a bus for the signals of an interface of one program; a direct connection gets all.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn listen(&mut self, sender: &str, interface: &str) -> Result<(), Error> {
        if self.direct {
            return Ok(());
        }
        let rule = format!("type='signal',sender='{sender}',interface='{interface}'");
        self.call(&on_bus("AddMatch", &[Value::Text(rule)])).map(|_| ())
    }

    /// Waits for the next signal with this name (interface, dot, member).
    ///
    /// # Errors
    /// [`Error::Io`] when none comes in time.
    pub fn signal(&mut self, name: &str) -> Result<Signal, Error> {
        loop {
            let message = match self.kept.pop_front() {
                Some(message) => message,
                None => self.message()?,
            };
            let (Some(interface), Some(member)) = (&message.interface, &message.member) else { continue };
            let came = format!("{interface}.{member}");
            if message.kind == Kind::Signal && came == name {
                return Ok(Signal { name: came, arguments: message.values()? });
            }
        }
    }
}

/// A call that the bus itself answers.
fn on_bus<'a>(member: &'a str, arguments: &'a [Value]) -> Call<'a> {
    Call { destination: BUS.0, path: BUS.1, interface: BUS.0, member, arguments }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    Ok(crate::fd::connect_stream(path)?.into())
}

/// A wait that ended before its time: the deadline is looked at next.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn answer(message: Message) -> Error {
    let values = message.values().unwrap_or_default();
    let text = values.first().and_then(Value::as_text).unwrap_or("no reason is given").to_owned();
    Error::Answer { name: message.error.unwrap_or_default(), text }
}
