//! `process` as numbers and C strings: arguments, limits, capabilities, filter (runtime-spec config.md, "Process").
//!
//! The names of capabilities and limits are the kernel's (capabilities(7), getrlimit(2)); an unknown one is refused, a
//! capability that this kernel lacks is left out as the bounding set does.

use std::ffi::CString;

use atoll_oci::runtime::{Capabilities, Linux, LinuxSeccomp, Process, SeccompAction, User};
use rustix::process::Resource;

use super::SchedulePlan;
use crate::error::PlanError;
use crate::seccomp;

/// Most bytes of one argument or variable (`MAX_ARG_STRLEN` of the kernel).
const STRING_MAX: usize = 128 << 10;

/// Everything a process does last, before it executes its program.
#[derive(Debug)]
pub struct ProcessPlan {
    /// Arguments.
    pub args: Vec<CString>,
    /// Environment, without `HOME` where the configuration has none.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: CString,
    /// User and groups.
    pub user: User,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Capability sets as bits.
    pub capabilities: CapabilitySets,
    /// Limits: which, soft, hard; `None` is unlimited.
    pub rlimits: Vec<ResourceLimit>,
    /// Whether exec may never grant privileges.
    pub no_new_privileges: bool,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The compiled filter.
    pub seccomp: Option<seccomp::Program>,
    /// How it is scheduled.
    pub schedule: SchedulePlan,
    /// Labels of security modules.
    pub labels: Labels,
}

/// What a process is for the host's security modules; empty is no wish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Profile of AppArmor.
    pub apparmor: String,
    /// Label of SELinux.
    pub selinux: String,
}

/// Which resource, its soft and its hard limit; `None` is unlimited.
pub type ResourceLimit = (Resource, Option<u64>, Option<u64>);

/// The five sets, one bit per capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
}

impl ProcessPlan {
    /// Judges a process and compiles its filter; `linux` is the container's part of the configuration.
    ///
    /// # Errors
    /// [`PlanError`], naming the field.
    pub fn new(process: &Process, linux: Option<&Linux>) -> Result<Self, PlanError> {
        if process.args.first().is_none_or(String::is_empty) {
            return Err(PlanError::invalid("process.args names no program"));
        }
        super::absolute("process.cwd", &process.cwd)?;
        if let Some(value) = process.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
            return Err(PlanError::invalid(format!("process.oomScoreAdj {value} is not within -1000 to 1000")));
        }
        if let Some(value) = process.env.iter().find(|value| !value.contains('=') || value.starts_with('=')) {
            return Err(PlanError::invalid(format!("process.env has {value:?}, which is not NAME=value")));
        }
        Ok(Self {
            args: strings("process.args", &process.args)?,
            env: strings("process.env", &process.env)?,
            cwd: string("process.cwd", &process.cwd)?,
            user: process.user.clone(),
            terminal: process.terminal,
            capabilities: process.capabilities.as_ref().map(sets).transpose()?.unwrap_or_default(),
            rlimits: rlimits(process)?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj: process.oom_score_adj,
            seccomp: linux.and_then(|linux| linux.seccomp.as_ref()).map(compile).transpose()?,
            schedule: SchedulePlan::new(process, linux)?,
            labels: labels(process, linux)?,
        })
    }
}

/// System calls that hand the listener over: were they to wait for it, nobody would ever answer.
const BEFORE_LISTENER: [&str; 2] = ["sendmsg", "close"];

fn compile(filter: &LinuxSeccomp) -> Result<seccomp::Program, PlanError> {
    let program = seccomp::compile(filter, seccomp::Arch::HOST)?;
    if program.notifies() {
        let notify = |action: &SeccompAction| *action == SeccompAction::Notify;
        let rules = filter.syscalls.iter().filter(|rule| notify(&rule.action));
        let names = rules.flat_map(|rule| &rule.names).find(|name| BEFORE_LISTENER.contains(&name.as_str()));
        if let Some(name) = names {
            return Err(PlanError::invalid(format!(
                "SCMP_ACT_NOTIFY for {name} would keep the listener from starting"
            )));
        }
        if notify(&filter.default_action) {
            return Err(PlanError::invalid("SCMP_ACT_NOTIFY cannot be the default action"));
        }
    }
    Ok(program)
}

/// A label for a module that the host does not have would be a promise that nobody keeps.
fn labels(process: &Process, linux: Option<&Linux>) -> Result<Labels, PlanError> {
    let apparmor = || {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
    };
    let selinux = || std::path::Path::new("/sys/fs/selinux/enforce").exists();
    let (profile, label) = (&process.apparmor_profile, &process.selinux_label);
    if !profile.is_empty() && !apparmor() {
        return Err(PlanError::invalid(format!("apparmorProfile {profile:?}: AppArmor is not enabled on this host")));
    }
    let mount = linux.map_or("", |linux| linux.mount_label.as_str());
    if let Some(label) = [label.as_str(), mount].into_iter().find(|label| !label.is_empty())
        && !selinux()
    {
        return Err(PlanError::invalid(format!("label {label:?}: SELinux is not enabled on this host")));
    }
    Ok(Labels { apparmor: profile.clone(), selinux: label.clone() })
}

fn string(what: &str, value: &str) -> Result<CString, PlanError> {
    if value.len() >= STRING_MAX {
        return Err(PlanError::invalid(format!("{what} has a string of more than 128 KiB")));
    }
    CString::new(value).map_err(|_| PlanError::invalid(format!("{what} has a null byte")))
}

fn strings(what: &str, values: &[String]) -> Result<Vec<CString>, PlanError> {
    values.iter().map(|value| string(what, value)).collect()
}

fn sets(wanted: &Capabilities) -> Result<CapabilitySets, PlanError> {
    Ok(CapabilitySets {
        bounding: bits(&wanted.bounding)?,
        effective: bits(&wanted.effective)?,
        permitted: bits(&wanted.permitted)?,
        inheritable: bits(&wanted.inheritable)?,
        ambient: bits(&wanted.ambient)?,
    })
}

fn bits(names: &[String]) -> Result<u64, PlanError> {
    names.iter().try_fold(0, |bits, name| match capability(name) {
        Some(number) => Ok(bits | 1 << number),
        None => Err(PlanError::invalid(format!("capability {name:?} is unknown"))),
    })
}

/// The capabilities by their number (linux/capability.h), without the prefix `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability by its name, with `CAP_` or without, in either case.
#[must_use]
pub fn capability(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = CAPABILITIES.iter().position(|known| *known == bare)?;
    u32::try_from(number).ok()
}

/// The names of all capabilities, by their number, with `CAP_`.
pub fn capability_names() -> impl Iterator<Item = String> {
    CAPABILITIES.iter().map(|name| format!("CAP_{name}"))
}

fn rlimits(process: &Process) -> Result<Vec<ResourceLimit>, PlanError> {
    let mut planned: Vec<ResourceLimit> = Vec::new();
    for limit in &process.rlimits {
        let name = limit.typ.as_str();
        let resource =
            resource(name).ok_or_else(|| PlanError::invalid(format!("resource limit {name:?} is unknown")))?;
        if planned.iter().any(|(other, _, _)| *other == resource) {
            return Err(PlanError::invalid(format!("resource limit {name} is given twice")));
        }
        if limit.soft > limit.hard {
            return Err(PlanError::invalid(format!("resource limit {name}: the soft limit is above the hard one")));
        }
        let value = |value: u64| Some(value).filter(|value| *value != u64::MAX);
        planned.push((resource, value(limit.soft), value(limit.hard)));
    }
    Ok(planned)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}
