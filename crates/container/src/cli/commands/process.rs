//! `exec`, and what every process that is made hands to its caller.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use atoll_oci::runtime::{Capabilities, Process, Status};

use super::read_json;
use crate::cli::args::{Enter, Make};
use crate::cli::console::{self, Signals};
use crate::cli::state::{Folder, Record};
use crate::{Execution, Stdio, Target, exec};

pub(super) fn streams(process: &Process, make: &Make, foreground: bool) -> anyhow::Result<Stdio> {
    if !process.terminal {
        if make.console_socket.is_some() {
            bail!("--console-socket is for containers with process.terminal");
        }
        return Ok(Stdio::Inherit);
    }
    if !foreground && make.console_socket.is_none() {
        bail!("a detached container with a terminal needs --console-socket");
    }
    let size = process.console_size.unwrap_or_default();
    Ok(Stdio::Terminal { rows: size.height, cols: size.width })
}

/// Gives the caller what it asked for: the terminal's master and the file with the number.
pub(super) fn hand_over(make: &Make, pid: i32, master: Option<&OwnedFd>) -> anyhow::Result<()> {
    if let (Some(socket), Some(master)) = (&make.console_socket, master) {
        console::send_master(socket, master).with_context(|| format!("cannot reach {}", socket.display()))?;
    }
    if let Some(path) = &make.pid_file {
        let temporary = PathBuf::from(format!("{}.new", path.display()));
        // One that is there is of a creation that was killed, or a trap: nothing is written through it.
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).open(&temporary);
        file.and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

pub(super) fn exec_in(root: &Path, enter: &Enter) -> anyhow::Result<u8> {
    atoll_sys::exe::seal().context("cannot seal the program")?;
    let id = &enter.make.id;
    let (record, state) = {
        let folder = Folder::open(root, id)?;
        let record = folder.read()?;
        let state = record.state(&folder)?;
        match state.status {
            Status::Running | Status::Created => {}
            Status::Paused if enter.ignore_paused => {}
            Status::Paused => bail!("cannot exec in a paused container: resume {id:?}, or use --ignore-paused"),
            status => bail!("cannot exec in a {status} container: {id:?}"),
        }
        (record, state)
    };
    let process = process(&record, enter)?;
    let first = record.process().with_context(|| format!("container not running: {id:?} has ended"))?;
    let mut cgroup = record.cgroup()?;
    for below in enter.labels.cgroups.iter().filter(|below| !below.path.is_empty()) {
        cgroup = cgroup.below(&below.controllers, &below.path)?;
    }
    let stdio = streams(&process, &enter.make, !enter.make.detach)?;
    let target = Target { pidfd: first.as_fd(), cgroup: &cgroup, spec: &record.spec, state: Some(&state) };
    let signals = if enter.make.detach { None } else { Some(Signals::block().context("cannot wait for signals")?) };
    let preserve_fds = enter.make.preserve_fds;
    let user = if enter.process.is_some() { "" } else { enter.user.as_str() };
    let execed = exec(&target, Execution { process: &process, user, more_groups: &[], stdio, preserve_fds })?;
    hand_over(&enter.make, execed.pid, execed.master.as_ref())?;
    let Some(signals) = signals else { return Ok(0) };
    let master = execed.master.as_ref().filter(|_| enter.make.console_socket.is_none());
    Ok(console::wait(execed.pidfd.as_fd(), master, &signals).context("cannot wait for the process")?.status())
}

/// The process of a file, or the container's own with what the options change.
fn process(record: &Record, enter: &Enter) -> anyhow::Result<Process> {
    if let Some(path) = &enter.process {
        return read_json(path);
    }
    let mut process = record.spec.process.clone().unwrap_or_default();
    process.terminal = enter.tty;
    process.args.clone_from(&enter.args);
    process.env.extend(enter.env.iter().cloned());
    process.cwd = enter.cwd.clone().unwrap_or(process.cwd);
    process.no_new_privileges |= enter.no_new_privileges;
    process.user.additional_gids.extend(&enter.groups);
    if let Some(profile) = &enter.labels.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if let Some(label) = &enter.labels.selinux {
        process.selinux_label.clone_from(label);
    }
    if !enter.capabilities.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &enter.capabilities);
    }
    Ok(process)
}

/// Adds to what the process may do; ambient ones only where its user keeps inheritable ones.
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    let ambient = !sets.inheritable.is_empty();
    let mut into = vec![&mut sets.bounding, &mut sets.effective, &mut sets.permitted];
    if ambient {
        into.extend([&mut sets.inheritable, &mut sets.ambient]);
    }
    for set in into {
        for name in names {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
}
