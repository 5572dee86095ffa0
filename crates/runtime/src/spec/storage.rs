//! What keeps a program inside the limit of its writable layer: its files must stay in their project.
//!
//! The kernel lets the owner of a file change its project, and whether a folder hands its own on, from within the host's user
//! namespace (`fileattr_set_prepare` in fs/file_attr.c; ioctl_fs_xattr). So these requests are taken away by the system call
//! filter, also where there is none otherwise: `FS_IOC_FSSETXATTR`, `FS_IOC_SETFLAGS` and file_setattr(2). Programs are told that
//! the file system has no such thing.

use atoll_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};
use rustix::io::Errno;

/// `FS_IOC_FSSETXATTR`, and `FS_IOC_SETFLAGS` for long words and short ones.
const REQUESTS: [u64; 3] = [0x401c_5820, 0x4008_6602, 0x4004_6602];
/// The kernel looks at no more of a request.
const REQUEST_MASK: u64 = 0xffff_ffff;
/// The argument of ioctl(2) that is the request.
const REQUEST: u32 = 1;

/// A filter that leaves files in their projects, and is as `filter` otherwise.
pub(super) fn keep_projects(filter: Option<LinuxSeccomp>) -> LinuxSeccomp {
    let mut filter = filter.unwrap_or_else(|| LinuxSeccomp {
        default_action: SeccompAction::Allow,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls: Vec::new(),
    });
    let others: Vec<_> = filter.syscalls.drain(..).flat_map(without_requests).collect();
    let denied = REQUESTS.map(|request| {
        let is_it =
            SeccompArg { index: REQUEST, value: REQUEST_MASK, value_two: request, op: SeccompOperator::MaskedEqual };
        refuse("ioctl", Errno::NOTTY, vec![is_it])
    });
    // The first rule that fits counts.
    let call = refuse("file_setattr", Errno::OPNOTSUPP, Vec::new());
    filter.syscalls = denied.into_iter().chain([call]).chain(others).collect();
    filter
}

fn refuse(name: &str, errno: Errno, args: Vec<SeccompArg>) -> SeccompSyscall {
    let errno = errno.raw_os_error().unsigned_abs();
    SeccompSyscall { names: vec![name.to_owned()], action: SeccompAction::Errno, errno_ret: Some(errno), args }
}

/// A rule that says what happens to any ioctl(2) would go before those about single requests: it gets a condition that holds
/// always.
fn without_requests(mut rule: SeccompSyscall) -> Vec<SeccompSyscall> {
    let before = rule.names.len();
    if rule.args.is_empty() {
        rule.names.retain(|name| name != "ioctl");
    }
    if rule.names.len() == before {
        return vec![rule];
    }
    let always = SeccompArg { index: REQUEST, value: 0, value_two: 0, op: SeccompOperator::GreaterOrEqual };
    let any = SeccompSyscall { names: vec!["ioctl".to_owned()], args: vec![always], ..rule.clone() };
    if rule.names.is_empty() { vec![any] } else { vec![rule, any] }
}

#[cfg(test)]
mod tests {
    use atoll_container::seccomp::{Arch, default_profile};

    use super::*;

    /// What a filter does to an ioctl, by its own rules for what counts.
    fn outcome(filter: &LinuxSeccomp, request: u64) -> SeccompAction {
        let mut rules = filter.syscalls.iter().filter(|rule| rule.names.iter().any(|name| name == "ioctl"));
        assert!(rules.clone().all(|rule| !rule.args.is_empty()), "a rule without conditions would go first");
        let fits = |arg: &SeccompArg| match arg.op {
            SeccompOperator::MaskedEqual => request & arg.value == arg.value_two,
            SeccompOperator::GreaterOrEqual => request >= arg.value,
            other => panic!("{other:?}"),
        };
        rules.find(|rule| rule.args.iter().all(fits)).map_or(filter.default_action, |rule| rule.action)
    }

    #[test]
    fn projects_cannot_be_changed_under_any_policy() {
        for filter in [None, Some(default_profile::<&str>(&[], Arch::HOST))] {
            let filter = keep_projects(filter);
            for request in REQUESTS.into_iter().flat_map(|request| [request, request | (7 << 32)]) {
                assert_eq!(outcome(&filter, request), SeccompAction::Errno, "{request:x}");
            }
            assert_eq!(outcome(&filter, 0x5401), SeccompAction::Allow);
            let first = filter.syscalls.iter().find(|rule| rule.names.iter().any(|name| name == "file_setattr"));
            assert_eq!(first.expect("a rule").action, SeccompAction::Errno);
        }
    }

    #[test]
    fn other_rules_stay() {
        let before = default_profile::<&str>(&[], Arch::HOST);
        let after = keep_projects(Some(before.clone()));
        let names = |filter: &LinuxSeccomp| {
            let mut names: Vec<_> = filter.syscalls.iter().flat_map(|rule| rule.names.clone()).collect();
            names.retain(|name| name != "ioctl" && name != "file_setattr");
            names
        };
        assert_eq!(names(&before), names(&after));
        assert_eq!((before.default_action, before.architectures), (after.default_action, after.architectures));
    }
}
