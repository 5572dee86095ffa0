//! Mount namespaces of others (mount_namespaces(7)): their root folders by descriptor.
//!
//! A thread of its own enters the namespace, opens what is `/` there and ends. That is the root of the namespace, whatever
//! its processes have made of their own by chroot(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The root folder of a mount namespace (an `O_PATH` descriptor), with everything that is mounted in it.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN over the namespace, `EAGAIN` when no thread can be started.
pub fn root(namespace: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    inside(namespace.as_fd(), || Ok(rustix::fs::open("/", flags, Mode::empty())?))
}

/// The root mount of a mount namespace by itself: what is mounted in it is not there.
///
/// # Errors
/// As [`root`]; `EINVAL` when one of those mounts may not be looked under.
pub fn bare_root(namespace: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    inside(namespace.as_fd(), || Ok(open_tree(CWD, "/", flags)?))
}

fn inside<T: Send>(namespace: BorrowedFd<'_>, look: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = || {
        // SAFETY: only root, working directory and umask of this new thread are unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
        look()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|reason| std::panic::resume_unwind(reason))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_has_the_own_root() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let namespace = std::fs::File::open("/proc/self/ns/mnt").unwrap();
        let same = |fd: OwnedFd| {
            let (there, here) = (rustix::fs::fstat(&fd).unwrap(), rustix::fs::stat("/").unwrap());
            (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        };
        assert!(same(root(&namespace).unwrap()));
        let bare = bare_root(&namespace).unwrap();
        // What is mounted over it is not seen: no process has a folder.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        assert!(rustix::fs::openat(&bare, "proc/self", flags, Mode::empty()).is_err());
        assert!(same(bare));
    }
}
