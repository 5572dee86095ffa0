//! `kill`, `pause`, `resume` and `update`.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use atoll_oci::runtime::{Resources, Status};
use atoll_sys::pidfd;

use super::{CONFIG_MAX, read_json, signal};
use crate::cli::args::Update;
use crate::cli::state::Folder;
use crate::plan;

pub(super) fn kill(root: &Path, id: &str, signal: &str, all: bool) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    let signal = signal::number(signal)?;
    if all {
        let cgroup = record.cgroup()?;
        if signal == libc::SIGKILL {
            cgroup.kill()?;
        } else {
            let opened: Vec<_> =
                cgroup.pids()?.into_iter().filter_map(|pid| Some((pid, pidfd::open(pid).ok()?))).collect();
            // A number may have become somebody else's before it was opened: that one is not in the group now.
            let members = cgroup.pids()?;
            for (_, process) in opened.iter().filter(|(pid, _)| members.contains(pid)) {
                // One that has just ended needs no signal.
                let _ = pidfd::kill(process, signal);
            }
        }
        return Ok(0);
    }
    let process = record.process().with_context(|| format!("container not running: {id:?} has ended"))?;
    let created = record.status(&folder)? == Status::Created;
    // Before its program runs nobody is there to handle a signal, and the first process of a pid namespace ignores it.
    let signal = if created && signal::ends_a_process(signal) { libc::SIGKILL } else { signal };
    pidfd::kill(process, signal).context("cannot signal the container")?;
    let cgroup = record.cgroup()?;
    if signal == libc::SIGKILL && cgroup.is_frozen() {
        // Version 1 of control groups keeps frozen what is to be killed.
        cgroup.freeze(false)?;
    }
    Ok(0)
}

pub(super) fn freeze(root: &Path, id: &str, frozen: bool) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    match (frozen, record.status(&folder)?) {
        (true, Status::Running | Status::Created) | (false, Status::Paused) => {}
        (true, status) => bail!("container not running: {id:?} is {status}"),
        (false, status) => bail!("container not paused: {id:?} is {status}"),
    }
    record.cgroup()?.freeze(frozen)?;
    Ok(0)
}

/// Changes limits: what is given, the rest stays. The record follows, so that it tells what holds.
pub(super) fn update(root: &Path, update: &Update) -> anyhow::Result<u8> {
    let folder = Folder::open(root, &update.id)?;
    let mut record = folder.read()?;
    if record.status(&folder)? == Status::Stopped {
        bail!("container not running: {:?} has ended", update.id);
    }
    let wanted: Resources = match &update.file {
        None => update.resources.clone(),
        Some(path) if path.as_os_str() == "-" => {
            let mut text = Vec::new();
            std::io::stdin().take(CONFIG_MAX).read_to_end(&mut text).context("cannot read the limits")?;
            serde_json::from_slice(&text).context("cannot read the limits")?
        }
        Some(path) => read_json(path)?,
    };
    let mut limits = plan::limits(&wanted)?;
    let group = record.cgroup()?;
    let present = record.spec.linux.get_or_insert_default().resources.get_or_insert_default();
    if wanted.devices == present.devices {
        // To write the same rules again would deny everything for a moment.
        limits.devices.clear();
    }
    group.limit(&limits)?;
    present.merge(&wanted)?;
    folder.write(&record)?;
    Ok(0)
}
