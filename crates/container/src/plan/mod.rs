//! From a configuration to a plan, before anything is made (pure but for opening the namespaces that are joined).
//!
//! A [`Plan`] is what the container's first process carries out, and a [`ProcessPlan`] what any process of it does last;
//! both hold numbers and C strings only, so that nothing is parsed after the clone. What the specification allows and
//! Atoll does not do is refused here with its name: nothing is accepted and ignored.

mod limits;
mod mount;
mod namespaces;
mod process;
mod schedule;
mod sysctl;
#[cfg(test)]
mod tests;

use std::path::Path;

use atoll_oci::runtime::{Device, DeviceType, Hooks, Linux, NamespaceType, Spec};
use atoll_sys::cgroup::Limits;
use atoll_sys::mount::MountAttr;
use atoll_sys::process::CloneFlags;

use crate::error::PlanError;

pub use limits::plan as limits;
pub use mount::{IdMap, MountKind, MountPlan, TMPFS_MASK_OPTIONS, mount_options};
pub use namespaces::{Join, NamespacePlan};
pub use process::{CapabilitySets, Labels, ProcessPlan, ResourceLimit, capability, capability_names};
pub use schedule::SchedulePlan;

/// Most mounts in one configuration.
const MOUNTS_MAX: usize = 4096;

/// Everything that is made for a container.
#[derive(Debug)]
pub struct Plan {
    /// Its namespaces.
    pub namespaces: NamespacePlan,
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
    /// Programs to run on the way.
    pub hooks: Hooks,
    /// Interfaces of the host to move in: their name there, and inside.
    pub net_devices: Vec<(String, String)>,
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
        refuse_rdt(&linux)?;
        let namespaces = NamespacePlan::new(&linux)?;
        if namespaces.joins(NamespaceType::Mount) {
            check_joined_mounts(spec, &linux)?;
        }
        let hooks = spec.hooks.clone().unwrap_or_default();
        check_hooks(&hooks)?;
        for (name, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            if !value.is_empty() && !namespaces.is_new(CloneFlags::NEWUTS) {
                return Err(PlanError::invalid(format!("{name} needs a new uts namespace")));
            }
        }
        if spec.mounts.len() > MOUNTS_MAX {
            return Err(PlanError::invalid(format!("more than {MOUNTS_MAX} mounts")));
        }
        let process = spec.process.as_ref().ok_or_else(|| PlanError::invalid("there is no process to run"))?;
        let judge = |mount| MountPlan::new(mount, bundle, namespaces.mapping.as_ref(), &linux.mount_label);
        let mounts = spec.mounts.iter().map(judge).collect::<Result<_, _>>()?;
        for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
            absolute("a masked or read-only path", path)?;
        }
        Ok(Self {
            mounts,
            devices: devices(&linux.devices)?,
            masked: linux.masked_paths.clone(),
            readonly: linux.readonly_paths.clone(),
            root: root(spec, &linux)?,
            sysctl: sysctl::plan(&linux.sysctl, &namespaces)?,
            names: (spec.hostname.clone(), spec.domainname.clone()),
            limits: limits::of_a_new_group(&linux.resources.clone().unwrap_or_default())?,
            hooks,
            net_devices: net_devices(&linux, &namespaces)?,
            process: ProcessPlan::new(process, Some(&linux))?,
            namespaces,
        })
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

fn refuse_rdt(linux: &Linux) -> Result<(), PlanError> {
    match &linux.intel_rdt {
        None => Ok(()),
        Some(_) if Path::new(RESCTRL).is_dir() => Err(PlanError::unsupported("linux.intelRdt")),
        Some(_) => Err(PlanError::invalid(format!("linux.intelRdt: the host has no resctrl ({RESCTRL})"))),
    }
}

/// Where the kernel shows Intel's resource director technology (its resctrl.rst).
const RESCTRL: &str = "/sys/fs/resctrl";

/// In a mount namespace of others nothing is mounted and nothing is hidden: they all would see it, and nobody would ever take
/// it away again. The container's root is that namespace's.
fn check_joined_mounts(spec: &Spec, linux: &Linux) -> Result<(), PlanError> {
    let root = spec.root.clone().unwrap_or_default();
    let changes = [
        (root.path != "/", "another root.path than \"/\""),
        (root.readonly, "root.readonly"),
        (!spec.mounts.is_empty(), "mounts"),
        (!linux.devices.is_empty(), "linux.devices"),
        (!linux.masked_paths.is_empty(), "linux.maskedPaths"),
        (!linux.readonly_paths.is_empty(), "linux.readonlyPaths"),
        (!linux.rootfs_propagation.is_empty(), "linux.rootfsPropagation"),
    ];
    match changes.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(PlanError::unsupported(format!("{what} in a mount namespace that is joined"))),
        None => Ok(()),
    }
}

fn check_hooks(hooks: &Hooks) -> Result<(), PlanError> {
    let all = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    for hook in all.into_iter().flatten() {
        absolute("the path of a hook", &hook.path)?;
        if hook.timeout.is_some_and(|seconds| seconds <= 0) {
            return Err(PlanError::invalid(format!("the timeout of hook {:?} is not above zero", hook.path)));
        }
        if hook.env.iter().any(|variable| !variable.contains('=')) {
            return Err(PlanError::invalid(format!("the environment of hook {:?} is not NAME=value", hook.path)));
        }
    }
    Ok(())
}

/// Longest name of an interface (linux/if.h, `IFNAMSIZ` less its null).
const INTERFACE_NAME_MAX: usize = 15;

fn net_devices(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<(String, String)>, PlanError> {
    if linux.net_devices.is_empty() {
        return Ok(Vec::new());
    }
    if !namespaces.is_new(CloneFlags::NEWNET) && !namespaces.joins(NamespaceType::Network) {
        return Err(PlanError::invalid("netDevices need a network namespace of the container's own"));
    }
    let name = |(host, device): (&String, &atoll_oci::runtime::NetDevice)| {
        let inside = if device.name.is_empty() { host } else { &device.name };
        for name in [host, inside] {
            let bad = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0';
            if name.is_empty() || name.len() > INTERFACE_NAME_MAX || name == "." || name == ".." || name.contains(bad) {
                return Err(PlanError::invalid(format!("netDevices: {name:?} is no name of an interface")));
            }
        }
        Ok((host.clone(), inside.clone()))
    };
    linux.net_devices.iter().map(name).collect()
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
