//! `checkpoint` and `restore`.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use atoll_oci::runtime::{Spec, State, Status};

use super::life::{poststart, remove};
use super::process::hand_over;
use super::read_json;
use crate::checkpoint::{self, Images, Restoration};
use crate::cli::args::Checkpoint;
use crate::cli::console::{self, Signals};
use crate::cli::state::{Folder, Record};
use crate::hooks::{self, Stage};

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

pub(super) fn restore(root: &Path, options: &Checkpoint, criu: &Path) -> anyhow::Result<u8> {
    let make = &options.make;
    let bundle = fs::canonicalize(&make.bundle).with_context(|| format!("no bundle {}", make.bundle.display()))?;
    let spec: Spec = read_json(&bundle.join("config.json"))?;
    if make.console_socket.is_some() || make.preserve_fds != 0 {
        bail!("--console-socket and --preserve-fds have no meaning without a terminal and new descriptors");
    }
    let rootfs = bundle.join(spec.root.as_ref().map_or("rootfs", |root| root.path.as_str()));
    let rootfs = fs::canonicalize(&rootfs).with_context(|| format!("no root {}", rootfs.display()))?;
    let images = images(options, criu)?;
    let folder = Folder::create(root, &make.id)?;
    let restored = restore_in(&folder, options, &images, &spec, &bundle, &rootfs);
    let (record, pidfd) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            // Nothing else refers to the folder yet.
            let _ = folder.remove();
            return Err(error);
        }
    };
    if let Err(error) = poststart(&record, &folder).and_then(|()| hand_over(make, record.pid, None)) {
        record.cgroup()?.kill()?;
        let _ = atoll_sys::pidfd::wait(&pidfd);
        remove(folder, &record)?;
        return Err(error);
    }
    if make.detach {
        return Ok(0);
    }
    let signals = Signals::block().context("cannot wait for signals")?;
    let path: PathBuf = folder.path.clone();
    drop(folder);
    let exit = console::wait(pidfd.as_fd(), None, &signals).context("cannot wait for the container")?;
    if path.is_dir()
        && let Ok(folder) = Folder::open(root, &make.id)
    {
        remove(folder, &record)?;
    }
    Ok(exit.status())
}

fn restore_in(
    folder: &Folder,
    options: &Checkpoint,
    images: &Images,
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
) -> anyhow::Result<(Record, std::os::fd::OwnedFd)> {
    let id = &options.make.id;
    let what = Restoration { id, spec, bundle, rootfs, scratch: &folder.path };
    let hooks = spec.hooks.clone().unwrap_or_default();
    let begun = |pid: i32| {
        let state = State {
            oci_version: atoll_oci::runtime::OCI_VERSION.to_owned(),
            id: id.clone(),
            status: Status::Creating,
            pid,
            bundle: bundle.to_string_lossy().into_owned(),
            annotations: spec.annotations.clone(),
        };
        hooks::run(Stage::Prestart, &hooks.prestart, &state, bundle)
            .and_then(|()| hooks::run(Stage::CreateRuntime, &hooks.create_runtime, &state, bundle))
            .map_err(|error| error.to_string())
    };
    let restored = checkpoint::restore(images, &what, begun)?;
    let record = Record::new(id, restored.pid, &restored.cgroup, bundle, rootfs, spec.clone());
    let written = record.and_then(|record| folder.write(&record).map(|()| record));
    match written {
        Ok(record) => Ok((record, restored.pidfd)),
        Err(error) => {
            let _ = restored.cgroup.kill();
            let _ = atoll_sys::pidfd::wait(&restored.pidfd);
            let _ = restored.cgroup.remove();
            Err(error)
        }
    }
}
