//! A finished filter, and putting the calling thread under it by seccomp(2).
//!
//! A [`Program`] is a plain value that may be kept and compared; installing copies nothing and allocates nothing, so it
//! is safe between fork and exec. It needs `no_new_privs` or CAP_SYS_ADMIN, which is the caller's step.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::Instruction;

/// A compiled filter with the flags it wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
    notifies: bool,
}

/// The kernel's `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: *const Instruction,
}

impl Program {
    pub(super) fn new(instructions: Vec<Instruction>, flags: u32, notifies: bool) -> Self {
        Self { instructions, flags, notifies }
    }

    /// The filter, first instruction first; at most [`INSTRUCTIONS_MAX`](super::INSTRUCTIONS_MAX).
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// `SECCOMP_FILTER_FLAG_*` bits that the policy asked for.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether calls may be handed to a listener: then [`Self::install_with_listener`] is the way in.
    pub fn notifies(&self) -> bool {
        self.notifies
    }

    /// Puts the calling thread, and what it forks and executes from now on, under this filter.
    ///
    /// # Errors
    /// `EACCES` without `no_new_privs` and without CAP_SYS_ADMIN; `EINVAL` where the kernel lacks an action or flag, and
    /// for a program that [`notifies`](Self::notifies): nobody would answer.
    pub fn install(&self) -> io::Result<()> {
        if self.notifies {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.load(self.flags).map(|_| ())
    }

    /// As [`Self::install`] for a program that notifies: gives the descriptor on which its listener hears of calls.
    ///
    /// # Errors
    /// As [`Self::install`]; `EBUSY` where the thread already has a listener.
    pub fn install_with_listener(&self) -> io::Result<OwnedFd> {
        let mut flags = self.flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
        if flags & libc::SECCOMP_FILTER_FLAG_TSYNC as u32 != 0 {
            flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
        }
        let listener = self.load(flags)?;
        // SAFETY: with NEW_LISTENER the kernel returned a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(listener) })
    }

    fn load(&self, flags: u32) -> io::Result<i32> {
        let length = u16::try_from(self.instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let program = FilterProgram { length, instructions: self.instructions.as_ptr() };
        // SAFETY: seccomp(2) reads `length` instructions of sock_filter's layout behind the pointer; both the program and
        // the instructions live through the call, which keeps neither.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
        };
        match result {
            0.. if result == 0 || flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0 => Ok(result as i32),
            // With TSYNC alone the kernel names the thread that could not follow.
            0.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
