//! What a container's workload asks for, as an OCI runtime specification with Docker's defaults.
//!
//! [`build`] is a pure function of the plan and of what is true of this host ([`Host`]). Names and values are Docker's
//! (moby, `daemon/pkg/oci`): 14 capabilities, masked and read-only paths, default mounts and devices. Two differences are
//! on purpose: unless asked for the host's, every workload has a cgroup namespace of its own, also on cgroup v1 and when
//! privileged, and the host's console device is not among the allowed ones. Nothing of an image's labels is looked at.

mod capabilities;
mod defaults;
mod limits;
mod mounts;
mod namespaces;
mod profile;
mod storage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use atoll_container::seccomp::{Arch, default_profile};
use atoll_model::{Seccomp, Security, Ulimit, Workload};
use atoll_oci::runtime::{
    BlockIo, ConsoleSize, Device, DeviceRule, Linux, LinuxSeccomp, OCI_VERSION, Process, Root, Spec,
};
use atoll_wall::launch::{Size, Streams};
use atoll_wall::message::Exec;

use crate::{ExecPlan, Plan};

pub use capabilities::Bounding;
pub use limits::change_of_limits;
pub use profile::KernelVersion;

/// `PATH` of a workload whose image sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where Docker has its init, and so where people expect it.
const INIT: &str = "/sbin/docker-init";

/// What is true of this host, for [`build`].
#[derive(Clone, Debug)]
pub struct Host {
    /// The cgroup below which workloads get theirs.
    pub cgroup_parent: String,
    /// The program `atoll-shim`, which is also a workload's small init.
    pub shim: PathBuf,
    /// What the daemon may hand on.
    pub bounding: Bounding,
    /// The kernel's version.
    pub kernel: KernelVersion,
    /// `/sys` folders of processors' thermal throttling, which Docker hides.
    pub thermal: Vec<String>,
    /// Whether the daemon is better protected from the out-of-memory killer than a workload should be.
    pub protected: bool,
    /// How many groups from 0 upward there are, in the user namespace of the daemon.
    pub groups: u32,
}

/// Devices of the host, looked up: nodes to make, and what may be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Nodes inside.
    pub nodes: Vec<Device>,
    /// Rules that allow their use.
    pub rules: Vec<DeviceRule>,
    /// Limits on block devices.
    pub block_io: BlockIo,
}

/// Why a workload cannot be expressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A capability that does not exist.
    #[error("unknown capability {0:?}: names are those of capabilities(7), as NET_ADMIN, or ALL")]
    UnknownCapability(String),
    /// A capability that the daemon has not.
    #[error("capability {0} cannot be added: the daemon itself does not have it")]
    CapabilityMissing(&'static str),
    /// A resource limit that does not exist.
    #[error("unknown ulimit {0:?}: use one of {names}", names = Ulimit::NAMES.join(" "))]
    UnknownUlimit(String),
    /// The soft limit is above the hard one.
    #[error("ulimit {name}: the soft limit {soft} is above the hard limit {hard}")]
    UlimitOrder {
        /// Which.
        name: String,
        /// The soft limit.
        soft: i64,
        /// The hard limit.
        hard: i64,
    },
    /// A limit out of its range, or at odds with another.
    #[error("{0}")]
    Limit(String),
    /// No program.
    #[error("no command specified: name one after the image, or use an image that has one")]
    NoCommand,
    /// A path that must be absolute and is not.
    #[error("{what} {path:?} is not an absolute path")]
    NotAbsolute {
        /// What it is the path of.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A path that is not text.
    #[error("path {0:?} is not valid UTF-8: rename it")]
    NotText(PathBuf),
    /// An option of a tmpfs that is none.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// A device that is none, or cannot be looked at.
    #[error("device {path}: {reason}")]
    Device {
        /// Path on the host.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call filter that does not parse.
    #[error("the seccomp profile is invalid: {0}")]
    Seccomp(String),
    /// A bridge that the workload was not given an interface on.
    #[error("network {0:?} has no interface for this workload")]
    NoNetwork(String),
}

impl Error {
    /// Whether it is the driver that falls short, not the request.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::CapabilityMissing(_))
    }
}

/// The specification of a plan.
///
/// # Errors
/// [`Error`] when the workload contradicts itself or asks for what is not there.
pub fn build(plan: &Plan, host: &Host, devices: Devices) -> Result<Spec, Error> {
    let workload = &*plan.workload;
    let capabilities = capabilities::resolve(&workload.security, host.bounding)?;
    let mut mounts = mounts::all(workload, host.groups, &plan.mounts)?;
    let mut process = process(workload, &capabilities, plan.streams.terminal)?;
    process.rlimits = limits::rlimits(&workload.resources.ulimits)?;
    process.oom_score_adj = process.oom_score_adj.or_else(|| host.protected.then_some(0));
    if workload.life.init {
        mounts.push(mounts::init(&host.shim)?);
        process.args = [INIT, "init", "--"].into_iter().map(str::to_owned).chain(process.args).collect();
    }
    Ok(Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process),
        root: Some(Root { path: "rootfs".to_owned(), readonly: workload.security.read_only_root }),
        hostname: namespaces::own_name(workload, &workload.host.hostname),
        domainname: namespaces::own_name(workload, &workload.host.domainname),
        mounts,
        annotations: workload.host.annotations.clone(),
        linux: Some(linux(plan, host, devices, &capabilities)?),
        ..Spec::default()
    })
}

fn linux(plan: &Plan, host: &Host, devices: Devices, capabilities: &[&'static str]) -> Result<Linux, Error> {
    let workload = &*plan.workload;
    let network = namespaces::network(&workload.host.network, plan.network.is_some())?;
    let security = &workload.security;
    let (masked_paths, readonly_paths) = paths(security, &host.thermal);
    let mut resources = limits::resources(&workload.resources)?;
    resources.block_io = Some(devices.block_io).filter(|limits| *limits != BlockIo::default());
    resources.devices =
        if security.privileged { defaults::any_device() } else { defaults::device_rules(devices.rules) };
    let own_network = !matches!(workload.host.network, atoll_model::Network::Host | atoll_model::Network::Workload(_));
    let mut sysctl = if own_network { defaults::network_sysctls(host.groups) } else { Default::default() };
    sysctl.extend(workload.host.sysctls.clone());
    let parent = workload.resources.cgroup_parent.as_ref().unwrap_or(&host.cgroup_parent);
    Ok(Linux {
        sysctl,
        resources: Some(resources),
        cgroups_path: format!("{}/{}", parent.trim_end_matches('/'), workload.id),
        namespaces: namespaces::all(&workload.host.namespaces, network),
        devices: devices.nodes,
        seccomp: seccomp(workload, capabilities, host.kernel)?,
        rootfs_propagation: mounts::root_propagation(&plan.mounts).to_owned(),
        masked_paths,
        readonly_paths,
        ..Linux::default()
    })
}

/// What is hidden, and what can only be read.
fn paths(security: &Security, thermal: &[String]) -> (Vec<String>, Vec<String>) {
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    let open = security.unmasked_paths;
    let masked = || if open { Vec::new() } else { defaults::masked_paths(thermal) };
    let readonly = || if open { Vec::new() } else { defaults::readonly_paths() };
    let (own_masked, own_readonly) = (security.masked_paths.clone(), security.readonly_paths.clone());
    (own_masked.unwrap_or_else(masked), own_readonly.unwrap_or_else(readonly))
}

fn process(workload: &Workload, capabilities: &[&'static str], terminal: Option<Size>) -> Result<Process, Error> {
    let args = workload.command.args();
    if args.is_empty() {
        return Err(Error::NoCommand);
    }
    let mut env = workload.command.env.clone();
    complete(&mut env, PATH);
    complete(&mut env, &format!("HOSTNAME={}", workload.host.hostname));
    if terminal.is_some() {
        complete(&mut env, "TERM=xterm");
    }
    Ok(Process {
        terminal: terminal.is_some(),
        console_size: terminal.map(console_size),
        args,
        env,
        cwd: absolute("working directory", &workload.command.working_dir)?,
        capabilities: Some(capabilities::sets(capabilities)),
        no_new_privileges: workload.security.no_new_privileges && !workload.security.privileged,
        oom_score_adj: oom_score(workload),
        ..Process::default()
    })
}

/// None leaves it as the supervisor has it.
fn oom_score(workload: &Workload) -> Option<i32> {
    Some(workload.resources.oom.score_adj).filter(|score| *score != 0)
}

/// What a supervisor is asked for an exec session.
///
/// # Errors
/// As [`build`].
pub fn exec(plan: ExecPlan) -> Result<Exec, Error> {
    let workload = &*plan.workload;
    if plan.args.is_empty() {
        return Err(Error::NoCommand);
    }
    let bounding = Bounding::of_this_process();
    let security = if plan.privileged {
        Security { privileged: true, ..workload.security.clone() }
    } else {
        workload.security.clone()
    };
    let mut env = workload.command.env.clone();
    plan.env.iter().for_each(|variable| replace(&mut env, variable));
    complete(&mut env, PATH);
    complete(&mut env, &format!("HOSTNAME={}", workload.host.hostname));
    if plan.terminal.is_some() {
        complete(&mut env, "TERM=xterm");
    }
    let working_dir = if plan.working_dir.is_empty() { &workload.command.working_dir } else { &plan.working_dir };
    let process = Process {
        terminal: plan.terminal.is_some(),
        console_size: plan.terminal.map(console_size),
        args: plan.args,
        env,
        cwd: absolute("working directory", working_dir)?,
        capabilities: Some(capabilities::sets(&capabilities::resolve(&security, bounding)?)),
        rlimits: limits::rlimits(&workload.resources.ulimits)?,
        no_new_privileges: security.no_new_privileges && !security.privileged,
        oom_score_adj: oom_score(workload),
        ..Process::default()
    };
    let user = if plan.user.is_empty() { workload.command.user.clone() } else { plan.user };
    let streams = Streams { terminal: plan.terminal, stdin: plan.attach.stdin, stdin_once: true };
    let groups = workload.command.groups.clone();
    Ok(Exec { id: plan.id, process, user, groups, streams, attach: plan.attach })
}

const fn console_size(size: Size) -> ConsoleSize {
    ConsoleSize { height: size.rows, width: size.columns }
}

fn absolute(what: &'static str, path: &str) -> Result<String, Error> {
    match path {
        "" => Ok("/".to_owned()),
        path if path.starts_with('/') => Ok(path.to_owned()),
        path => Err(Error::NotAbsolute { what, path: path.to_owned() }),
    }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// Adds a variable unless there is one of its name.
fn complete(env: &mut Vec<String>, variable: &str) {
    if !env.iter().any(|known| name_of(known) == name_of(variable)) {
        env.push(variable.to_owned());
    }
}

/// Sets a variable.
pub(crate) fn replace(env: &mut Vec<String>, variable: &str) {
    env.retain(|known| name_of(known) != name_of(variable));
    env.push(variable.to_owned());
}

fn seccomp(
    workload: &Workload,
    capabilities: &[&'static str],
    kernel: KernelVersion,
) -> Result<Option<LinuxSeccomp>, Error> {
    if workload.security.privileged {
        return Ok(None);
    }
    let filter = match &workload.security.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Default => Some(default_profile(capabilities, Arch::HOST)),
        Seccomp::Profile(text) => Some(profile::convert(text, capabilities, kernel)?),
    };
    Ok(match workload.resources.storage {
        Some(_) => Some(storage::keep_projects(filter)),
        None => filter,
    })
}
