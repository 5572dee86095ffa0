//! What of the host becomes part of the container: its root folder and what is bound into it.
//!
//! Each is cloned in the host's view, detached, and given its attributes before anything of the container is touched: by
//! the process itself, or by its maker where a user namespace would take the right to it away.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
    /// What each mount needs.
    pub(super) mounts: Vec<Source>,
    /// Whether the root is [`RootSource::Empty`].
    pub(super) is_empty: bool,
}

/// What a mount needs of the host.
#[derive(Debug)]
pub(super) enum Source {
    /// A new file system does not.
    Nothing,
    /// The clone of what is bound.
    Tree(OwnedFd),
    /// The user namespace whose mapping a new file system gets.
    Ids(OwnedFd),
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
        let mounts = plan.mounts.iter().map(source_of).collect::<Step<_>>()?;
        Ok(Self { root: mount, mounts, is_empty: matches!(source, RootSource::Empty) })
    }

    /// Their descriptors.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let of_mounts = self.mounts.iter().filter_map(|source| match source {
            Source::Nothing => None,
            Source::Tree(fd) | Source::Ids(fd) => Some(fd.as_fd()),
        });
        std::iter::once(self.root.as_fd()).chain(of_mounts)
    }
}

fn source_of(mount: &MountPlan) -> Step<Source> {
    let path = mount.destination.as_str();
    let ids = mount.idmap.as_ref().map(|map| userns::make(&map.mapping).at("id mapping", path)).transpose()?;
    let MountKind::Bind { source, recursive } = &mount.kind else {
        return Ok(ids.map_or(Source::Nothing, Source::Ids));
    };
    let tree = root::clone_tree(source, *recursive).at("bind source", &source.to_string_lossy())?;
    set_attributes(&tree, &mount.recursive, true).at("mount attributes", path)?;
    set_attributes(&tree, &mount.attributes, false).at("mount attributes", path)?;
    if let Some(ids) = &ids {
        map_ids(&tree, ids, mount)?;
    }
    Ok(Source::Tree(tree))
}

/// Maps the ids of a mount's files. Whether its file system can be mapped is the kernel's to say.
pub(super) fn map_ids(tree: &OwnedFd, ids: &OwnedFd, mount: &MountPlan) -> Step<()> {
    let userns_fd = u64::try_from(ids.as_raw_fd()).unwrap_or(u64::MAX);
    let attributes = MountAttr { set: IDMAP, userns_fd, ..MountAttr::default() };
    let recursive = mount.idmap.as_ref().is_some_and(|map| map.recursive);
    let path = mount.destination.as_str();
    match set_attributes(tree, &attributes, recursive) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(error).at("id-mapped mount: this kernel cannot map its file system", path)
        }
        other => other.at("id-mapped mount", path),
    }
}
