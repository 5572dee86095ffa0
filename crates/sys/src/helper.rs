//! A program of the host that works for the caller and ends with it: nothing of the caller's is handed on but what is named.
//!
//! The program gets the first standard streams that it is given, an empty environment, no way to more rights
//! (`no_new_privs`), and at most the capabilities that are named. The kernel kills it when the caller ends, however that
//! comes about (`PR_SET_PDEATHSIG`).

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Signal;
use rustix::thread::CapabilitySet;

use crate::process::{CloneOptions, clone};

/// What to start.
#[derive(Debug)]
pub struct Helper<'a> {
    /// The program's absolute path.
    pub program: &'a Path,
    /// Its arguments, without its name.
    pub arguments: &'a [String],
    /// Where it starts.
    pub folder: &'a Path,
    /// Its descriptors 0, 1 and 2.
    pub streams: [BorrowedFd<'a>; 3],
    /// The capabilities that it may have, where the caller has them.
    pub capabilities: CapabilitySet,
}

/// Status of a child that could not become the program.
const FAILED: i32 = 127;
/// Descriptors of ours are moved to here before the first three are replaced.
const ASIDE: RawFd = 10;

impl Helper<'_> {
    /// Starts the program; the caller, which has one thread, is its parent.
    ///
    /// # Errors
    /// `EBUSY` with more than one thread, `EINVAL` for a null byte. What keeps it from being executed is written to its
    /// descriptor 2, and it ends with status 127.
    pub fn start(&self) -> io::Result<OwnedFd> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let program = CString::new(self.program.as_os_str().as_bytes()).map_err(invalid)?;
        let words = std::iter::once(Ok(program.clone())).chain(self.arguments.iter().map(|word| CString::new(&**word)));
        let words = words.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let child = clone(CloneOptions::default(), || {
            let error = match self.prepare() {
                Ok(()) => crate::process::execve(&program, &words, &[]),
                Err(error) => error,
            };
            // There is nobody else to tell.
            let _ =
                io::Write::write_all(&mut io::stderr(), format!("{}: {error}\n", self.program.display()).as_bytes());
            FAILED
        })?;
        Ok(child.pidfd)
    }

    fn prepare(&self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut aside = Vec::new();
        for stream in &self.streams {
            aside.push(rustix::io::fcntl_dupfd_cloexec(stream, ASIDE)?);
        }
        rustix::stdio::dup2_stdin(&aside[0])?;
        rustix::stdio::dup2_stdout(&aside[1])?;
        rustix::stdio::dup2_stderr(&aside[2])?;
        drop(aside);
        // SAFETY: this process executes a program or ends; none of its maker's descriptors is used in it any more.
        unsafe { crate::fd::close_all_but(0, &[]) }?;
        rustix::process::chdir(self.folder)?;
        crate::process::reset_signals()?;
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.capabilities.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Past the last one that this kernel has.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rustix::thread::set_no_new_privs(true)?)
    }
}
