//! The connection to a receiver: messages go out one by one, and whether they were taken can be asked.
//!
//! What a program at a unix socket has read, and what the kernel at the other end of a TCP connection has acknowledged, counts as
//! taken; of UDP, what has left.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::SyslogAddress;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};

/// Sockets that a host's own receiver may have.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// How long a connection may take to be made, and one message to be sent.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How often a receiver that has not yet taken everything is looked at: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_MOST: Duration = Duration::from_millis(100);

/// Where a receiver is.
#[derive(Debug)]
pub(super) struct Address {
    place: SyslogAddress,
    /// Whether a message that is too large for a datagram can be sent as a file, as the journal takes it.
    files: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: Socket,
    files: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Stream(UnixStream),
    Datagram(UnixDatagram),
}

impl Address {
    pub(super) fn journal(path: &Path) -> Self {
        Self { place: SyslogAddress::Datagram(path.to_owned()), files: true }
    }
}

impl From<SyslogAddress> for Address {
    fn from(place: SyslogAddress) -> Self {
        Self { place, files: false }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }
}

impl Receiver {
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        let connecting = tokio::time::timeout(CONNECT_LIMIT, connect(&address.place)).await;
        Ok(Self { socket: connecting.map_err(|_| io::ErrorKind::TimedOut)??, files: address.files, buffer: Vec::new() })
    }

    /// Sends what `encode` writes, as one message; nothing, where it writes nothing.
    pub(super) async fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.buffer.clear();
        encode(&mut self.buffer);
        let message = &self.buffer[..];
        if message.is_empty() {
            return Ok(());
        }
        let sent = match &mut self.socket {
            Socket::Tcp(stream) => return stream.write_all(message).await,
            Socket::Stream(stream) => return stream.write_all(message).await,
            Socket::Udp(socket) => socket.send(message).await,
            Socket::Datagram(socket) => match socket.send(message).await {
                Err(error) if self.files && is_too_long(&error) => send_file(socket, message).await,
                other => other,
            },
        };
        sent.map(drop)
    }

    /// Fails where the receiver has gone.
    pub(super) fn check(&self) -> io::Result<()> {
        let mut byte = [0];
        let read = match &self.socket {
            Socket::Tcp(stream) => stream.try_read(&mut byte),
            Socket::Stream(stream) => stream.try_read(&mut byte),
            Socket::Udp(_) | Socket::Datagram(_) => return Ok(()),
        };
        match read {
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            // Receivers have nothing to say.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until everything that was sent has been taken.
    pub(super) async fn settle(&self) -> io::Result<()> {
        let mut pause = LOOK_FIRST;
        loop {
            // In this order: a receiver that goes without having read gives up what waits, and leaves an error.
            let waits = atoll_sys::socket::unsent(&self.socket)?;
            sockopt::socket_error(&self.socket)??;
            if waits == 0 {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MOST);
        }
    }
}

async fn connect(place: &SyslogAddress) -> io::Result<Socket> {
    Ok(match place {
        SyslogAddress::Udp(host) => {
            let address = tokio::net::lookup_host(host).await?.next().ok_or(io::ErrorKind::NotFound)?;
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            Socket::Udp(socket)
        }
        SyslogAddress::Tcp(host) => Socket::Tcp(TcpStream::connect(host).await?),
        SyslogAddress::Stream(path) => Socket::Stream(UnixStream::connect(path).await?),
        SyslogAddress::Datagram(path) => datagram(path)?,
        SyslogAddress::Local => return local().await,
    })
}

async fn local() -> io::Result<Socket> {
    for path in LOCAL.map(PathBuf::from) {
        if let Ok(socket) = datagram(&path) {
            return Ok(socket);
        }
        if let Ok(stream) = UnixStream::connect(&path).await {
            return Ok(Socket::Stream(stream));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no receiver of syslog messages is on this host"))
}

fn datagram(path: &Path) -> io::Result<Socket> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Socket::Datagram(socket))
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

/// Sends a message as a sealed file in memory.
async fn send_file(socket: &UnixDatagram, message: &[u8]) -> io::Result<usize> {
    let file = sealed(message)?;
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::NOSIGNAL)?)
    };
    socket.async_io(Interest::WRITABLE, send).await
}

fn sealed(message: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("atoll-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, message)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into())
}
