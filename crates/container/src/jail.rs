//! A jail around a program of our own that faces hostile input: a machine's monitor, a runtime of WebAssembly.
//!
//! It is a container like any other, made by [`create`], with everything taken away: namespaces of its own of every kind
//! but time, one id of a user namespace, no capability and none to be had, an empty root that cannot be written to, no
//! procfs, no network, no environment, no device. Added are the program itself, what it is lent, descriptors, its control
//! group and the filter of its system calls.
//!
//! The program is statically linked, and its filter has to let `execve` through: the root holds nothing else to execute.

use std::path::{Path, PathBuf};

use atoll_oci::runtime::{
    DeviceRule, DeviceType, IdMapping, Linux, LinuxSeccomp, Mount, Namespace, NamespaceType, OCI_VERSION, Process,
    Resources, Root, Spec,
};
use rustix::fs::{FileType, major, minor};

use crate::creation::{Created, Creation, RootSource, StartMode, Stdio, create, system};
use crate::error::{CreateError, PlanError};
use crate::groups::GroupPolicy;

/// Where the program is inside.
const PROGRAM: &str = "/program";
/// Kinds of namespaces that are its own.
const NAMESPACES: [NamespaceType; 7] = [
    NamespaceType::User,
    NamespaceType::Mount,
    NamespaceType::Pid,
    NamespaceType::Network,
    NamespaceType::Ipc,
    NamespaceType::Uts,
    NamespaceType::Cgroup,
];

/// What to jail.
#[derive(Debug)]
pub struct Jail<'a> {
    /// Its name, the last part of its control group's path by default.
    pub id: &'a str,
    /// The program's file on the host.
    pub program: &'a Path,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// User and group of the host whose rights it has on what it is lent: better nobody else's. An ordinary caller has only
    /// its own to give.
    pub ids: (u32, u32),
    /// Files, folders and devices of the host that it sees.
    pub loans: Vec<Loan>,
    /// Its control group, as `linux.cgroupsPath`; empty for one named by `id`.
    pub cgroups_path: String,
    /// Its limits; rules for devices are made from what is lent.
    pub resources: Resources,
    /// What it may ask of the kernel.
    pub filter: LinuxSeccomp,
}

/// Something of the host that is lent to a jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loan {
    /// It, on the host: an absolute path.
    pub source: PathBuf,
    /// Where it is inside: an absolute path.
    pub inside: String,
    /// Whether it may be written to.
    pub writable: bool,
}

impl Jail<'_> {
    /// Makes the jail with the program in it, which waits for [`Created::start`]. It inherits `preserve_fds` descriptors from 3
    /// upward. The caller is as for [`create`].
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left then.
    pub fn create(&self, stdio: Stdio, preserve_fds: u32) -> Result<Created, CreateError> {
        create(Creation {
            id: self.id,
            spec: &self.spec()?,
            bundle: Path::new("/"),
            root: RootSource::Empty,
            user: "",
            more_groups: &[],
            stdio,
            start: StartMode::Caller,
            preserve_fds,
            keyring: true,
            pivot: true,
            groups: GroupPolicy::default(),
        })
    }

    fn spec(&self) -> Result<Spec, CreateError> {
        let mut resources = self.resources.clone();
        let mut mounts = vec![mount(self.program, PROGRAM, &["ro", "nosuid", "nodev"])?];
        resources.devices =
            vec![DeviceRule { allow: false, typ: None, major: None, minor: None, access: "rwm".into() }];
        for loan in &self.loans {
            let rule = device_rule(loan)?;
            let access = if loan.writable { "rw" } else { "ro" };
            let nodes = if rule.is_some() { "dev" } else { "nodev" };
            mounts.push(mount(&loan.source, &loan.inside, &[access, nodes, "nosuid", "noexec"])?);
            resources.devices.extend(rule);
        }
        let own = |id| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
        Ok(Spec {
            oci_version: OCI_VERSION.into(),
            process: Some(Process {
                args: std::iter::once(PROGRAM.to_owned()).chain(self.arguments.iter().cloned()).collect(),
                cwd: "/".into(),
                no_new_privileges: true,
                ..Process::default()
            }),
            root: Some(Root { path: String::new(), readonly: true }),
            hostname: "jail".into(),
            mounts,
            linux: Some(Linux {
                namespaces: NAMESPACES.map(|typ| Namespace { typ, path: String::new() }).to_vec(),
                uid_mappings: own(self.ids.0),
                gid_mappings: own(self.ids.1),
                cgroups_path: self.cgroups_path.clone(),
                resources: Some(resources),
                seccomp: Some(self.filter.clone()),
                ..Linux::default()
            }),
            ..Spec::default()
        })
    }
}

fn mount(source: &Path, inside: &str, options: &[&str]) -> Result<Mount, PlanError> {
    let name = source.to_str().filter(|_| source.is_absolute());
    let source =
        name.ok_or_else(|| PlanError::invalid(format!("{} is no absolute path in UTF-8", source.display())))?;
    let options = ["bind"].iter().chain(options).map(|option| (*option).to_owned()).collect();
    Ok(Mount { destination: inside.into(), source: source.into(), options, ..Mount::default() })
}

/// What the control group has to allow for a loan that is a device.
fn device_rule(loan: &Loan) -> Result<Option<DeviceRule>, CreateError> {
    let stat = rustix::fs::stat(&loan.source).map_err(std::io::Error::from);
    let stat = stat.map_err(system(&format!("look at {}", loan.source.display())))?;
    let typ = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => DeviceType::Char,
        FileType::BlockDevice => DeviceType::Block,
        _ => return Ok(None),
    };
    let number = |number: u32| Some(i64::from(number));
    let access = if loan.writable { "rw" } else { "r" };
    let (major, minor) = (number(major(stat.st_rdev)), number(minor(stat.st_rdev)));
    Ok(Some(DeviceRule { allow: true, typ: Some(typ), major, minor, access: access.into() }))
}
