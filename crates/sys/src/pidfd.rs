//! Processes by descriptor (pidfd_open(2)): never another one that was given the same number.
//!
//! [`wait`] collects a child's end, [`poll`] sees any process's end, [`kill`] signals. Numbers are left to the caller.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status, 0 to 255.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// The status as a shell tells it: 128 and the signal's number for signals.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// Opens the process with this number.
///
/// # Errors
/// `ESRCH` when there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The number of the process, as the caller's pid namespace has it.
///
/// # Errors
/// `ESRCH` when it has ended and was collected, or is in no namespace of the caller's.
pub fn number(process: impl AsFd) -> io::Result<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Sends a signal by its number; real-time signals too. 0 only asks whether it is there.
///
/// # Errors
/// `ESRCH` when it has ended and was collected, `EINVAL` for no signal.
pub fn kill(process: impl AsFd, signal: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes integers and a null pointer, which stands for default signal information.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_fd().as_raw_fd(), signal, none, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the child has ended, and collects it.
///
/// # Errors
/// `ECHILD` when it is no child of the caller or was collected before.
pub fn wait(child: impl AsFd) -> io::Result<Exit> {
    loop {
        match collect(&child, WaitIdOptions::EXITED) {
            Ok(Some(exit)) => return Ok(exit),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Collects the child if it has ended.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(child: impl AsFd) -> io::Result<Option<Exit>> {
    collect(&child, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn collect(child: &impl AsFd, options: WaitIdOptions) -> io::Result<Option<Exit>> {
    let Some(status) = rustix::process::waitid(WaitId::PidFd(child.as_fd()), options)? else {
        return Ok(None);
    };
    let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or_default();
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(byte(code))),
        (None, Some(signal)) => Some(Exit::Signal(byte(signal))),
        (None, None) => None,
    })
}

/// Waits until the process has ended or the time is over; `None` waits for ever. True when it has ended.
///
/// # Errors
/// `EINVAL` for a time out of range.
pub fn poll(process: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout =
        timeout.map(Timespec::try_from).transpose().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    loop {
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[track_caller]
    fn check(script: &str, expected: Exit) {
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
        let fd = open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(poll(&fd, Some(Duration::from_secs(10))).unwrap());
        assert_eq!(wait(&fd).unwrap(), expected);
        // Collected by us already.
        assert!(child.wait().is_err());
    }

    #[test]
    fn ends_are_told_apart() {
        check("exit 0", Exit::Code(0));
        check("exit 77", Exit::Code(77));
        check("kill -TERM $$", Exit::Signal(15));
        check("kill -KILL $$", Exit::Signal(9));
        assert_eq!(Exit::Signal(9).status(), 137);
    }

    #[test]
    fn a_running_child_is_waited_for_with_a_limit() {
        let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let fd = open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!poll(&fd, Some(Duration::from_millis(5))).unwrap());
        assert_eq!(try_wait(&fd).unwrap(), None);
        kill(&fd, 15).unwrap();
        assert_eq!(wait(&fd).unwrap(), Exit::Signal(15));
        assert_eq!(kill(&fd, 15).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        let _ = child.wait();
    }
}
