//! The mounts of the configuration, in order (runtime-spec config.md, "Mounts").
//!
//! What is bound is cloned first, in the host's view and before anything of the container is touched; then each mount is
//! made detached, given its attributes, and attached to a descriptor of its place inside the new root.

use std::os::fd::{AsFd, OwnedFd};

use atoll_sys::cgroup::Cgroup;
use atoll_sys::mount::{MountAttr, attach, set_attributes};
use rustix::fs::{FileType, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::{At, Placement, Step, errno, resolve, root};
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

/// Clones all sources of bind mounts, `None` for other mounts.
pub(super) fn open_sources(mounts: &[MountPlan]) -> Step<Vec<Option<OwnedFd>>> {
    let open = |mount: &MountPlan| match &mount.kind {
        MountKind::Bind { source, recursive } => {
            root::clone_tree(source, *recursive).map(Some).at("bind source", &source.to_string_lossy())
        }
        _ => Ok(None),
    };
    mounts.iter().map(open).collect()
}

/// Makes and attaches all mounts.
pub(super) fn mount_all(
    plan: &Plan,
    root: &OwnedFd,
    sources: Vec<Option<OwnedFd>>,
    cgroup: &Cgroup,
    placement: &mut Placement<'_>,
) -> Step<Made> {
    let mut made = Made::default();
    if !plan.mounts.iter().any(|mount| mount.normal_destination() == "/dev") {
        // An image's own /dev is never used.
        let parameters = [("mode".to_owned(), Some("0755".to_owned())), ("size".to_owned(), Some("64k".to_owned()))];
        let dev = filesystem("tmpfs", "tmpfs", &parameters)?;
        set_attributes(&dev, &MountAttr { set: MountAttr::NOSUID, ..MountAttr::default() }, false)
            .at("mount", "/dev")?;
        place(root, "/dev", true, &dev, true)?;
        made.dev = Some(dev);
    }
    for (mount, source) in plan.mounts.iter().zip(sources) {
        let path = mount.normal_destination();
        let tree = match (&mount.kind, source) {
            (MountKind::Bind { .. }, Some(tree)) => tree,
            (MountKind::Filesystem { typ, source, parameters }, _) => filesystem(typ, source, parameters)?,
            (MountKind::Cgroup, _) => {
                placement.wait()?;
                cgroup_view(mount, root, cgroup)?;
                continue;
            }
            (MountKind::Bind { .. }, None) => return Err(errno(libc::EINVAL)).at("mount", &path),
        };
        set_attributes(&tree, &mount.recursive, true).at("mount attributes", &path)?;
        set_attributes(&tree, &mount.attributes, false).at("mount attributes", &path)?;
        let is_folder = is_folder(&tree).at("mount", &path)?;
        place(root, &path, is_folder, &tree, mount.is_fixed())?;
        match (&mount.kind, path.as_str()) {
            (MountKind::Filesystem { typ, .. }, "/dev") if typ == "tmpfs" => made.dev = Some(tree),
            (_, "/dev") => made.dev = None,
            (MountKind::Filesystem { typ, .. }, "/dev/pts") if typ == "devpts" => made.devpts = Some(tree),
            (MountKind::Filesystem { typ, .. }, "/proc") if typ == "proc" => made.proc = Some(tree),
            _ => {}
        }
    }
    Ok(made)
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
fn cgroup_view(mount: &MountPlan, root: &OwnedFd, cgroup: &Cgroup) -> Step<()> {
    let path = mount.normal_destination();
    let bind = |folder: &std::path::Path| {
        let tree = root::clone_tree(folder, false).at("control group", &folder.to_string_lossy())?;
        let attributes = MountAttr { propagation: MountAttr::PRIVATE, ..mount.attributes };
        set_attributes(&tree, &attributes, false).at("control group", "attributes")?;
        Ok(tree)
    };
    if let (true, Some(folder)) = (cgroup.is_unified(), cgroup.unified()) {
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
    if plan.sysctl.is_empty() && plan.process.oom_score_adj.is_none() {
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
