//! Pseudo-terminals of a given devpts instance (pty(7), devpts in the kernel's documentation).
//!
//! The master is opened through a descriptor of the instance's root and the slave from the master (`TIOCGPTPEER`), so
//! that no path a container controls is ever walked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The supervisor's side.
    pub master: OwnedFd,
    /// The process's side.
    pub slave: OwnedFd,
}

/// Opens a pseudo-terminal of the devpts whose root folder is `devpts`; close-on-exec, not a controlling terminal.
///
/// # Errors
/// `ENOSPC` when the instance has no more.
pub fn open(devpts: impl AsFd) -> io::Result<Pty> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok(Pty { master, slave })
}

/// Sets a terminal's size in characters.
///
/// # Errors
/// `ENOTTY`.
pub fn resize(terminal: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
