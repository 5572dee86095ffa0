//! Hidden and read-only paths (runtime-spec config-linux.md, "Masked Paths", "Readonly Paths").
//!
//! Folders are covered with a clone of one empty read-only tmpfs, files with a null device made in that same tmpfs:
//! the container's own /dev/null is never the source (CVE-2025-31133). One superblock serves all masks, since reaping
//! many is slow.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use atoll_sys::mount::{MountAttr, attach, set_attributes};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::{At, Step, errno, mounts, resolve, root};
use crate::plan::{Plan, TMPFS_MASK_OPTIONS};

/// Name of the null device in the tmpfs.
pub(crate) const NULL: &str = "null";
/// Name of the empty folder in it.
pub(crate) const EMPTY: &str = "empty";

/// The tmpfs that masks are cloned from, attached out of sight on the host's root in this namespace until the pivot.
#[derive(Debug)]
pub(super) struct Masks {
    tree: OwnedFd,
    /// A mount of the host's null device, where a user namespace may not make one.
    null: Option<OwnedFd>,
}

impl Masks {
    /// Makes it when there is something to hide; `foreign` in a user namespace other than the host's first.
    pub(super) fn prepare(plan: &Plan, foreign: bool) -> Step<Option<Self>> {
        if plan.masked.is_empty() {
            return Ok(None);
        }
        let step = "masks";
        let tree = tree(!foreign)?;
        let own_null = if foreign { Some(hosts_null(rustix::fs::makedev(1, 3))?) } else { None };
        // Kernels before 6.15 clone only what is attached.
        let place = root::host_root().at(step, "/")?;
        attach(tree.as_fd(), place.as_fd()).at(step, "attach")?;
        Ok(Some(Self { tree, null: own_null }))
    }

    fn clone(&self, folder: bool) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(match &self.null {
            _ if folder => rustix::mount::open_tree(&self.tree, EMPTY, flags)?,
            Some(null) => rustix::mount::open_tree(null, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?,
            None => rustix::mount::open_tree(&self.tree, NULL, flags)?,
        })
    }
}

/// The tmpfs itself, detached, with a null device in it where one can be made.
pub(crate) fn tree(null: bool) -> Step<OwnedFd> {
    let step = "masks";
    let options = TMPFS_MASK_OPTIONS.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let tree = mounts::filesystem("tmpfs", "tmpfs", &options)?;
    if null {
        let numbers = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(&tree, NULL, FileType::CharacterDevice, mounts::NODE_MODE, numbers).at(step, NULL)?;
    }
    rustix::fs::mkdirat(&tree, EMPTY, Mode::from_raw_mode(0o755)).at(step, EMPTY)?;
    let set = MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NOEXEC;
    set_attributes(&tree, &MountAttr { set, ..MountAttr::default() }, false).at(step, "attributes")?;
    Ok(tree)
}

/// The null device of the host, checked to be it; a descriptor of its place in the host's own /dev.
fn hosts_null(numbers: u64) -> Step<OwnedFd> {
    let path = "/dev/null";
    let null = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let null = null.at("masks", path)?;
    let stat = rustix::fs::fstat(&null).at("masks", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != numbers {
        return Err(errno(libc::ENODEV)).at("masks", path);
    }
    Ok(null)
}

/// Hides and protects. Paths that are not there need neither.
pub(super) fn apply(plan: &Plan, root: &OwnedFd, masks: Option<&Masks>) -> Step<()> {
    for path in &plan.readonly {
        if let Some(place) = existing(root, path).at("read-only path", path)? {
            protect(&place).at("read-only path", path)?;
        }
    }
    let Some(masks) = masks else { return Ok(()) };
    for path in &plan.masked {
        if let Some(place) = existing(root, path).at("masked path", path)? {
            let stat = rustix::fs::fstat(&place).at("masked path", path)?;
            let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let tree = masks.clone(folder).at("masked path", path)?;
            attach(tree.as_fd(), place.as_fd()).at("masked path", path)?;
        }
    }
    Ok(())
}

fn existing(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    match resolve::open(root, path, OFlags::PATH, false) {
        Ok(place) => Ok(Some(place)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn protect(place: &OwnedFd) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(place, "", flags | OpenTreeFlags::AT_RECURSIVE)?;
    set_attributes(&tree, &MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() }, true)?;
    attach(tree.as_fd(), place.as_fd())
}
