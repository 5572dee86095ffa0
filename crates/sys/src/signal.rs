//! Signals as something to read (signalfd(2)): for a program that waits for them between other things.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks all signals that can be blocked, and gives the descriptor they are read from with [`next`].
///
/// # Errors
/// When out of descriptors.
pub fn block_all() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set that it is given.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: filled by the call above, which cannot fail for a valid pointer.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads the set; the old mask is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: reads the set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made a moment ago and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for the next signal; its number.
///
/// # Errors
/// Of read(2).
pub fn next(signals: &OwnedFd) -> io::Result<i32> {
    // `struct signalfd_siginfo` is 128 bytes, its first four the number.
    let mut info = [0; 128];
    rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut info[..]))?;
    let [n0, n1, n2, n3, ..] = info;
    Ok(i32::from_ne_bytes([n0, n1, n2, n3]))
}
