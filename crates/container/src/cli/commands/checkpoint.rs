//! `checkpoint` and `restore`.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use atoll_oci::runtime::Status;

use super::life::{Bundle, Made, follow, in_folder, remove};
use crate::GroupPolicy;
use crate::checkpoint::{self, Images, Restoration, Restored};
use crate::cli::args::Checkpoint;
use crate::cli::state::Folder;

/// Folder of the images unless the caller names one, as with runc.
const IMAGES: &str = "checkpoint";

fn images(options: &Checkpoint, criu: &Path) -> anyhow::Result<Images> {
    let absolute = |path: &Path| std::path::absolute(path).context("cannot find the images' folder");
    Ok(Images {
        criu: criu.to_owned(),
        folder: absolute(options.images.as_deref().unwrap_or(Path::new(IMAGES)))?,
        work: options.work.as_deref().map(absolute).transpose()?,
        cgroups: options.cgroups,
        empty_network: options.empty_network,
        extras: options.extras,
    })
}

/// Makes a folder that is missing, for root alone: it will hold the container's memory.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

pub(super) fn checkpoint(root: &Path, options: &Checkpoint, criu: &Path) -> anyhow::Result<u8> {
    let id = &options.make.id;
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    match record.status(&folder)? {
        Status::Running => {}
        status => bail!("container not running: {id:?} is {status}"),
    }
    let process = record.process().with_context(|| format!("container not running: {id:?} has ended"))?;
    let images = images(options, criu)?;
    for folder in [Some(&images.folder), images.work.as_ref()].into_iter().flatten() {
        make_folder(folder)?;
    }
    checkpoint::dump(&images, &record.spec, process.as_fd(), &record.bundle, options.leave_running)?;
    if !options.leave_running {
        remove(folder, &record)?;
    }
    Ok(0)
}

pub(super) fn restore(root: &Path, options: &Checkpoint, groups: GroupPolicy, criu: &Path) -> anyhow::Result<u8> {
    let make = &options.make;
    if make.console_socket.is_some() || make.preserve_fds != 0 {
        bail!("--console-socket and --preserve-fds have no meaning without a terminal and new descriptors");
    }
    let mut bundle = Bundle::read(make)?;
    let rootfs = fs::canonicalize(&bundle.rootfs);
    bundle.rootfs = rootfs.with_context(|| format!("no root {}", bundle.rootfs.display()))?;
    let images = images(options, criu)?;
    let (folder, (record, restored)) = in_folder(root, make, |folder| {
        let Bundle { path, spec, rootfs } = &bundle;
        let what = Restoration { id: &make.id, spec, bundle: path, rootfs, scratch: &folder.path, groups };
        let restored = checkpoint::restore(&images, &what)?;
        Ok((made(&restored).keep(folder, make, &bundle)?, restored))
    })?;
    follow(folder, &record, make, &made(&restored), || Ok(()))
}

fn made(restored: &Restored) -> Made<'_> {
    Made { pid: restored.pid, pidfd: &restored.pidfd, cgroup: &restored.cgroup, master: None }
}
