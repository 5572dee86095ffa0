//! Standard streams of a process: given ones, or a terminal of the container's own devpts.
//!
//! The terminal's master goes to the maker, its slave becomes the three streams and is bound over a new `/dev/console`
//! in our own /dev: neither an image's console nor its ptmx is ever opened (CVE-2025-52565, CVE-2026-88264).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_sys::mount::attach;
use atoll_sys::pty::{self, Pty};
use rustix::fs::{FileType, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::mounts::Made;
use super::{At, Step, errno};
use crate::creation::Stdio;

/// File system type of devpts (linux/magic.h).
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// What becomes descriptors 0, 1 and 2.
#[derive(Debug)]
pub(crate) enum Streams<'a> {
    Inherited,
    Given([&'a OwnedFd; 3]),
    Terminal(Pty),
}

impl Streams<'_> {
    pub(crate) fn master(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Terminal(pty) => Some(pty.master.as_fd()),
            _ => None,
        }
    }

    /// Puts the streams in their places; a terminal also becomes the session's. From then on the maker's own streams are not
    /// held open any more: whoever reads them sees their end when the maker ends.
    pub(crate) fn install(&self, owner: u32) -> Step<()> {
        self.put(owner).at("standard streams", "")
    }

    fn put(&self, owner: u32) -> io::Result<()> {
        let fds = match self {
            Self::Inherited => return Ok(()),
            Self::Given(fds) => *fds,
            Self::Terminal(pty) => {
                rustix::process::ioctl_tiocsctty(&pty.slave)?;
                [&pty.slave; 3]
            }
        };
        let uid = Uid::from_raw(owner);
        for fd in fds {
            let stat = rustix::fs::fstat(fd)?;
            let file = FileType::from_raw_mode(stat.st_mode);
            // So that the user can open /dev/stdout again; devices but the terminal stay the host's.
            if stat.st_uid != owner && (file == FileType::Fifo || matches!(self, Self::Terminal(_))) {
                match rustix::fs::fchown(fd, Some(uid), None) {
                    // What belongs to somebody outside of the user namespace stays so.
                    Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        rustix::stdio::dup2_stdin(fds[0])?;
        rustix::stdio::dup2_stdout(fds[1])?;
        rustix::stdio::dup2_stderr(fds[2])?;
        Ok(())
    }
}

fn given(stdio: &Stdio) -> Option<Streams<'_>> {
    match stdio {
        Stdio::Inherit => Some(Streams::Inherited),
        Stdio::Fds { stdin, stdout, stderr } => Some(Streams::Given([stdin, stdout, stderr])),
        Stdio::Terminal { .. } => None,
    }
}

fn sized(pty: Pty, stdio: &Stdio) -> io::Result<Streams<'_>> {
    if let Stdio::Terminal { rows, cols } = stdio
        && (*rows, *cols) != (0, 0)
    {
        pty::resize(&pty.master, *rows, *cols)?;
    }
    Ok(Streams::Terminal(pty))
}

/// Streams of a first process.
pub(super) fn open<'a>(stdio: &'a Stdio, made: &Made) -> Step<Streams<'a>> {
    let step = "terminal";
    if let Some(streams) = given(stdio) {
        return Ok(streams);
    }
    let devpts =
        made.devpts.as_ref().ok_or_else(|| errno(libc::ENODEV)).at(step, "no devpts is mounted at /dev/pts")?;
    let pty = pty::open(devpts).at(step, "ptmx")?;
    if let Some(dev) = &made.dev {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let console = rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o620)).at(step, "/dev/console")?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&pty.slave, "", clone).at(step, "slave")?;
        attach(tree.as_fd(), console.as_fd()).at(step, "/dev/console")?;
    }
    sized(pty, stdio).at(step, "size")
}

/// Streams of a further process: the terminal comes from whatever is at /dev/pts now, if that is a devpts.
pub(crate) fn attach_existing_devpts<'a>(stdio: &'a Stdio, root: &OwnedFd) -> Step<Streams<'a>> {
    let step = "terminal";
    if let Some(streams) = given(stdio) {
        return Ok(streams);
    }
    let devpts =
        super::resolve::open(root, "/dev/pts", OFlags::PATH | OFlags::DIRECTORY, false).at(step, "/dev/pts")?;
    let kind = rustix::fs::fstatfs(&devpts).at(step, "/dev/pts")?.f_type;
    if u64::try_from(kind).ok() != Some(DEVPTS_MAGIC) {
        return Err(errno(libc::ENODEV)).at(step, "/dev/pts is not a devpts");
    }
    sized(pty::open(&devpts).at(step, "ptmx")?, stdio).at(step, "size")
}
