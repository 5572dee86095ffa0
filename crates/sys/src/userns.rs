//! User namespaces (user_namespaces(7)): writing their mappings, one without processes for id-mapped mounts, and one to live
//! in, new or somebody else's.
//!
//! A mapping is written once, by somebody with the rights over the outer ids: directly, or through `newuidmap` and
//! `newgidmap` (shadow's set-uid programs, which check /etc/subuid and /etc/subgid) where the caller lacks them.

use std::fs;
use std::io;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::process::{CloneFlags, CloneOptions, clone};

/// One range of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// Length.
    pub size: u32,
}

/// Both mappings of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

impl Mapping {
    /// Whether this is what the files `uid_map` and `gid_map` of a process in the namespace say, read from inside.
    #[must_use]
    pub fn is(&self, uid_map: &str, gid_map: &str) -> bool {
        let same = |ranges: &[Range], map: &str| {
            let numbers = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
            numbers(&text(ranges)) == numbers(map)
        };
        same(&self.users, uid_map) && same(&self.groups, gid_map)
    }
}

fn text(ranges: &[Range]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.size)).collect()
}

/// Writes the mappings of the process `pid`, which was just put into a new user namespace.
///
/// # Errors
/// `EPERM` when the outer ids are not the caller's to give, also by `newuidmap`; `EINVAL` for ranges that overlap.
pub fn write_mapping(pid: i32, mapping: &Mapping) -> io::Result<()> {
    write_one(pid, "gid_map", "newgidmap", &mapping.groups)?;
    write_one(pid, "uid_map", "newuidmap", &mapping.users)
}

fn write_one(pid: i32, file: &str, helper: &str, ranges: &[Range]) -> io::Result<()> {
    let path = format!("/proc/{pid}/{file}");
    match fs::write(&path, text(ranges)) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        done => return done,
    }
    let own = if file == "uid_map" { rustix::process::geteuid().as_raw() } else { rustix::process::getegid().as_raw() };
    match ranges {
        // Everybody may map the own id; for a group setgroups(2) has to be given up first.
        [Range { outside, size: 1, .. }] if *outside == own => {
            if file == "gid_map" {
                fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            }
            fs::write(&path, text(ranges))
        }
        _ => run(helper, pid, ranges),
    }
}

/// Whether `newuidmap` and `newgidmap` are installed.
#[must_use]
pub fn has_mappers() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    there("newuidmap") && there("newgidmap")
}

fn run(helper: &str, pid: i32, ranges: &[Range]) -> io::Result<()> {
    let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.size]).map(|n| n.to_string());
    let output = Command::new(helper).arg(pid.to_string()).args(numbers).stdin(Stdio::null()).output();
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("{helper}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{helper}: {}", said.trim())))
}

/// A user namespace with this mapping and no process, for id-mapped mounts. The caller has one thread.
///
/// # Errors
/// As [`write_mapping`]; `ENOSPC` beyond user.max_user_namespaces.
pub fn make(mapping: &Mapping) -> io::Result<OwnedFd> {
    let options = CloneOptions { flags: CloneFlags::NEWUSER, cgroup: None };
    let holder = clone(options, || {
        // A process that is killed when its maker ends keeps the namespace until it has been opened.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
    })?;
    let made = write_mapping(holder.pid, mapping).and_then(|()| {
        let file = fs::File::open(format!("/proc/{}/ns/user", holder.pid))?;
        Ok(OwnedFd::from(file))
    });
    // It is ours and does nothing else.
    let _ = rustix::process::pidfd_send_signal(&holder.pidfd, Signal::KILL);
    let _ = crate::pidfd::wait(&holder.pidfd);
    made
}

/// Moves the calling process, which has one thread, into a new user namespace with this mapping, and into a mount namespace
/// of it that goes on seeing the host's mounts. It has all capabilities there.
///
/// # Errors
/// `EBUSY` with more than one thread, `EPERM` and `ENOSPC` where the host allows no (more) such namespaces; what kept the
/// mapping from being written, when the process is in a namespace without one and can only end.
pub fn enter_new(mapping: &Mapping) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let (mut ours, mut theirs) = UnixStream::pair()?;
    // From inside nobody may map more than the own id: a process that stays outside does it.
    let mapper = clone(CloneOptions::default(), || {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let mut word = [0];
        if theirs.read_exact(&mut word).is_err() {
            return 1;
        }
        match write_mapping(own, mapping) {
            Ok(()) => 0,
            Err(error) => {
                // The caller sees the status where it cannot hear the reason.
                let _ = theirs.write_all(error.to_string().as_bytes());
                1
            }
        }
    })?;
    drop(theirs);
    // SAFETY: there is one thread, as `clone` has checked, and no descriptor or memory is unshared.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) };
    if unshared.is_ok() {
        ours.write_all(&[1])?;
    }
    ours.shutdown(std::net::Shutdown::Write)?;
    let mut said = String::new();
    let heard = ours.read_to_string(&mut said);
    let ended = crate::pidfd::wait(&mapper.pidfd)?;
    unshared?;
    heard?;
    if ended != crate::pidfd::Exit::Code(0) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    unshare_mounts()
}

/// Moves the calling process, which has one thread, into somebody's user namespace, and into a mount namespace of it that goes
/// on seeing the host's mounts. It has all capabilities there.
///
/// # Errors
/// `EPERM` for who neither made that namespace nor has CAP_SYS_ADMIN in it, `EINVAL` with more than one thread or in it already.
pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    unshare_mounts()
}

fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only what this process sees of mounts is unshared.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Whether the calling process is in the host's first user namespace.
#[must_use]
pub fn is_initial() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let numbers: Vec<_> = map.split_ascii_whitespace().collect();
        numbers == ["0", "0", "4294967295"]
    })
}

/// Whether the calling process may act on the whole host: CAP_SYS_ADMIN in the first user namespace.
///
/// # Errors
/// None known.
pub fn is_privileged() -> io::Result<bool> {
    let own = rustix::thread::capabilities(None)?;
    Ok(is_initial() && own.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// How many groups from 0 upward the calling process's user namespace has without a gap.
#[must_use]
pub fn groups() -> u32 {
    contiguous(&fs::read_to_string("/proc/self/gid_map").unwrap_or_default())
}

fn contiguous(map: &str) -> u32 {
    let mut ranges: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace();
            Some((numbers.next()?.parse().ok()?, numbers.nth(1)?.parse().ok()?))
        })
        .collect();
    ranges.sort_unstable();
    ranges.into_iter().fold(0, |end, (first, size)| if first == end { end.saturating_add(size) } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_lines() {
        let range = |inside, outside, size| Range { inside, outside, size };
        assert_eq!(text(&[range(0, 100_000, 1), range(1, 100_001, 65_535)]), "0 100000 1\n1 100001 65535\n");
        assert_eq!(text(&[]), "");
        let mapping = Mapping { users: vec![range(0, 5, 1)], groups: vec![range(0, 6, 1)] };
        assert!(mapping.is("         0          5          1\n", "0 6 1\n"));
        assert!(!mapping.is("0 5 2\n", "0 6 1\n"));
    }

    #[test]
    fn groups_without_a_gap() {
        let check = |map: &str, expected: u32| assert_eq!(contiguous(map), expected, "{map:?}");
        check("         0          0 4294967295\n", u32::MAX);
        check("0 1000 1\n1 100000 65536\n", 65537);
        check("1 100000 65536\n0 1000 1\n", 65537);
        check("0 1000 1\n5 100000 65536\n", 1);
        check("", 0);
    }
}
