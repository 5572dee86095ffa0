//! What criu restored, held against the configuration while it is still stopped.
//!
//! The kernel's view counts, never the images': mount points, and the files found at them by descriptors below the first
//! process's root, must be those that the configuration names; every process must be in the container's namespaces and
//! control groups and have no more rights than the configuration gives.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atoll_oci::runtime::NamespaceType;
use atoll_sys::cgroup::Cgroup;
use atoll_sys::mount::MountAttr;
use atoll_sys::proc;
use atoll_sys::process::CloneFlags;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags};

use super::Source;
use crate::plan::{MountKind, Plan};

/// Most processes of a container that come back.
const PROCESSES_MAX: usize = 1 << 16;

/// What is not as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum Contradiction {
    /// A mount that is none of the container's, or not as it is planned.
    #[error("the mount at {0} {1}")]
    Mount(String, &'static str),
    /// A process is where or who it may not be.
    #[error("process {0} {1}")]
    Process(i32, String),
    /// Nothing can be said.
    #[error("cannot look at what was restored: {0}")]
    System(#[from] io::Error),
}

/// A line of a mountinfo (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) id: u64,
    pub(super) device: String,
    pub(super) root: String,
    pub(super) place: String,
    pub(super) options: String,
    pub(super) kind: String,
}

impl Mounted {
    pub(super) fn is_cgroup(&self) -> bool {
        self.kind.starts_with("cgroup")
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|own| own == option)
    }
}

/// All lines that can be read.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ');
        let id = fields.next()?.parse().ok()?;
        let _parent = fields.next()?;
        let mut next = || fields.next().map(str::to_owned);
        let (device, root, place, options) = (next()?, next()?, next()?, next()?);
        Some(Mounted { id, device, root, place, options, kind: back.split(' ').next()?.to_owned() })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// Attributes of mounts by their names in a mountinfo.
const NAMES: [(&str, u64); 4] = [
    ("ro", MountAttr::RDONLY),
    ("nosuid", MountAttr::NOSUID),
    ("nodev", MountAttr::NODEV),
    ("noexec", MountAttr::NOEXEC),
];

/// Checks everything; `sources` are the places that were bound from the host.
pub(super) fn check(
    plan: &Plan,
    rootfs: &Path,
    sources: &[Source],
    cgroup: &Cgroup,
    pid: i32,
) -> Result<(), Contradiction> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(io::Error::from)?;
    let (ours, theirs) = (fs::metadata(rootfs)?, File::from(root.try_clone()?).metadata()?);
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        return Err(Contradiction::Mount("/".into(), "is not the container's root"));
    }
    let mounted = mounts(&fs::read_to_string(format!("/proc/{pid}/mountinfo"))?);
    check_mounts(plan, sources, &mounted)?;
    check_files(plan, sources, &root)?;
    let members = cgroup.pids().map_err(io::Error::other)?;
    for process in family(pid)? {
        if has_ended(process)? {
            continue;
        }
        check_namespaces(plan, pid, process)?;
        check_rights(plan, process)?;
        if !members.contains(&process) {
            return Err(Contradiction::Process(process, "is not in the container's control groups".into()));
        }
    }
    Ok(())
}

/// Every mount is one that is planned, with its attributes; every planned one is there.
pub(super) fn check_mounts(plan: &Plan, sources: &[Source], mounted: &[Mounted]) -> Result<(), Contradiction> {
    let wrong = |mount: &Mounted, what| Err(Contradiction::Mount(mount.place.clone(), what));
    for mount in mounted {
        let planned = plan.mounts.iter().find(|planned| planned.normal_destination() == mount.place);
        if let Some(planned) = planned {
            if let MountKind::Filesystem { typ, .. } = &planned.kind
                && (*typ != mount.kind || mount.root != "/")
            {
                return wrong(mount, "is of another kind than the configuration's");
            }
            let set = planned.attributes.set | planned.recursive.set;
            if NAMES.iter().any(|(name, bit)| set & bit != 0 && !mount.has(name)) {
                return wrong(mount, "lacks attributes of the configuration");
            }
            continue;
        }
        let part_of = |place: &str| mounted.iter().any(|other| other.place == place && other.device == mount.device);
        let known = match mount.place.as_str() {
            "/" => !plan.root.readonly || mount.has("ro"),
            "/dev" => mount.kind == "tmpfs" && mount.root == "/",
            place if sources.iter().any(|source| source.place == place) => true,
            place => plan.readonly.iter().any(|path| path == place) && (part_of("/proc") || part_of("/sys")),
        };
        let view = plan.mounts.iter().any(|planned| {
            matches!(planned.kind, MountKind::Cgroup { .. })
                && Path::new(&mount.place).starts_with(&planned.destination)
        });
        if !(known || view && mount.is_cgroup()) {
            return wrong(mount, "is none of the container's");
        }
    }
    for planned in &plan.mounts {
        let place = planned.normal_destination();
        if !mounted.iter().any(|mount| mount.place == place) {
            return Err(Contradiction::Mount(place, "is missing"));
        }
    }
    Ok(())
}

/// At every place that was bound lies its source, what is masked shows nothing, what is read-only cannot be written.
fn check_files(plan: &Plan, sources: &[Source], root: &OwnedFd) -> Result<(), Contradiction> {
    let open = |path: &str| {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    for source in sources {
        let place = source.place.as_str();
        let found = match open(place) {
            // Not every kernel has every path that is to be hidden.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) if source.mask => continue,
            other => File::from(other.map_err(io::Error::from)?).metadata()?,
        };
        let meant = fs::metadata(&source.path)?;
        // All null devices are one, wherever their nodes are.
        let null = source.mask && meant.rdev() != 0 && meant.rdev() == found.rdev();
        if !null && (found.dev(), found.ino()) != (meant.dev(), meant.ino()) {
            return Err(Contradiction::Mount(place.to_owned(), "is not what the configuration puts there"));
        }
    }
    for path in &plan.readonly {
        if let Ok(place) = open(path)
            && !rustix::fs::fstatvfs(&place).map_err(io::Error::from)?.f_flag.contains(StatVfsMountFlags::RDONLY)
        {
            return Err(Contradiction::Mount(path.clone(), "can be written"));
        }
    }
    Ok(())
}

/// A process and all below it.
pub(super) fn family(pid: i32) -> io::Result<Vec<i32>> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(process) = all.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
            let children = fs::read_to_string(task.path().join("children"))?;
            all.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        if all.len() > PROCESSES_MAX {
            return Err(io::Error::other("too many processes"));
        }
    }
    Ok(all)
}

/// Whether a process has ended and was not collected: it is in no namespace any more, and runs nothing. One whose first thread
/// alone has ended is none.
fn has_ended(process: i32) -> io::Result<bool> {
    let (state, _) = proc::state_and_start(process)?;
    Ok(matches!(state, 'Z' | 'X') && fs::read_dir(format!("/proc/{process}/task"))?.count() == 1)
}

fn check_namespaces(plan: &Plan, first: i32, process: i32) -> Result<(), Contradiction> {
    let link = |process: &str, file: &str| fs::read_link(format!("/proc/{process}/ns/{file}"));
    let namespaces = &plan.namespaces;
    let new = [
        ("mnt", namespaces.is_new(CloneFlags::NEWNS)),
        ("pid", namespaces.is_new(CloneFlags::NEWPID)),
        ("net", namespaces.is_new(CloneFlags::NEWNET)),
        ("ipc", namespaces.is_new(CloneFlags::NEWIPC)),
        ("uts", namespaces.is_new(CloneFlags::NEWUTS)),
        ("cgroup", namespaces.cgroup),
    ];
    let wrong = |text: String| Err(Contradiction::Process(process, text));
    for (file, _) in new.iter().filter(|(_, new)| *new) {
        let own = link(&process.to_string(), file)?;
        if own == link("self", file)? && *file != "mnt" || own == link("1", file)? {
            return wrong(format!("is in the host's {file} namespace"));
        }
    }
    if link(&process.to_string(), "mnt")? != link(&first.to_string(), "mnt")? {
        return wrong("is in another mount namespace than the first process".into());
    }
    for join in namespaces.joins.iter().filter(|join| join.typ == NamespaceType::Network) {
        let (own, meant) = (fs::metadata(format!("/proc/{process}/ns/net"))?, fs::metadata(&join.path)?);
        if own.ino() != meant.ino() {
            return wrong(format!("is not in the network namespace {}", join.path));
        }
    }
    Ok(())
}

/// Of every thread: each has capabilities and a filter of its own.
fn check_rights(plan: &Plan, process: i32) -> Result<(), Contradiction> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        check_thread(plan, process, &fs::read_to_string(thread?.path().join("status"))?)?;
    }
    Ok(())
}

fn check_thread(plan: &Plan, process: i32, status: &str) -> Result<(), Contradiction> {
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let wrong = |text: &str| Err(Contradiction::Process(process, text.to_owned()));
    let sets = plan.process.capabilities;
    let allowed = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        match value(set).and_then(|bits| u64::from_str_radix(bits, 16).ok()) {
            Some(bits) if bits & !allowed == 0 => {}
            _ => return wrong("has capabilities that the configuration does not give"),
        }
    }
    if plan.process.no_new_privileges && value("NoNewPrivs") != Some("1") {
        return wrong("may gain privileges by execve");
    }
    if plan.process.seccomp.is_some() && value("Seccomp") != Some("2") {
        return wrong("has no system call filter");
    }
    Ok(())
}
