//! The daemon of an ordinary user: it lives in a user namespace, in which it is root over the user's own and subordinate ids.
//!
//! ```text
//!   a workload of an earlier daemon lives ──► its user namespace is entered: only there is a right to it
//!   none lives, subordinate ids           ──► a new one: 0 is the user, 1 and up are all subordinate ids
//!   none lives, no such ids               ──► a new one: 0 is the user, nobody else
//! ```
//!
//! No process is kept for the namespace's sake: it lives as long as somebody in it does. The range of ids that a user has is in
//! /etc/subuid and /etc/subgid (subuid(5)); `newuidmap` and `newgidmap` hold us to it.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use atoll_engine::live_processes;
use atoll_sys::userns::{Mapping, Range};
use atoll_sys::{proc, userns};

/// Who may have which ids.
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
const PASSWD: &str = "/etc/passwd";

/// Who started the daemon, as the host knows them: inside a user namespace of ours everybody is root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    uid: u32,
    gid: u32,
}

impl Caller {
    /// The one who runs this process, which is in no namespace of ours yet.
    pub(crate) fn current() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Whether this is root, of the host or of a user namespace that somebody else made.
    pub(crate) fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// Moves this process, which has one thread, to where the user has the rights that containers need.
pub(crate) fn enter(caller: Caller, run: &Path) -> Result<()> {
    if let Some(namespace) = of_live_workloads(run)? {
        tracing::info!("entering the user namespace of the workloads that run");
        return userns::enter(namespace).context("entering the user namespace of the workloads that run");
    }
    let mapping = mapping(caller, &subordinate(caller).unwrap_or_default());
    userns::enter_new(&mapping).context("making a user namespace for the daemon of an ordinary user")
}

/// The user namespace of a workload that an earlier daemon left, if one lives. A process that ends meanwhile is passed over.
fn of_live_workloads(run: &Path) -> Result<Option<OwnedFd>> {
    for process in live_processes(run).context("looking for workloads that run")? {
        if let Ok(namespace) = proc::namespace(process.pid, process.start_time, "user") {
            return Ok(Some(namespace));
        }
    }
    Ok(None)
}

/// Whether the daemon of this user has more than one id to give, or will have when it is started.
pub(crate) fn has_subordinate_ids() -> bool {
    let caller = Caller::current();
    if caller.is_root() { userns::groups() > 1 } else { subordinate(caller).is_some() }
}

/// Ranges of ids: first and length.
type Ranges = Vec<(u32, u32)>;

/// A user's subordinate ids, of users and of groups; none where either, or who could map them, is missing.
fn subordinate(caller: Caller) -> Option<(Ranges, Ranges)> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let passwd = read(PASSWD);
    let name = name_of(&passwd, caller.uid);
    let of = |path| ranges(&read(path), name, caller.uid);
    let both = (of(SUBUID), of(SUBGID));
    (userns::has_mappers() && !both.0.is_empty() && !both.1.is_empty()).then_some(both)
}

/// The name of a user (passwd(5)).
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The ranges that a file gives a user, by name or number (subuid(5)). Lines that make no sense are for others to complain of.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Ranges {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, size): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let fits = size > 0 && first.checked_add(size - 1).is_some();
        (fits && (Some(owner) == name || owner.parse() == Ok(uid))).then_some((first, size))
    };
    text.lines().filter_map(range).collect()
}

/// Root is the user; the ids after it are the subordinate ones, range after range.
fn mapping(caller: Caller, subordinate: &(Ranges, Ranges)) -> Mapping {
    let one = |own: u32, ranges: &Ranges| {
        let mut all = vec![Range { inside: 0, outside: own, size: 1 }];
        let mut inside = 1_u32;
        for (outside, size) in ranges {
            let Some(next) = inside.checked_add(*size) else { break };
            all.push(Range { inside, outside: *outside, size: *size });
            inside = next;
        }
        all
    };
    Mapping { users: one(caller.uid, &subordinate.0), groups: one(caller.gid, &subordinate.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "ann:100000:65536\n1000:300000:10\nbob:1:1\nann:x:1\nann:5\nann:7:0\nann:4294967295:2\n\n";
        let check = |name: Option<&str>, uid: u32, expected: &[(u32, u32)]| {
            assert_eq!(ranges(text, name, uid), expected, "{name:?} {uid}");
        };
        check(Some("ann"), 1000, &[(100_000, 65536), (300_000, 10)]);
        check(None, 1000, &[(300_000, 10)]);
        check(Some("bob"), 7, &[(1, 1)]);
        check(Some("eve"), 8, &[]);
        assert_eq!(name_of("root:x:0:0::/:\nann:x:1000:1000::/:\nbad\n", 1000), Some("ann"));
        assert_eq!(name_of("root:x:0:0::/:", 1000), None);
    }

    #[test]
    fn root_is_the_user_and_the_rest_follows() {
        let caller = Caller { uid: 1000, gid: 100 };
        let range = |inside, outside, size| Range { inside, outside, size };
        let alone = mapping(caller, &Default::default());
        assert_eq!((alone.users, alone.groups), (vec![range(0, 1000, 1)], vec![range(0, 100, 1)]));
        let whole = mapping(caller, &(vec![(5000, 10), (7000, 20)], vec![(5000, 5)]));
        assert_eq!(whole.users, [range(0, 1000, 1), range(1, 5000, 10), range(11, 7000, 20)]);
        assert_eq!(whole.groups, [range(0, 100, 1), range(1, 5000, 5)]);
    }
}
