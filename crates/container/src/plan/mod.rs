//! From a configuration to a plan, before anything is made (pure but for opening the namespaces that are joined).
//!
//! A [`Plan`] is what the container's first process carries out, and a [`ProcessPlan`] what any process of it does last;
//! both hold numbers and C strings only, so that nothing is parsed after the clone. What the specification allows and
//! Atoll does not do is refused here with its name: nothing is accepted and ignored.

mod limits;
mod mount;
mod process;
mod sysctl;
#[cfg(test)]
mod tests;

use std::path::Path;

use atoll_oci::runtime::{Device, DeviceType, Linux, NamespaceType, Spec};
use atoll_sys::cgroup::Limits;
use atoll_sys::mount::MountAttr;
use atoll_sys::process::CloneFlags;

use crate::error::PlanError;

pub use mount::{MountKind, MountPlan, TMPFS_MASK_OPTIONS};
pub use process::{CapabilitySets, ProcessPlan, ResourceLimit, capability, capability_names};

/// Most mounts in one configuration.
const MOUNTS_MAX: usize = 4096;

/// A namespace of somebody else to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Its kind: network, IPC, UTS, cgroup or pid.
    pub typ: NamespaceType,
    /// Its file.
    pub path: String,
}

/// Everything that is made for a container.
#[derive(Debug)]
pub struct Plan {
    /// New namespaces, cgroup's excepted: that one is made once the process is in its groups.
    pub clone: CloneFlags,
    /// Whether a new cgroup namespace is wanted.
    pub cgroup_namespace: bool,
    /// Namespaces to join.
    pub joins: Vec<Join>,
    /// Mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes, the default ones first.
    pub devices: Vec<Device>,
    /// What is hidden.
    pub masked: Vec<String>,
    /// What can only be read.
    pub readonly: Vec<String>,
    /// Whether the root can only be read, and its propagation (0 for private).
    pub root: RootPlan,
    /// Kernel parameters: path below /proc/sys, and value.
    pub sysctl: Vec<(String, String)>,
    /// Host and domain name.
    pub names: (String, String),
    /// Limits of the control groups.
    pub limits: Limits,
    /// The first process.
    pub process: ProcessPlan,
}

/// The last changes to the root mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RootPlan {
    /// Whether it can only be read.
    pub readonly: bool,
    /// `MS_*` propagation.
    pub propagation: u64,
    /// Whether that is for all mounts below too.
    pub recursive: bool,
}

impl Plan {
    /// Judges a whole configuration. `bundle` is where relative sources of mounts start.
    ///
    /// # Errors
    /// [`PlanError`], naming the field.
    pub fn new(spec: &Spec, bundle: &Path) -> Result<Self, PlanError> {
        let linux = spec.linux.clone().unwrap_or_default();
        check_version(&spec.oci_version)?;
        refuse_linux(&linux)?;
        if spec.hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) {
            return Err(PlanError::unsupported("running hooks"));
        }
        let (clone, cgroup_namespace, joins) = namespaces(&linux)?;
        if !spec.hostname.is_empty() && !clone.contains(CloneFlags::NEWUTS) {
            return Err(PlanError::invalid("hostname needs a new uts namespace"));
        }
        if !spec.domainname.is_empty() && !clone.contains(CloneFlags::NEWUTS) {
            return Err(PlanError::invalid("domainname needs a new uts namespace"));
        }
        if spec.mounts.len() > MOUNTS_MAX {
            return Err(PlanError::invalid(format!("more than {MOUNTS_MAX} mounts")));
        }
        let process = spec.process.as_ref().ok_or_else(|| PlanError::invalid("there is no process to run"))?;
        let mounts = spec.mounts.iter().map(|mount| MountPlan::new(mount, bundle)).collect::<Result<_, _>>()?;
        for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
            absolute("a masked or read-only path", path)?;
        }
        Ok(Self {
            clone,
            cgroup_namespace,
            joins,
            mounts,
            devices: devices(&linux.devices)?,
            masked: linux.masked_paths.clone(),
            readonly: linux.readonly_paths.clone(),
            root: root(spec, &linux)?,
            sysctl: sysctl::plan(&linux.sysctl, &linux, clone)?,
            names: (spec.hostname.clone(), spec.domainname.clone()),
            limits: limits::plan(linux.resources.as_ref())?,
            process: ProcessPlan::new(process, linux.seccomp.as_ref())?,
        })
    }

    /// Whether a namespace of this kind is new.
    #[must_use]
    pub fn is_new(&self, flag: CloneFlags) -> bool {
        self.clone.contains(flag)
    }
}

fn absolute(what: &str, path: &str) -> Result<(), PlanError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(PlanError::invalid(format!("{what} is not absolute: {path:?}")));
    }
    Ok(())
}

fn check_version(version: &str) -> Result<(), PlanError> {
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(PlanError::unsupported(format!("version {version:?} of the runtime specification"))),
    }
}

fn refuse_linux(linux: &Linux) -> Result<(), PlanError> {
    let refused = [
        (!linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty(), "a user namespace"),
        (!linux.net_devices.is_empty(), "moving network devices"),
        (!linux.mount_label.is_empty(), "an SELinux mount label"),
        (linux.intel_rdt.is_some(), "Intel RDT"),
        (!linux.time_offsets.is_empty(), "a time namespace"),
        (linux.personality.as_ref().is_some_and(|p| p.domain != "LINUX"), "a personality other than LINUX"),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, what)) => Err(PlanError::unsupported(*what)),
        None => Ok(()),
    }
}

fn namespaces(linux: &Linux) -> Result<(CloneFlags, bool, Vec<Join>), PlanError> {
    let (mut clone, mut cgroup, mut joins) = (CloneFlags::default(), false, Vec::new());
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if linux.namespaces[..index].iter().any(|other| other.typ == namespace.typ) {
            return Err(PlanError::invalid(format!("two namespaces of kind {}", namespace.typ)));
        }
        let joined = !namespace.path.is_empty();
        match namespace.typ {
            NamespaceType::User | NamespaceType::Time => {
                return Err(PlanError::unsupported(format!("a {} namespace", namespace.typ)));
            }
            NamespaceType::Mount if joined => return Err(PlanError::unsupported("joining a mount namespace")),
            _ if joined => {
                absolute("the path of a namespace", &namespace.path)?;
                joins.push(Join { typ: namespace.typ, path: namespace.path.clone() });
            }
            NamespaceType::Cgroup => cgroup = true,
            NamespaceType::Pid => clone |= CloneFlags::NEWPID,
            NamespaceType::Network => clone |= CloneFlags::NEWNET,
            NamespaceType::Mount => clone |= CloneFlags::NEWNS,
            NamespaceType::Ipc => clone |= CloneFlags::NEWIPC,
            NamespaceType::Uts => clone |= CloneFlags::NEWUTS,
        }
    }
    if !clone.contains(CloneFlags::NEWNS) {
        return Err(PlanError::unsupported("a container without a mount namespace of its own"));
    }
    Ok((clone, cgroup, joins))
}

fn root(spec: &Spec, linux: &Linux) -> Result<RootPlan, PlanError> {
    let name = linux.rootfs_propagation.as_str();
    let propagation = match name.strip_prefix('r').unwrap_or(name) {
        "" | "private" => 0,
        "slave" => MountAttr::SLAVE,
        "shared" => MountAttr::SHARED,
        "unbindable" => MountAttr::UNBINDABLE,
        _ => return Err(PlanError::invalid(format!("rootfsPropagation {name:?} is unknown"))),
    };
    Ok(RootPlan {
        readonly: spec.root.as_ref().is_some_and(|root| root.readonly),
        propagation,
        recursive: name.starts_with('r'),
    })
}

/// The nodes that every container has (runtime-spec config-linux.md, "Default Devices").
const DEFAULT_DEVICES: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(wanted: &[Device]) -> Result<Vec<Device>, PlanError> {
    let default = |(path, major, minor): &(&str, i64, i64)| Device {
        path: (*path).to_owned(),
        typ: DeviceType::Char,
        major: *major,
        minor: *minor,
        file_mode: Some(0o666),
        uid: None,
        gid: None,
    };
    let mut devices: Vec<Device> = DEFAULT_DEVICES.iter().map(default).collect();
    for device in wanted {
        absolute("the path of a device", &device.path)?;
        if device.typ == DeviceType::All {
            return Err(PlanError::invalid(format!("device {} has no single kind", device.path)));
        }
        let in_range = |number: i64| (0..=i64::from(u32::MAX)).contains(&number);
        if !in_range(device.major) || !in_range(device.minor) {
            return Err(PlanError::invalid(format!("device {} has numbers out of range", device.path)));
        }
        // A default node that is listed again is what its numbers say, never something else.
        match devices.iter().find(|other| other.path == device.path) {
            Some(other) if (other.typ, other.major, other.minor) == (device.typ, device.major, device.minor) => {}
            Some(_) => return Err(PlanError::invalid(format!("device {} is given twice", device.path))),
            None => devices.push(device.clone()),
        }
    }
    Ok(devices)
}
