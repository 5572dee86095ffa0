//! Facts of /proc that identify a process beyond its number (proc(5)).
//!
//! A process is the same one only when its number, its start time and the kernel's boot id agree.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

/// Where the kernel keeps the identifier of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The identifier of this boot, a UUID in text.
///
/// # Errors
/// When /proc is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// When the process was started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
///
/// # Errors
/// `NotFound` when there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .map(|(_, start)| start)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The state letter (`R`, `S`, `Z`…) and the start time.
///
/// # Errors
/// As [`start_time`].
pub fn state_and_start(pid: i32) -> io::Result<(char, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A descriptor of a namespace (`user`, `net`… as below `/proc/<pid>/ns`) of the process that was started at `start_time`.
///
/// # Errors
/// `ESRCH` when it has ended, also when another one has its number; `EACCES` for a process of somebody else.
pub fn namespace(pid: i32, start_time: u64, kind: &str) -> io::Result<OwnedFd> {
    let process = folder(pid, start_time)?;
    Ok(rustix::fs::openat(&process, format!("ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The folder `/proc/<pid>` of the process that was started at `start_time`: it stays that of this process, whoever gets the
/// number next.
///
/// # Errors
/// As [`namespace`].
pub fn folder(pid: i32, start_time: u64) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let process = rustix::fs::open(format!("/proc/{pid}"), flags | OFlags::DIRECTORY, Mode::empty());
    let process = match process {
        Err(rustix::io::Errno::NOENT) => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
        other => other?,
    };
    let stat = rustix::fs::openat(&process, "stat", flags, Mode::empty())?;
    let stat = parse_stat(&io::read_to_string(std::fs::File::from(stat))?);
    if stat.is_none_or(|(_, started)| started != start_time) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(process)
}

/// The processes in the pid namespace of this one, as far as the caller may look at them.
///
/// # Errors
/// `ENOENT` when there is no such process.
pub fn sharing_pid_namespace(pid: i32) -> io::Result<Vec<i32>> {
    let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = of(pid)?;
    let all = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut sharing: Vec<i32> = all.filter(|pid| of(*pid).is_ok_and(|namespace| namespace == wanted)).collect();
    sharing.sort_unstable();
    Ok(sharing)
}

/// The name in field 2 may hold anything, brackets and blanks too: what counts follows the last bracket.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3; field 22 is 18 further on.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Whether the calling process has one thread only.
///
/// # Errors
/// When /proc is not there.
pub fn is_single_threaded() -> io::Result<bool> {
    // `.`, `..` and one folder per thread.
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_confuse_the_parser() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        for name in ["sh", "a b", ") R 1 (", "((", "S 1) ("] {
            assert_eq!(parse_stat(&format!("7 ({name}) {tail}")), Some(('S', 4242)), "{name}");
        }
        assert_eq!(parse_stat("7 (sh) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn our_own_facts() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).unwrap() > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(sharing_pid_namespace(pid).unwrap().contains(&pid));
        let start = start_time(pid).unwrap();
        assert!(namespace(pid, start, "user").is_ok());
        assert_eq!(namespace(pid, start + 1, "user").unwrap_err().raw_os_error(), Some(libc::ESRCH));
        // The harness has threads.
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(!is_single_threaded().unwrap()));
        });
    }
}
