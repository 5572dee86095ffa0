//! A checked policy: the OCI section with its words turned into the numbers that the compiler works on.
//!
//! [`Policy::read`] refuses what the specification forbids or what could not be enforced, so that compiling cannot fail
//! but for length. Names that no known kernel has end here, as the specification's runtimes do it. Left out: architectures that
//! no kernel of ours can run; a filter never meets their calls.

use atoll_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompSyscall};

use super::table::{self, Numbers};
use super::{Arch, Error, action};

/// Arguments of a system call.
const ARGUMENTS: u32 = 6;
/// Longest name of a system call that is looked at.
const NAME_MAX: usize = 64;

/// A policy without a doubtful value in it.
#[derive(Debug)]
pub(super) struct Policy {
    /// Return value for calls that no rule matches.
    pub(super) default: u32,
    /// In the order given.
    pub(super) rules: Vec<Rule>,
    /// Those listed that Atoll knows.
    pub(super) architectures: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub(super) flags: u32,
    /// Whether some call goes to a listener.
    pub(super) notifies: bool,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The calls it names, less those that no known kernel has: their rows of the table.
    pub(super) calls: Vec<&'static Numbers>,
    /// Return value where the rule matches.
    pub(super) value: u32,
    /// It matches where all conditions of one of these hold; empty means always.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    /// The comparison.
    pub(super) test: Test,
}

/// How an argument is compared; unsigned, 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// Equal in the bits of the mask.
    Masked {
        /// Bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// Different.
    NotEqual(u64),
    /// `>`.
    Greater(u64),
    /// `>=`.
    GreaterOrEqual(u64),
    /// `<`.
    Less(u64),
    /// `<=`.
    LessOrEqual(u64),
}

impl Policy {
    /// Checks `profile`.
    pub(super) fn read(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let notifies = profile.default_action == SeccompAction::Notify
            || profile.syscalls.iter().any(|rule| rule.action == SeccompAction::Notify);
        match (notifies, profile.listener_path.is_empty()) {
            (true, true) => return Err(Error::NoListener),
            (false, false) => return Err(Error::IdleListener),
            _ => {}
        }
        Ok(Self {
            default: value(profile.default_action, profile.default_errno_ret)?,
            rules: profile.syscalls.iter().map(rule).collect::<Result<_, _>>()?,
            architectures: profile.architectures.iter().filter_map(|arch| known(*arch)).collect(),
            flags: flags(&profile.flags)?,
            notifies,
        })
    }
}

impl Rule {
    /// Whether it matches whatever the arguments are.
    pub(super) fn always(&self) -> bool {
        self.alternatives.is_empty()
    }
}

/// The kernel's return value for an action.
fn value(action: SeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let refuse = |action| {
        if errno.is_some() { Err(Error::ErrnoNotTaken { action }) } else { Ok(()) }
    };
    Ok(match action {
        SeccompAction::Errno => action::errno(number(errno, action::ERRNO_MAX)?),
        SeccompAction::Trace => action::trace(number(errno, u16::MAX)?),
        SeccompAction::Kill => refuse("SCMP_ACT_KILL").map(|()| action::KILL_THREAD)?,
        SeccompAction::KillThread => refuse("SCMP_ACT_KILL_THREAD").map(|()| action::KILL_THREAD)?,
        SeccompAction::KillProcess => refuse("SCMP_ACT_KILL_PROCESS").map(|()| action::KILL_PROCESS)?,
        SeccompAction::Trap => refuse("SCMP_ACT_TRAP").map(|()| action::TRAP)?,
        SeccompAction::Allow => refuse("SCMP_ACT_ALLOW").map(|()| action::ALLOW)?,
        SeccompAction::Log => refuse("SCMP_ACT_LOG").map(|()| action::LOG)?,
        SeccompAction::Notify => refuse("SCMP_ACT_NOTIFY").map(|()| action::NOTIFY)?,
    })
}

/// An action's number, EPERM where none is given.
fn number(errno: Option<u32>, max: u16) -> Result<u16, Error> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    u16::try_from(errno).ok().filter(|number| *number <= max).ok_or(Error::ErrnoRange { errno, max })
}

fn rule(rule: &SeccompSyscall) -> Result<Rule, Error> {
    if let Some(name) = rule.names.iter().find(|name| !well_formed(name)) {
        return Err(Error::MalformedName { name: name.clone() });
    }
    let calls = rule.names.iter().filter_map(|name| table::row(name)).collect();
    let mut conditions = Vec::with_capacity(rule.args.len());
    for arg in &rule.args {
        if arg.index >= ARGUMENTS {
            let call = rule.names.first().cloned().unwrap_or_default();
            return Err(Error::ArgumentIndex { call, index: arg.index });
        }
        conditions.push(Condition { index: arg.index, test: test(arg) });
    }
    let twice =
        conditions.iter().enumerate().any(|(at, one)| conditions[..at].iter().any(|other| other.index == one.index));
    let alternatives = match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
        (false, false) => vec![conditions],
    };
    Ok(Rule { calls, value: value(rule.action, rule.errno_ret)?, alternatives })
}

fn well_formed(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

fn test(arg: &SeccompArg) -> Test {
    match arg.op {
        SeccompOperator::NotEqual => Test::NotEqual(arg.value),
        SeccompOperator::LessThan => Test::Less(arg.value),
        SeccompOperator::LessOrEqual => Test::LessOrEqual(arg.value),
        SeccompOperator::Equal => Test::Masked { mask: u64::MAX, value: arg.value },
        SeccompOperator::GreaterOrEqual => Test::GreaterOrEqual(arg.value),
        SeccompOperator::GreaterThan => Test::Greater(arg.value),
        SeccompOperator::MaskedEqual => Test::Masked { mask: arg.value, value: arg.value_two },
    }
}

fn known(arch: SeccompArch) -> Option<Arch> {
    Some(match arch {
        SeccompArch::X86_64 => Arch::X86_64,
        SeccompArch::X32 => Arch::X32,
        SeccompArch::X86 => Arch::X86,
        SeccompArch::Aarch64 => Arch::Aarch64,
        SeccompArch::Arm => Arch::Arm,
        SeccompArch::Riscv64 => Arch::Riscv64,
        _ => return None,
    })
}

fn flags(names: &[String]) -> Result<u32, Error> {
    names.iter().try_fold(0, |flags, name| {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            _ => return Err(Error::UnknownFlag { flag: name.clone() }),
        };
        Ok(flags | flag as u32)
    })
}
