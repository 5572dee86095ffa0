//! Descriptors: close-on-exec for ranges, messages with descriptors over unix sockets, sockets by long paths.
//!
//! What a clone must not keep of its maker goes by one [`close_all_but`]; [`send`] and [`receive`] carry one message
//! with at most one descriptor (`SCM_RIGHTS`, unix(7)). Streams are left out: message boundaries are the protocol here.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Standard streams come before this descriptor.
const FIRST: u32 = 3;
/// More descriptors than a process can have (the kernel's default of fs.nr_open).
const NUMBERS_MAX: u32 = 1 << 20;

/// Closes every descriptor from 3 upward (close_range(2)) but those in `keep` and, of the first `preserve`, those that an
/// exec inherits: what else has one of these numbers was opened by this program for itself.
///
/// # Safety
/// Whoever owns a closed descriptor in this process's memory never uses or drops it again: the caller is a clone that ends
/// without returning to the code it was copied from.
///
/// # Errors
/// `ENOSYS` on kernels before 5.9.
pub unsafe fn close_all_but(preserve: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let inherited = (FIRST..FIRST + preserve.min(NUMBERS_MAX)).filter(|number| is_inherited(*number));
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).chain(inherited).collect();
    keep.sort_unstable();
    let mut from = FIRST;
    for kept in keep.into_iter().map(Some).chain([None]) {
        let last = kept.map_or(u32::MAX, |kept| kept.wrapping_sub(1));
        if kept.is_some_and(|kept| kept < from) {
            continue;
        }
        if kept != Some(from) {
            // SAFETY: takes three integers; the caller answers for the descriptors' owners.
            let result = unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        from = kept.map_or(u32::MAX, |kept| kept + 1);
    }
    Ok(())
}

fn is_inherited(number: u32) -> bool {
    // SAFETY: takes integers; for a number without a descriptor the call fails.
    let flags = unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Clears close-on-exec, so that an exec keeps the descriptor.
///
/// # Errors
/// `EBADF`.
pub fn keep_on_exec(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
}

/// Two connected sockets that keep message boundaries, close-on-exec.
///
/// # Errors
/// When out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message, with a descriptor or without. Never raises SIGPIPE.
///
/// # Errors
/// `EPIPE` when the other end is closed; `EMSGSIZE` when the message is too long.
pub fn send(socket: impl AsFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message and its descriptor (close-on-exec), if it has one; `None` when the other end is closed.
///
/// # Errors
/// `EMSGSIZE` when the message is longer than `max` bytes or had more descriptors than one.
pub fn receive(socket: impl AsFd, max: usize) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut buffer = vec![0; max];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let fd = control
        .drain()
        .filter_map(|ancillary| match ancillary {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .next();
    if message.bytes == 0 && fd.is_none() {
        return Ok(None);
    }
    buffer.truncate(message.bytes);
    Ok(Some((buffer, fd)))
}

/// The address of a unix socket by a path of any length, through a descriptor of its folder.
fn address(path: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(invalid)?;
    let folder = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(&short)?;
    Ok((folder, address))
}

/// A listening `SOCK_SEQPACKET` socket at `path`, which must not exist.
///
/// # Errors
/// `EADDRINUSE` when the path exists.
pub fn listen_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (_folder, address) = address(path)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 4)?;
    Ok(socket)
}

/// Connects to the socket that [`listen_seqpacket`] made.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED` when nobody listens.
pub fn connect_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    connect(path, SocketType::SEQPACKET)
}

/// Connects to a stream socket by a path of any length.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED` when nobody listens.
pub fn connect_stream(path: &Path) -> io::Result<OwnedFd> {
    connect(path, SocketType::STREAM)
}

fn connect(path: &Path, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let (_folder, address) = address(path)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Takes a descriptor that the program was started with, by its number; it is close-on-exec and has another number
/// afterwards. For the start of a program, before anything else uses that number.
///
/// # Errors
/// `EBADF` when there is none.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: takes integers; a new descriptor changes no memory of this process.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes an integer; by this function's contract nobody else uses the number.
    unsafe { libc::close(number) };
    // SAFETY: made a moment ago, belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_a_descriptor() {
        let (a, b) = pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&a, b"hello", Some(writer.as_fd())).unwrap();
        drop(writer);
        let (message, fd) = receive(&b, 16).unwrap().unwrap();
        assert_eq!(message, b"hello");
        rustix::io::write(fd.unwrap(), b"x").unwrap();
        let mut byte = [0; 2];
        assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 1);
        drop(a);
        assert!(receive(&b, 16).unwrap().is_none());
    }

    #[test]
    fn too_long_is_an_error() {
        let (a, b) = pair().unwrap();
        send(&a, &[1; 17], None).unwrap();
        assert_eq!(receive(&b, 16).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[test]
    fn sockets_by_long_paths() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(150));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("s");
        let listener = listen_seqpacket(&path).unwrap();
        let client = connect_seqpacket(&path).unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        send(&client, b"1", None).unwrap();
        assert_eq!(receive(&server, 4).unwrap().unwrap().0, b"1");
    }
}
