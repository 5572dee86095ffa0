//! What of the host becomes part of the container: its root folder and what is bound into it.
//!
//! Each is cloned in the host's view, detached, and given its attributes before anything of the container is touched: by
//! the process itself, or by its maker where a user namespace would take the right to it away.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_sys::mount::{MountAttr, set_attributes};
use atoll_sys::userns;

use super::{At, Step, mounts, root};
use crate::birth::root_name;
use crate::creation::RootSource;
use crate::plan::{MountKind, MountPlan, Plan};

/// `MOUNT_ATTR_IDMAP` of linux/mount.h.
const IDMAP: u64 = 0x0010_0000;
/// Of an empty root: whoever builds the container makes places in it, also where a user namespace does not map its owner.
const EMPTY_ROOT_OPTIONS: [(&str, &str); 3] = [("mode", "0777"), ("size", "64k"), ("nr_inodes", "4k")];

/// The clones.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Of the root.
    pub(super) root: OwnedFd,
    /// Of each mount's source, `None` for other mounts than binds.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// Whether the root is [`RootSource::Empty`].
    pub(super) is_empty: bool,
}

impl Sources {
    /// Clones all.
    pub(crate) fn open(plan: &Plan, source: &RootSource) -> Step<Self> {
        let mount = match source {
            RootSource::Path(path) => root::clone_tree(path, true).at("root file system", &root_name(source))?,
            RootSource::Overlay(overlay) => overlay.mount().at("root file system", &root_name(source))?,
            RootSource::Empty => {
                let options = EMPTY_ROOT_OPTIONS.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
                mounts::filesystem("tmpfs", "tmpfs", &options)?
            }
        };
        let private = MountAttr { propagation: MountAttr::PRIVATE, ..MountAttr::default() };
        set_attributes(&mount, &private, true).at("root file system", "propagation")?;
        let mounts = plan.mounts.iter().map(bind).collect::<Step<_>>()?;
        Ok(Self { root: mount, mounts, is_empty: matches!(source, RootSource::Empty) })
    }

    /// Their descriptors.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.root.as_fd()).chain(self.mounts.iter().flatten().map(AsFd::as_fd))
    }
}

fn bind(mount: &MountPlan) -> Step<Option<OwnedFd>> {
    let MountKind::Bind { source, recursive } = &mount.kind else { return Ok(None) };
    let (name, path) = (source.to_string_lossy(), mount.destination.as_str());
    let tree = root::clone_tree(source, *recursive).at("bind source", &name)?;
    set_attributes(&tree, &mount.recursive, true).at("mount attributes", path)?;
    set_attributes(&tree, &mount.attributes, false).at("mount attributes", path)?;
    if let Some(map) = &mount.idmap {
        use std::os::fd::AsRawFd;
        let namespace = userns::make(&map.mapping).at("id mapping", path)?;
        let userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
        let attributes = MountAttr { set: IDMAP, userns_fd, ..MountAttr::default() };
        set_attributes(&tree, &attributes, map.recursive).at("id-mapped mount", path)?;
    }
    Ok(Some(tree))
}
