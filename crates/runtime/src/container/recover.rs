//! Finding a workload again by what its supervisor left in the run folder.
//!
//! ```text
//!   socket answers ──────────────► live
//!   ended.json ──────────────────► ended
//!   shim.json, supervisor dead ──► kill its cgroup (without one, its first process) ──► lost
//!   neither record ──────────────► never let go
//! ```

use std::io;
use std::path::Path;
use std::time::Duration;

use atoll_sys::cgroup::Cgroup;
use atoll_wall::message::Target;
use atoll_wall::record::{self, Ended, ProcessRecord, Shim};
use serde::de::DeserializeOwned;

use crate::{Error, Handle, Recovered};

/// Largest record that is read.
const RECORD_MAX: usize = 64 << 10;
/// How often a supervisor that is there but does not answer is asked again, and how long after.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);
const SIGKILL: i32 = 9;
/// How long a process that was killed may take to end.
const KILLING: Duration = Duration::from_secs(10);

pub(super) async fn recover(run: &Path) -> Result<Recovered, Error> {
    for _ in 0..TRIES {
        match Handle::connect(run).await {
            Ok((handle, state)) if !state.started.is_set() => {
                // The one who would have started it is gone.
                handle.abandon().await;
                return Ok(Recovered::NotStarted);
            }
            Ok((handle, state)) => return Ok(Recovered::Live(handle, state)),
            Err(Error::Gone) => {}
            Err(error) => return Err(error),
        }
        // In this order: the record of the end is there before the supervisor goes.
        let shim: Option<Shim> = read(&run.join(record::SHIM))?;
        let alive = shim.as_ref().map(alive).transpose()?.unwrap_or(false);
        if let Some(ended) = read::<Ended>(&run.join(record::ENDED))? {
            return Ok(Recovered::Ended(ended));
        }
        match shim {
            None => return Ok(Recovered::NotStarted),
            Some(shim) if !alive => {
                bury(&shim).await?;
                return Ok(Recovered::Lost { restarts: shim.restarts, asked: shim.asked });
            }
            // It is between its socket and its end.
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(Error::Silent { seconds: u64::from(TRIES) * u64::try_from(PAUSE.as_millis()).unwrap_or(0) / 1000 })
}

pub(super) async fn destroy(run: &Path) -> Result<(), Error> {
    if let Recovered::Live(handle, state) = recover(run).await? {
        let told = match handle.stay_down().await {
            // Nothing of it runs, and nothing will.
            Ok(()) if state.resting.is_some() => Ok(()),
            Ok(()) => handle.signal(Target::All, SIGKILL).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(()) | Err(Error::Gone) => {}
            Err(error) => return Err(error),
        }
        let _ = handle.exited().await;
    }
    Ok(())
}

/// A process of the workload with this run folder that is there now: its supervisor, else its first process.
///
/// # Errors
/// When a record cannot be read.
pub fn live_process(run: &Path) -> Result<Option<ProcessRecord>, Error> {
    let Some(shim) = of_this_boot(run)? else { return Ok(None) };
    Ok([shim.shim, shim.init].into_iter().find(|process| is(*process)))
}

/// The first process of the workload with this run folder, while it is there.
///
/// # Errors
/// When a record cannot be read.
pub fn first_process(run: &Path) -> Result<Option<ProcessRecord>, Error> {
    let Some(shim) = of_this_boot(run)? else { return Ok(None) };
    Ok(Some(shim.init).filter(|process| is(*process)))
}

/// The record of a supervisor, unless the host was started again since.
pub(crate) fn of_this_boot(run: &Path) -> Result<Option<Shim>, Error> {
    let Some(shim) = read::<Shim>(&run.join(record::SHIM))? else { return Ok(None) };
    let boot = atoll_sys::proc::boot_id().map_err(Error::io("reading the boot id"))?;
    Ok(Some(shim).filter(|shim| shim.boot == boot))
}

/// Whether the recorded supervisor is the process that has its number now.
fn alive(shim: &Shim) -> Result<bool, Error> {
    let boot = atoll_sys::proc::boot_id().map_err(Error::io("reading the boot id"))?;
    Ok(shim.boot == boot && is(shim.shim))
}

/// One that has ended and was not collected yet does not count.
fn is(process: ProcessRecord) -> bool {
    atoll_sys::proc::state_and_start(process.pid)
        .is_ok_and(|(state, start_time)| start_time == process.start_time && !matches!(state, 'Z' | 'X'))
}

/// Kills and removes what a dead supervisor's workload left. After a reboot there is nothing.
async fn bury(shim: &Shim) -> Result<(), Error> {
    let boot = atoll_sys::proc::boot_id().map_err(Error::io("reading the boot id"))?;
    if shim.boot != boot {
        return Ok(());
    }
    let cgroup: Cgroup = shim
        .cgroup
        .parse()
        .map_err(|error| Error::io("reading the recorded cgroup")(io::Error::other(format!("{error}"))))?;
    let init = shim.init;
    let buried = tokio::task::spawn_blocking(move || {
        if cgroup.is_none() {
            return kill(init);
        }
        cgroup.kill().and_then(|()| cgroup.remove()).map_err(io::Error::other)
    });
    match buried.await {
        Ok(result) => result.map_err(Error::io("ending what a dead supervisor left")),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Kills the first process of a workload without a control group; the rest of its pid namespace ends with it.
fn kill(init: ProcessRecord) -> io::Result<()> {
    let process = match atoll_sys::pidfd::open(init.pid) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(()),
        other => other?,
    };
    // What is open now is one process; it is the recorded one or a later one.
    if !is(init) {
        return Ok(());
    }
    atoll_sys::pidfd::kill(&process, SIGKILL)?;
    if atoll_sys::pidfd::poll(&process, Some(KILLING))? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("reading {}", path.display()))(error)),
    };
    if bytes.len() > RECORD_MAX {
        return Err(Error::Protocol("a record that is too long"));
    }
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::io(format!("reading {}", path.display()))(error.into()))?;
    Ok(Some(value))
}
