//! New processes by clone3(2), and execveat(2).
//!
//! [`clone`] is `fork` with namespaces, a cgroup and a pidfd in one call. The child runs a closure on a copy of the
//! caller's memory and ends with it: it never returns into the caller's code. It is safe because it refuses to copy a
//! process with more than one thread, whose locks the copy could never open.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::AtFlags;

/// `CLONE_*` bits that [`clone`] takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneFlags(u64);

#[expect(missing_docs, reason = "the kernel's names: clone(2)")]
impl CloneFlags {
    pub const NEWNS: Self = Self(libc::CLONE_NEWNS as u64);
    pub const NEWCGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    pub const NEWUTS: Self = Self(libc::CLONE_NEWUTS as u64);
    pub const NEWIPC: Self = Self(libc::CLONE_NEWIPC as u64);
    pub const NEWPID: Self = Self(libc::CLONE_NEWPID as u64);
    pub const NEWNET: Self = Self(libc::CLONE_NEWNET as u64);
    pub const NEWUSER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// The child becomes a sibling: its parent is the caller's.
    pub const PARENT: Self = Self(libc::CLONE_PARENT as u64);
}

impl CloneFlags {
    /// The bits as the kernel has them.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for CloneFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for CloneFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// How [`clone`] makes the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneOptions<'a> {
    /// Namespaces and parent.
    pub flags: CloneFlags,
    /// Folder of the v2 cgroup that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A process that [`clone`] made.
#[derive(Debug)]
pub struct Cloned {
    /// Its number, in the caller's pid namespace.
    pub pid: i32,
    /// Its descriptor, close-on-exec.
    pub pidfd: OwnedFd,
}

/// The kernel's `struct clone_args`, up to `cgroup` (kernel 5.7).
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Status of a child whose closure panicked.
const PANICKED: i32 = 254;

/// Makes a process that runs `body` and ends with the status it returns; it raises SIGCHLD at its end. The child has
/// its own copies of all descriptors.
///
/// # Errors
/// `EBUSY` when the caller has more than one thread; else clone3(2)'s.
pub fn clone(options: CloneOptions<'_>, body: impl FnOnce() -> i32) -> io::Result<Cloned> {
    if !crate::proc::is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: just checked.
    unsafe { clone_unchecked(options, body) }
}

/// As [`clone`], where `/proc` cannot be asked or trusted.
///
/// # Safety
/// The caller has one thread only: it was itself made by [`clone`] and has started none.
///
/// # Errors
/// clone3(2)'s.
pub unsafe fn clone_unchecked(options: CloneOptions<'_>, body: impl FnOnce() -> i32) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let parent = options.flags.contains(CloneFlags::PARENT);
    let mut arguments = CloneArgs {
        flags: options.flags.bits() | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // With CLONE_PARENT the kernel takes the caller's own and wants none here.
        exit_signal: if parent { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = options.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    }
    // SAFETY: no CLONE_VM and no stack: the child continues on a copy of this stack, as after fork. There is one thread
    // only, so that no lock of the copy is held by a thread it lacks. `arguments` and `pidfd` live through the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        exit_now(status);
    }
    // SAFETY: the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid: i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData)?, pidfd })
}

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends the process at once: no destructors, no buffers written.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes one integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Executes the program `path`, relative to `folder`, or `folder` itself with `EMPTY_PATH`; returns only with an error.
#[must_use]
pub fn execveat(folder: i32, path: &CStr, argv: &[CString], env: &[CString], flags: AtFlags) -> io::Error {
    let pointers = |values: &[CString]| -> Vec<*const libc::c_char> {
        values.iter().map(|value| value.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(argv), pointers(env));
    // SAFETY: path and both arrays are terminated, and live through the call with the strings they point to.
    unsafe {
        libc::syscall(libc::SYS_execveat, folder, path.as_ptr(), arguments.as_ptr(), environment.as_ptr(), flags.bits())
    };
    io::Error::last_os_error()
}

/// Executes the program at `path`; returns only with an error.
#[must_use]
pub fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    execveat(libc::AT_FDCWD, path, argv, env, AtFlags::empty())
}

/// Gives every signal its default action and unblocks all: what a new program expects.
///
/// # Errors
/// None known.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no function of ours; for signals that cannot be changed the call fails harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes an empty set into the storage.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: reads the set that was just initialised; the old mask is not asked for.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A body that never returns, for [`clone`]: its error becomes the status.
#[must_use]
pub fn never(result: Result<Infallible, i32>) -> i32 {
    match result {
        Ok(never) => match never {},
        Err(status) => status,
    }
}
