//! The foreground: signals and the terminal of a container that `run` waits for.
//!
//! Signals come by a descriptor (signalfd(2)), the end by the pidfd, bytes of the terminal by its master: one loop polls
//! them all and copies a bounded buffer at a time. The own terminal is raw meanwhile and restored at the end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use atoll_sys::pidfd::{self, Exit};
use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios};

/// Bytes copied at a time.
const CHUNK: usize = 16 << 10;

/// All signals that can be, blocked and readable from here.
#[derive(Debug)]
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// Blocks them in this process from now on.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: fills the storage with a full set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: reads the set that was just initialised; the old mask is not asked for.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: reads the same set and makes a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel gave this new descriptor to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn next(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.0, &mut info).ok()?;
        let number = info.first_chunk::<4>().filter(|_| read == info.len())?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

/// The own terminal in raw mode, until dropped.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone: nothing is left to restore then.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Forwards signals and bytes until the process has ended; collects it.
pub(super) fn wait(process: BorrowedFd<'_>, master: Option<&OwnedFd>, signals: &Signals) -> io::Result<Exit> {
    let _raw = master.and_then(|_| Raw::enter());
    let mut stdin = master.is_some();
    if let Some(master) = master {
        resize(master);
    }
    loop {
        let mut fds = vec![PollFd::new(&process, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        let input = rustix::stdio::stdin();
        fds.extend(master.map(|master| PollFd::new(master, PollFlags::IN)));
        if stdin {
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            forward(process, master, signals);
        }
        if let Some(master) = master {
            if ready[2] && !copy(master.as_fd(), rustix::stdio::stdout()) && !ready[0] {
                // Every process of the container closed the terminal: only the end is still to come.
                return pidfd::wait(process);
            }
            if stdin && ready.get(3) == Some(&true) {
                stdin = copy(input, master.as_fd());
            }
        }
        if ready[0] {
            // What is still in the terminal comes before the end.
            while master.is_some_and(|master| readable(master) && copy(master.as_fd(), rustix::stdio::stdout())) {}
            return pidfd::wait(process);
        }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().contains(PollFlags::IN))
}

fn forward(process: BorrowedFd<'_>, master: Option<&OwnedFd>, signals: &Signals) {
    while let Some(signal) = signals.next() {
        match (signal, master) {
            (libc::SIGCHLD | libc::SIGURG, _) => {}
            (libc::SIGWINCH, Some(master)) => resize(master),
            // It may have ended just now; the loop sees that next.
            _ => drop(pidfd::kill(process, signal)),
        }
    }
}

fn resize(master: &OwnedFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        // A master whose slave is gone has no size to keep.
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// One chunk; false at the end of either side.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; CHUNK];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match rustix::io::write(to, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        Err(error) => matches!(error, rustix::io::Errno::INTR | rustix::io::Errno::AGAIN),
    }
}

/// Sends the master to the socket that the caller of `create` listens on (runc's docs/terminals.md).
pub(super) fn send_master(socket: &std::path::Path, master: &OwnedFd) -> io::Result<()> {
    let connection = atoll_sys::fd::connect_stream(socket)?;
    let name = format!("/proc/self/fd/{}", master.as_raw_fd());
    atoll_sys::fd::send(&connection, name.as_bytes(), Some(master.as_fd()))
}
