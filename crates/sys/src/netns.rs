//! Network namespaces (network_namespaces(7)) held by descriptors alone.
//!
//! A short-lived thread of its own unshares or enters a namespace, runs a closure there and ends, so the caller's thread never
//! changes. Sockets that the closure opens stay in that namespace and may be used from anywhere. Names below /run/netns are
//! left out: no mount of ours stands on the host, and the last descriptor or process of a namespace ends it.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::{panic, thread};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's network namespace, as proc(5) names it.
const OWN: &str = "/proc/thread-self/ns/net";

/// A descriptor of the calling thread's network namespace.
///
/// # Errors
/// `ENOENT` where /proc is not mounted.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open(OWN)?.into())
}

/// Makes a new network namespace, runs `inside` in it and returns its descriptor with what `inside` returned.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ENOSPC` beyond user.max_net_namespaces, `EAGAIN` when no thread can be started.
pub fn create<T: Send>(inside: impl FnOnce() -> T + Send) -> io::Result<(OwnedFd, T)> {
    on_own_thread(move || {
        // SAFETY: only the network namespace is unshared; the table of descriptors stays shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        Ok((current()?, inside()))
    })
}

/// Runs `inside` in the network namespace that `namespace` is a descriptor of, on a thread of its own.
///
/// # Errors
/// `EINVAL` when the descriptor is of something else, `EPERM` without CAP_SYS_ADMIN, `EAGAIN` when no thread can be started.
pub fn enter<T: Send>(namespace: BorrowedFd<'_>, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(move || {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(inside())
    })
}

/// Runs `work` on a thread that ends with it; a panic in it goes on in the caller.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|reason| panic::resume_unwind(reason))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn identity(namespace: BorrowedFd<'_>) -> u64 {
        rustix::fs::fstat(namespace).unwrap().st_ino
    }

    #[test]
    fn a_new_namespace_is_another_and_the_caller_stays() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let before = identity(current().unwrap().as_fd());
        let (made, seen) = create(|| identity(current().unwrap().as_fd())).unwrap();
        assert_eq!(identity(made.as_fd()), seen);
        assert_ne!(before, seen);
        assert_eq!(identity(current().unwrap().as_fd()), before);
        assert_eq!(enter(made.as_fd(), || identity(current().unwrap().as_fd())).unwrap(), seen);
        let file = File::open("/proc/self/ns/uts").unwrap();
        assert!(enter(file.as_fd(), || ()).is_err(), "another kind of namespace");
    }
}
