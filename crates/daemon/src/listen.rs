//! Where the daemon listens: its unix socket, what systemd hands over, and TCP for those who have a certificate.
//!
//! Without TLS there is TCP only on a loopback address, and only where that was asked for by name: whoever can connect is as
//! good as root.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, getsockname};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, Tcp};
use crate::instance;
use crate::stream::{Peer, Stream};
use crate::tls;

/// The first descriptor that systemd hands over (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// Sockets that are taken over at most.
const HANDED_MAX: i32 = 16;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What connections come from.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

#[derive(Clone)]
struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tls")
    }
}

/// A connection that may still have to say who it is.
pub(crate) enum Arrival {
    Ready(Stream, Peer),
    Handshake(TlsAcceptor, TcpStream, SocketAddr),
}

/// All listeners, and whether the unix socket is our own to remove.
pub(crate) fn all(config: &Config, handed: Vec<OwnedFd>) -> Result<(Vec<Listener>, bool)> {
    let tls = config.tcp.tls.as_ref().map(tls::acceptor).transpose()?.map(Tls);
    let mut listeners = Vec::new();
    for socket in handed {
        listeners.push(take_over(socket, &config.tcp, tls.as_ref())?);
    }
    let own = !listeners.iter().any(|listener| matches!(listener.socket, Socket::Unix(_)));
    if own {
        listeners.push(Listener {
            socket: Socket::Unix(instance::listen(&config.socket(), config.callers.projects.are_there())?),
            tls: None,
        });
    }
    if let Some(address) = config.tcp.listen {
        listeners.push(Listener { tls, ..plain(address)? });
    }
    Ok((listeners, own))
}

/// TCP without TLS.
pub(crate) fn plain(address: SocketAddr) -> Result<Listener> {
    let bind = || -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let socket = bind().with_context(|| format!("listening on tcp://{address}"))?;
    Ok(Listener { socket: Socket::Tcp(socket), tls: None })
}

/// The sockets that systemd handed over to this process.
pub(crate) fn handed_over() -> Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, HANDED_MAX);
    let take = |number| atoll_sys::fd::take_inherited(number).with_context(|| format!("taking over socket {number}"));
    (FIRST..FIRST + count).map(take).collect()
}

fn take_over(socket: OwnedFd, tcp: &Tcp, tls: Option<&Tls>) -> Result<Listener> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    match getsockname(socket.as_fd())?.address_family() {
        AddressFamily::UNIX => {
            let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
            Ok(Listener { socket: Socket::Unix(listener), tls: None })
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener = std::net::TcpListener::from(socket);
            tcp.check(listener.local_addr()?)?;
            Ok(Listener { socket: Socket::Tcp(TcpListener::from_std(listener)?), tls: tls.cloned() })
        }
        _ => bail!("systemd handed over a socket that is neither unix nor TCP"),
    }
}

impl Listener {
    /// The next connection.
    pub(crate) async fn accept(&self) -> std::io::Result<Arrival> {
        match (&self.socket, &self.tls) {
            (Socket::Unix(listener), _) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred()?;
                let peer = Peer::Process { uid: who.uid(), gid: who.gid(), pid: who.pid() };
                Ok(Arrival::Ready(Stream::Unix(stream), peer))
            }
            (Socket::Tcp(listener), tls) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(match tls {
                    Some(Tls(acceptor)) => Arrival::Handshake(acceptor.clone(), stream, address),
                    None => Arrival::Ready(Stream::Tcp(stream), Peer::Loopback { address }),
                })
            }
        }
    }
}

impl Arrival {
    /// Who came; none of those who do not say it as they should, or not in time.
    pub(crate) async fn admit(self) -> Option<(Stream, Peer)> {
        let (acceptor, stream, address) = match self {
            Self::Ready(stream, peer) => return Some((stream, peer)),
            Self::Handshake(acceptor, stream, address) => (acceptor, stream, address),
        };
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let subject = certificate.map(tls::subject).unwrap_or_default();
                Some((Stream::Tls(Box::new(stream)), Peer::Certificate { address, subject }))
            }
            Ok(Err(error)) => {
                tracing::info!(%address, %error, "a client without a certificate of ours");
                None
            }
            Err(_) => None,
        }
    }
}
