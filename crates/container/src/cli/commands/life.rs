//! `run`, `create`, `start` and `delete`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use atoll_oci::runtime::{Spec, State, Status};
use atoll_sys::cgroup::Cgroup;
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

/// What a call names: the folder, the configuration in it, and the root that this names.
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) spec: Spec,
    pub(super) rootfs: PathBuf,
}

impl Bundle {
    pub(super) fn read(make: &Make) -> anyhow::Result<Self> {
        let path = fs::canonicalize(&make.bundle).with_context(|| format!("no bundle {}", make.bundle.display()))?;
        let spec: Spec = read_json(&path.join("config.json"))?;
        let rootfs = path.join(spec.root.as_ref().map_or("rootfs", |root| root.path.as_str()));
        Ok(Self { path, spec, rootfs })
    }
}

/// Makes a container in a folder of its own; the folder is removed when that fails.
pub(super) fn in_folder<T>(
    root: &Path,
    make: &Make,
    in_it: impl FnOnce(&Folder) -> anyhow::Result<T>,
) -> anyhow::Result<(Folder, T)> {
    let folder = Folder::create(root, &make.id)?;
    match in_it(&folder) {
        Ok(made) => Ok((folder, made)),
        Err(error) => {
            // Nothing else refers to the folder yet.
            let _ = folder.remove();
            Err(error)
        }
    }
}

/// A first process that was made, its groups and its terminal.
pub(super) struct Made<'a> {
    pub(super) pid: i32,
    pub(super) pidfd: &'a OwnedFd,
    pub(super) cgroup: &'a Cgroup,
    pub(super) master: Option<&'a OwnedFd>,
}

impl<'a> Made<'a> {
    fn created(created: &'a crate::Created) -> Self {
        let crate::Created { pid, pidfd, cgroup, master, .. } = created;
        Self { pid: *pid, pidfd, cgroup, master: master.as_ref() }
    }

    /// Writes the record and hands over what the caller asked for; when that fails, the container goes again.
    pub(super) fn keep(&self, folder: &Folder, make: &Make, bundle: &Bundle) -> anyhow::Result<Record> {
        let kept = || -> anyhow::Result<Record> {
            let Bundle { path, spec, rootfs } = bundle;
            let record = Record::new(&make.id, self.pid, self.cgroup, path, rootfs, spec.clone())?;
            folder.write(&record)?;
            hand_over(make, self.pid, self.master)?;
            Ok(record)
        };
        kept().inspect_err(|_| {
            self.end();
            let _ = self.cgroup.remove();
        })
    }

    /// Kills it, and waits for its end.
    fn end(&self) {
        let _ = self.cgroup.kill();
        let _ = pidfd::kill(self.pidfd, libc::SIGKILL);
        let _ = pidfd::wait(self.pidfd);
    }
}

/// Who starts what is made.
enum Mode {
    Foreground,
    Detached,
    Created,
}

fn make(
    root: &Path,
    make: &Make,
    groups: GroupPolicy,
    mode: &Mode,
) -> anyhow::Result<(Folder, (Record, crate::Created))> {
    atoll_sys::exe::seal().context("cannot seal the program")?;
    let bundle = Bundle::read(make)?;
    in_folder(root, make, |folder| make_in(folder, make, groups, mode, &bundle))
}

fn make_in(
    folder: &Folder,
    make: &Make,
    groups: GroupPolicy,
    mode: &Mode,
    bundle: &Bundle,
) -> anyhow::Result<(Record, crate::Created)> {
    let process = bundle.spec.process.clone().unwrap_or_default();
    let stdio = streams(&process, make, matches!(mode, Mode::Foreground))?;
    let start = match mode {
        Mode::Created => StartMode::Listener(atoll_sys::fd::listen_seqpacket(&folder.socket())?),
        Mode::Foreground | Mode::Detached => StartMode::Caller,
    };
    let created = create(Creation {
        id: &make.id,
        spec: &bundle.spec,
        bundle: &bundle.path,
        root: RootSource::Path(bundle.rootfs.clone()),
        user: "",
        more_groups: &[],
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
    let record = Made::created(&created).keep(folder, make, bundle)?;
    Ok((record, created))
}

pub(super) fn run(root: &Path, options: &Make, groups: GroupPolicy) -> anyhow::Result<u8> {
    let mode = if options.detach { Mode::Detached } else { Mode::Foreground };
    let (folder, (record, mut created)) = make(root, options, groups, &mode)?;
    let start = created.start.take().context("the container has no start handle")?;
    follow(folder, &record, options, &Made::created(&created), || Ok(start.start()?))
}

/// Starts a container that was made and runs its hooks; in the foreground it is waited for, and removed at its end.
pub(super) fn follow(
    folder: Folder,
    record: &Record,
    make: &Make,
    made: &Made<'_>,
    start: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let started = || -> anyhow::Result<Option<Signals>> {
        let signals = if make.detach { None } else { Some(Signals::block().context("cannot wait for signals")?) };
        start()?;
        poststart(record, &folder)?;
        Ok(signals)
    };
    let signals = match started() {
        Ok(Some(signals)) => signals,
        Ok(None) => return Ok(0),
        Err(error) => {
            made.end();
            remove(folder, record)?;
            return Err(error);
        }
    };
    // Others may look at it and signal it meanwhile.
    let path = folder.path.clone();
    drop(folder);
    let master = made.master.filter(|_| make.console_socket.is_none());
    let exit: Exit = console::wait(made.pidfd.as_fd(), master, &signals).context("cannot wait for the container")?;
    if !make.keep
        && let Some(root) = path.parent()
        && let Ok(folder) = Folder::open(root, &record.id)
    {
        remove(folder, record)?;
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
fn poststart(record: &Record, folder: &Folder) -> anyhow::Result<()> {
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
