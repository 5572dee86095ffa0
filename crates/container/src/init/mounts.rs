//! The mounts of the configuration, in order (runtime-spec config.md, "Mounts").
//!
//! Each mount is made detached (what is bound was cloned before, see [`Sources`]), given its attributes, and attached to a
//! descriptor of its place inside the new root.

use std::os::fd::{AsFd, OwnedFd};

use atoll_sys::cgroup::Cgroup;
use atoll_sys::mount::{MountAttr, attach, set_attributes};
use rustix::fs::{FileType, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::sources::{Source, map_ids};
use super::{At, Sources, Step, copyup, errno, resolve, root};
use crate::plan::{MountKind, MountPlan, Plan};

/// The mounts that later steps work on.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The tmpfs at /dev, when it is one of ours.
    pub(super) dev: Option<OwnedFd>,
    /// Root of the devpts at /dev/pts.
    pub(super) devpts: Option<OwnedFd>,
    /// Root of the procfs at /proc.
    proc: Option<OwnedFd>,
}

/// Makes and attaches all mounts; `foreign` in a user namespace other than the host's first.
pub(super) fn mount_all(plan: &Plan, foreign: bool, sources: &Sources, cgroup: &Cgroup) -> Step<Made> {
    let (mut made, root) = (Made::default(), &sources.root);
    if !sources.is_empty && !plan.mounts.iter().any(|mount| mount.normal_destination() == "/dev") {
        // An image's own /dev is never used.
        let parameters = [("mode".to_owned(), Some("0755".to_owned())), ("size".to_owned(), Some("64k".to_owned()))];
        let dev = filesystem("tmpfs", "tmpfs", &parameters)?;
        set_attributes(&dev, &MountAttr { set: MountAttr::NOSUID, ..MountAttr::default() }, false)
            .at("mount", "/dev")?;
        place(root, "/dev", true, &dev, true)?;
        made.dev = Some(dev);
    }
    for (mount, source) in plan.mounts.iter().zip(&sources.mounts) {
        let path = mount.normal_destination();
        let (typ, name, parameters) = match (&mount.kind, source) {
            (MountKind::Filesystem { typ, source, parameters }, _) => (typ, source, parameters),
            (MountKind::Cgroup { unified }, _) => {
                cgroup_view(mount, *unified, root, cgroup)?;
                continue;
            }
            (MountKind::Bind { .. }, Source::Tree(tree)) => {
                let is_folder = is_folder(tree).at("mount", &path)?;
                place(root, &path, is_folder, tree, mount.is_fixed())?;
                if path == "/dev" {
                    made.dev = None;
                }
                continue;
            }
            (MountKind::Bind { .. }, _) => return Err(errno(libc::EINVAL)).at("mount", &path),
        };
        let tree = match filesystem(typ, name, parameters) {
            Err(stop) if typ == "sysfs" && stop.0.errno == libc::EPERM && foreign => hosts_sysfs()?,
            other => other?,
        };
        if mount.copy_up {
            copy_up(root, &path, &tree, mount.is_fixed())?;
        }
        if let Source::Ids(ids) = source {
            map_ids(&tree, ids, mount)?;
        }
        set_attributes(&tree, &mount.recursive, true).at("mount attributes", &path)?;
        set_attributes(&tree, &mount.attributes, false).at("mount attributes", &path)?;
        place(root, &path, true, &tree, mount.is_fixed())?;
        match (typ.as_str(), path.as_str()) {
            ("tmpfs", "/dev") => made.dev = Some(tree),
            (_, "/dev") => made.dev = None,
            ("devpts", "/dev/pts") => made.devpts = Some(tree),
            ("proc", "/proc") => made.proc = Some(tree),
            _ => {}
        }
    }
    Ok(made)
}

/// The host's /sys with what is mounted below it, control groups too, which may belong to the container's user on the host
/// (CVE-2023-25809): all of it can only be read. Without a network namespace of its own a user namespace has no right to a
/// sysfs.
fn hosts_sysfs() -> Step<OwnedFd> {
    let tree = root::clone_tree(std::path::Path::new("/sys"), true).at("bind", "/sys")?;
    let set = MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    set_attributes(&tree, &MountAttr { set, ..MountAttr::default() }, true).at("bind", "/sys")?;
    Ok(tree)
}

/// Fills a new tmpfs with what the image has at its place.
fn copy_up(root: &OwnedFd, path: &str, tree: &OwnedFd, fixed: bool) -> Step<()> {
    match resolve::open(root, path, rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, fixed) {
        Ok(from) => copyup::copy_up(&from, tree).at("copy up", path),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error).at("copy up", path),
    }
}

fn is_folder(tree: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) == FileType::Directory)
}

/// Attaches a mount at `path` inside the root, which is made if missing.
fn place(root: &OwnedFd, path: &str, folder: bool, tree: &OwnedFd, fixed: bool) -> Step<()> {
    let place = if folder { resolve::make_folder(root, path, fixed) } else { resolve::make_file(root, path, fixed) };
    attach(tree.as_fd(), place.at("mount point", path)?.as_fd()).at("mount", path)
}

/// A new file system, detached.
pub(super) fn filesystem(typ: &str, source: &str, parameters: &[(String, Option<String>)]) -> Step<OwnedFd> {
    let context = fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC).at("file system", typ)?;
    if !source.is_empty() {
        fsconfig_set_string(&context, "source", source).at("file system source", source)?;
    }
    for (name, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, name.as_str()),
        }
        .at("file system option", &format!("{typ}: {name}"))?;
    }
    fsconfig_create(&context).at("file system", typ)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).at("file system", typ)
}

/// What a container sees of its control groups: its own group as the root, one folder per hierarchy in version 1.
fn cgroup_view(mount: &MountPlan, unified: bool, root: &OwnedFd, cgroup: &Cgroup) -> Step<()> {
    let path = mount.normal_destination();
    let bind = |folder: &std::path::Path| {
        let tree = root::clone_tree(folder, false).at("control group", &folder.to_string_lossy())?;
        let attributes = MountAttr { propagation: MountAttr::PRIVATE, ..mount.attributes };
        set_attributes(&tree, &attributes, false).at("control group", "attributes")?;
        Ok(tree)
    };
    if unified || cgroup.is_unified() {
        let missing = || errno(libc::ENODEV);
        let folder = cgroup.unified().ok_or_else(missing).at("control group", "the container has none of version 2")?;
        return place(root, &path, true, &bind(folder)?, mount.is_fixed());
    }
    let view = filesystem("tmpfs", "tmpfs", &[("mode".to_owned(), Some("0755".to_owned()))])?;
    place(root, &path, true, &view, mount.is_fixed())?;
    let unified = cgroup.unified().map(|folder| ("unified", folder));
    for (controllers, folder) in cgroup.hierarchies().chain(unified) {
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let tree = bind(folder)?;
        place(&view, &format!("/{name}"), true, &tree, true)?;
        for alias in name.split(',').filter(|alias| *alias != name) {
            rustix::fs::symlinkat(name, &view, alias).at("control group", alias)?;
        }
    }
    set_attributes(&view, &mount.attributes, false).at("control group", "attributes")
}

/// A procfs of our own to write parameters through: the one at /proc, or one that nobody else sees.
pub(super) fn own_proc(made: &Made, plan: &Plan) -> Step<Option<OwnedFd>> {
    if plan.sysctl.is_empty() {
        return Ok(None);
    }
    match &made.proc {
        // Mounted read-only it still is writable through a mount of its own.
        Some(proc) if !is_readonly(proc) => proc.try_clone().map(Some).at("proc", ""),
        _ => filesystem("proc", "proc", &[]).map(Some),
    }
}

fn is_readonly(mount: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(mount).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Mode of the node that hides files, and of devices without one.
pub(super) const NODE_MODE: Mode = Mode::from_raw_mode(0o666);
