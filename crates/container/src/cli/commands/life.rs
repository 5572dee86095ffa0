//! `run`, `create`, `start` and `delete`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use atoll_oci::runtime::{Spec, State, Status};
use atoll_sys::pidfd::{self, Exit};

use super::process::{hand_over, streams};
use super::read_json;
use crate::cli::args::Make;
use crate::cli::console::{self, Signals};
use crate::cli::state::{Folder, Record};
use crate::hooks::{self, Stage};
use crate::{Creation, GroupPolicy, RootSource, StartHandle, StartMode, create};

/// How long a killed process may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Creates a container in a folder of its own; the folder is removed when that fails.
fn make(
    root: &Path,
    make: &Make,
    groups: GroupPolicy,
    mode: &Mode,
) -> anyhow::Result<(Folder, Record, crate::Created)> {
    atoll_sys::exe::seal().context("cannot seal the program")?;
    let bundle = fs::canonicalize(&make.bundle).with_context(|| format!("no bundle {}", make.bundle.display()))?;
    let spec: Spec = read_json(&bundle.join("config.json"))?;
    let folder = Folder::create(root, &make.id)?;
    match make_in(&folder, make, groups, mode, &bundle, &spec) {
        Ok((record, created)) => Ok((folder, record, created)),
        Err(error) => {
            // Nothing else refers to the folder yet.
            let _ = folder.remove();
            Err(error)
        }
    }
}

/// Who starts what is made.
enum Mode {
    Foreground,
    Detached,
    Created,
}

fn make_in(
    folder: &Folder,
    make: &Make,
    groups: GroupPolicy,
    mode: &Mode,
    bundle: &Path,
    spec: &Spec,
) -> anyhow::Result<(Record, crate::Created)> {
    let process = spec.process.clone().unwrap_or_default();
    let stdio = streams(&process, make, matches!(mode, Mode::Foreground))?;
    let rootfs = bundle.join(spec.root.as_ref().map_or("rootfs", |root| root.path.as_str()));
    let start = match mode {
        Mode::Created => StartMode::Listener(atoll_sys::fd::listen_seqpacket(&folder.socket())?),
        Mode::Foreground | Mode::Detached => StartMode::Caller,
    };
    let created = create(Creation {
        id: &make.id,
        spec,
        bundle,
        root: RootSource::Path(rootfs.clone()),
        user: "",
        stdio,
        start,
        preserve_fds: make.preserve_fds,
        keyring: !make.no_keyring,
        pivot: !make.no_pivot,
        groups,
    })?;
    if created.cgroup.is_none() {
        crate::cli::warn("no control groups could be made: the container runs without limits and cannot be paused");
    }
    let finish = || -> anyhow::Result<Record> {
        let record = Record::new(&make.id, created.pid, &created.cgroup, bundle, &rootfs, spec.clone())?;
        folder.write(&record)?;
        hand_over(make, created.pid, created.master.as_ref())?;
        Ok(record)
    };
    match finish() {
        Ok(record) => Ok((record, created)),
        Err(error) => {
            let _ = created.cgroup.kill();
            let _ = pidfd::wait(&created.pidfd);
            let _ = created.cgroup.remove();
            Err(error)
        }
    }
}

pub(super) fn run(root: &Path, options: &Make, groups: GroupPolicy) -> anyhow::Result<u8> {
    let mode = if options.detach { Mode::Detached } else { Mode::Foreground };
    let (folder, record, mut created) = make(root, options, groups, &mode)?;
    let signals = if options.detach { None } else { Some(Signals::block().context("cannot wait for signals")?) };
    let start = created.start.take().context("the container has no start handle")?;
    let started = start.start().map_err(anyhow::Error::from).and_then(|()| poststart(&record, &folder));
    if let Err(error) = started {
        let _ = pidfd::kill(&created.pidfd, libc::SIGKILL);
        let _ = pidfd::wait(&created.pidfd);
        remove(folder, &record)?;
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    // Others may look at it and signal it meanwhile.
    let path = folder.path.clone();
    drop(folder);
    let master = created.master.as_ref().filter(|_| options.console_socket.is_none());
    let exit: Exit = console::wait(created.pidfd.as_fd(), master, &signals).context("cannot wait for the container")?;
    if !options.keep
        && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(folder) = Folder::open(parent, &name.to_string_lossy())
    {
        remove(folder, &record)?;
    }
    Ok(exit.status())
}

pub(super) fn create_only(root: &Path, options: &Make, groups: GroupPolicy) -> anyhow::Result<u8> {
    make(root, options, groups, &Mode::Created)?;
    Ok(0)
}

pub(super) fn start(root: &Path, id: &str) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    match record.status(&folder)? {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped: delete {id:?} and create it again"),
        Status::Paused => bail!("cannot start a container in the paused state: {id:?} runs already"),
        status => bail!("cannot start an already running container: {id:?} is {status}"),
    }
    let outcome = StartHandle::connect(&folder.socket()).and_then(StartHandle::start);
    // Started or failed: it is never started again.
    fs::remove_file(folder.socket()).context("cannot remove the start socket")?;
    outcome?;
    if let Err(error) = poststart(&record, &folder) {
        record.cgroup()?.kill()?;
        record.process().map_or(Ok(()), |process| end(&process, id))?;
        return Err(error);
    }
    Ok(0)
}

/// Hooks for when the program runs; one that fails ends the container (runtime.md, "Lifecycle").
pub(super) fn poststart(record: &Record, folder: &Folder) -> anyhow::Result<()> {
    match record.hooks() {
        Some(hooks) if !hooks.poststart.is_empty() => {
            let state = State { status: Status::Running, pid: record.pid, ..record.state(folder)? };
            Ok(hooks::run(Stage::Poststart, &hooks.poststart, &state, &record.bundle)?)
        }
        _ => Ok(()),
    }
}

pub(super) fn delete(root: &Path, id: &str, force: bool) -> anyhow::Result<u8> {
    let folder = match Folder::open(root, id) {
        Err(_) if force && !root.join(id).exists() => return Ok(0),
        other => other?,
    };
    let record = match folder.read() {
        // A creation that was killed before it wrote anything.
        Err(_) if force => {
            folder.remove()?;
            return Ok(0);
        }
        other => other?,
    };
    if let Some(process) = record.process() {
        let status = record.status(&folder)?;
        if !force && status != Status::Created {
            bail!("cannot delete container {id} that is not stopped: {status}: kill it first, or use --force");
        }
        record.cgroup()?.kill()?;
        end(&process, id)?;
    }
    remove(folder, &record)?;
    Ok(0)
}

/// Kills a container's first process, and with it its pid namespace, and waits until it is gone.
fn end(process: &OwnedFd, id: &str) -> anyhow::Result<()> {
    pidfd::kill(process, libc::SIGKILL).or_else(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(()),
        _ => Err(error),
    })?;
    if !pidfd::poll(process, Some(KILL_PATIENCE))? {
        bail!("container {id:?} does not end");
    }
    Ok(())
}

/// Removes what is left of a container that has ended, then runs its last hooks: whatever becomes of those, it is gone.
pub(super) fn remove(folder: Folder, record: &Record) -> anyhow::Result<()> {
    let state = State { status: Status::Stopped, pid: 0, ..record.state(&folder)? };
    let cgroup = record.cgroup()?;
    cgroup.kill()?;
    cgroup.remove()?;
    folder.remove()?;
    if let Some(hooks) = record.hooks() {
        let folder = if record.bundle.is_dir() { record.bundle.as_path() } else { Path::new("/") };
        for error in hooks::run_all(Stage::Poststop, &hooks.poststop, &state, folder) {
            crate::cli::warn(&error.to_string());
        }
    }
    Ok(())
}
