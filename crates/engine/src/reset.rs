//! A reset: what a root has on this host is ended and taken away, whatever state it is in.
//!
//! ```text
//!   workloads (each in its grace) → control groups → networks → run folder → state, the metadata last
//! ```
//!
//! No engine is open then: what runs is found by its run folder, what is elsewhere by the note of [`crate::traces`]; the metadata
//! tells only how long a workload may take to stop. Each step does nothing where it has been done, so that a reset that was
//! killed is finished by the next. Files that are not ours stay, and are named.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::{LifeCycle, signal_number};
use atoll_store::failpoint;

use crate::db::{self, Db};
use crate::engine::RUN_FOLDERS;
use crate::recover::{BOOT, names_in};
use crate::runtime::{self, ContainerDriver, Driver, Handle, ProcessRecord, Recovered, State, Target};
use crate::traces::{TRACES, Traces};
use crate::{Error, Settings, host};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// How long a process that was killed may take to end.
const KILLING: Duration = Duration::from_secs(10);
/// What is below a root, in the order in which it goes.
const STATE: [&str; 4] = ["cache", "workloads", "volumes", "store"];

/// How far a reset goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing runs any more and nothing is on the host but for the state, from which everything can be started again.
    Run,
    /// Nothing is left.
    State,
}

/// How a workload is asked to end: a signal, and how long it has (none: for ever).
type Grace = (i32, Option<Duration>);

/// Ends and takes away what a root has on this host. No engine may be open on it. What is returned are files below the root
/// that are not ours.
///
/// # Errors
/// Something cannot be ended or removed; what remains is the next reset's.
pub async fn reset(settings: &Settings, depth: Depth) -> Result<Vec<PathBuf>, Error> {
    refuse_mounts(&settings.root)?;
    end_workloads(settings).await?;
    failpoint::hit("reset.after-workloads");
    let settings = settings.clone();
    host::blocking(move || {
        if let Some(traces) = Traces::read(&settings.run)? {
            traces.remove_cgroups()?;
            traces.remove_networks()?;
        }
        failpoint::hit("reset.after-networks");
        for name in [RUN_FOLDERS, BOOT, TRACES] {
            remove(&settings.run.join(name))?;
        }
        failpoint::hit("reset.after-run");
        if depth == Depth::Run { Ok(Vec::new()) } else { remove_state(&settings.root) }
    })
    .await
}

/// Files of another file system below the root would be lost with it.
fn refuse_mounts(root: &Path) -> Result<(), Error> {
    let text =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::host("reading the mounts of this host"))?;
    // The fifth field, with blanks and the like as octal numbers, which our names do not have.
    let below = |line: &&str| {
        line.split(' ').nth(4).is_some_and(|point| Path::new(point) != root && Path::new(point).starts_with(root))
    };
    match text.lines().find(below).and_then(|line| line.split(' ').nth(4)) {
        Some(point) => Err(Error::InUse(format!("{point} is mounted below {}: unmount it first", root.display()))),
        None => Ok(()),
    }
}

async fn end_workloads(settings: &Settings) -> Result<(), Error> {
    let folder = settings.run.join(RUN_FOLDERS);
    let names = names_in(&folder)?;
    if names.is_empty() {
        return Ok(());
    }
    let graces = graces(&settings.root);
    let mut ending = tokio::task::JoinSet::new();
    for name in names {
        let driver = ContainerDriver::new(settings.shim.clone(), String::new(), Vec::new());
        let grace = graces.get(&name).copied().unwrap_or_else(default_grace);
        ending.spawn(end(driver, folder.join(name), grace));
    }
    let mut result = Ok(());
    while let Some(ended) = ending.join_next().await {
        match ended {
            Ok(ended) => result = result.and(ended),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    result
}

/// How each workload is to be stopped, as far as the metadata can be read.
fn graces(root: &Path) -> HashMap<String, Grace> {
    if !root.join(db::FILE).exists() {
        return HashMap::new();
    }
    let known = Db::open(root).and_then(|db| db.workloads()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the metadata cannot be read: every container has the usual time to stop");
        Vec::new()
    });
    let grace = |life: &LifeCycle| {
        let seconds = life.stop_timeout_s.unwrap_or(LifeCycle::STOP_TIMEOUT_S);
        (signal_number(&life.stop_signal).unwrap_or(SIGTERM), u64::try_from(seconds).ok().map(Duration::from_secs))
    };
    known.iter().map(|(workload, _)| (workload.id.to_string(), grace(&workload.life))).collect()
}

fn default_grace() -> Grace {
    (SIGTERM, u64::try_from(LifeCycle::STOP_TIMEOUT_S).ok().map(Duration::from_secs))
}

/// Ends the workload of a run folder.
async fn end(driver: ContainerDriver, run: PathBuf, grace: Grace) -> Result<(), Error> {
    let asked = async {
        if let Recovered::Live(handle, state) = driver.recover(&run).await? {
            ask(&handle, &state, grace).await;
        }
        driver.destroy(&run).await
    };
    if let Err(error) = asked.await {
        tracing::warn!(%error, run = %run.display(), "a supervisor does not do as it is told: it is killed");
    }
    host::blocking(move || {
        while let Some(process) = runtime::live_process(&run)? {
            kill(process).map_err(Error::host("killing a supervisor"))?;
        }
        Ok(())
    })
    .await
}

/// Asks a workload to end, and waits for it; whatever does not work is the killing's.
async fn ask(handle: &Handle, state: &State, (signal, patience): Grace) {
    drop(handle.stay_down().await);
    if state.resting.is_some() {
        return;
    }
    drop(handle.signal(Target::Init, signal).await);
    if state.paused {
        drop(handle.resume().await);
    }
    match patience {
        Some(patience) => drop(tokio::time::timeout(patience, handle.exited()).await),
        None => drop(handle.exited().await),
    }
}

fn kill(process: ProcessRecord) -> std::io::Result<()> {
    let open = match atoll_sys::pidfd::open(process.pid) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(()),
        other => other?,
    };
    // What is open now is one process: the recorded one, or a later one, which is left alone.
    if !atoll_sys::proc::start_time(process.pid).is_ok_and(|start| start == process.start_time) {
        return Ok(());
    }
    atoll_sys::pidfd::kill(&open, SIGKILL)?;
    if atoll_sys::pidfd::poll(&open, Some(KILLING))? { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
}

/// Removes what is ours below the root, then the root if that was all; what was not ours.
fn remove_state(root: &Path) -> Result<Vec<PathBuf>, Error> {
    for name in STATE {
        remove(&root.join(name))?;
    }
    failpoint::hit("reset.before-metadata");
    for name in names_in(root)?.into_iter().filter(|name| db::is_ours(name)) {
        remove(&root.join(name))?;
    }
    match std::fs::remove_dir(root) {
        // The folder may be a mount point, which stays.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {
        }
        other => other.map_err(Error::host(format!("removing {}", root.display())))?,
    }
    Ok(names_in(root)?.into_iter().map(|name| root.join(name)).collect())
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::host(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
