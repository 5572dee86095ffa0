//! How the kernel schedules the calling thread: processor time, I/O, memory nodes, execution domain.
//!
//! Numbers in, `io::Error` out, each function one system call that the libraries lack; the names of policies and classes are
//! the caller's to translate.

use std::io;

/// `sched_setattr(2)`'s `struct sched_attr`, its first version (48 bytes).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    /// Bytes of this struct; [`set_policy`] fills it in.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Static priority of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds of run time, `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds to the deadline.
    pub deadline: u64,
    /// Nanoseconds of the period.
    pub period: u64,
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the scheduling policy (sched_setattr(2)).
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE, `EINVAL` for values that the policy does not take.
pub fn set_policy(attributes: SchedAttr) -> io::Result<()> {
    let size = u32::try_from(size_of::<SchedAttr>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attributes = SchedAttr { size, ..attributes };
    // SAFETY: the kernel reads `size` bytes of a `repr(C)` struct that lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Sets the I/O scheduling class (1 real time, 2 best effort, 3 idle) and the priority in it, 0 to 7 (ioprio_set(2)).
///
/// # Errors
/// `EPERM` for the real-time class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(class: u8, priority: u8) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    let value = i32::from(class) << 13 | i32::from(priority);
    // SAFETY: takes three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })
}

/// Binds the thread to processors, one bit each (sched_setaffinity(2)).
///
/// # Errors
/// `EINVAL` when none of them may be used.
pub fn set_affinity(processors: &[u64]) -> io::Result<()> {
    let bytes = size_of_val(processors);
    // SAFETY: the kernel reads `bytes` bytes of the slice, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, processors.as_ptr()) })
}

/// Sets the memory policy: mode with its flags, and nodes, one bit each (set_mempolicy(2)).
///
/// # Errors
/// `EINVAL` for nodes that are not there or that the mode does not take.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = nodes.len() * 64 + 1;
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), bits) };
    // SAFETY: the kernel reads at most `bits - 1` bits of the slice, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

/// Sets the execution domain (personality(2)).
///
/// # Errors
/// `EINVAL`.
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: takes one integer.
    let result = unsafe { libc::personality(domain) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, so that nothing of it stays.
    fn aside(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap());
    }

    #[test]
    fn what_is_set_is_seen() {
        aside(|| {
            set_policy(SchedAttr { policy: 3, nice: 7, ..SchedAttr::default() }).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            assert_eq!((fields[16], fields[38]), ("7", "3"), "nice and policy in {stat}");
            set_io_priority(3, 0).unwrap();
            set_affinity(&[1]).unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
            assert!(set_affinity(&[0]).is_err());
            assert!(set_policy(SchedAttr { policy: 99, ..SchedAttr::default() }).is_err());
        });
    }
}
