//! What a socket's other end has not yet taken.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes that were sent and not yet taken: by the receiving kernel (TCP), by the receiving program (unix sockets, in which they
/// count with what the kernel keeps about them). unix(7), tcp(7): `SIOCOUTQ`.
///
/// # Errors
/// When it is no socket.
pub fn unsent(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(u32::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_read_is_not_waiting() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("sockets");
        assert_eq!(unsent(&ours).expect("a socket"), 0);
        ours.write_all(b"text").expect("write");
        assert!(unsent(&ours).expect("a socket") > 0);
        theirs.read_exact(&mut [0; 4]).expect("read");
        assert_eq!(unsent(&ours).expect("a socket"), 0);
    }
}
