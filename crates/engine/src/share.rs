//! What a workload shares with others of this host: namespaces, a network, mounts.
//!
//! Names become ids when it is defined, so that a rename changes nothing. Whether the other runs, and lets itself be joined,
//! is looked at when the workload starts.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use atoll_model::{Draft, Ipc, Mount, MountSource, Network, Share, Workload};

use crate::entry::Entry;
use crate::runtime::{self, Join, Joined, ProcessRecord};
use crate::{Engine, Error};

impl Engine {
    /// Puts ids where a draft names other workloads, and the mounts of those whose it wants.
    ///
    /// # Errors
    /// When there is no such workload.
    pub(crate) fn resolve_others(&self, draft: &mut Draft) -> Result<(), Error> {
        let project = draft.host.project.clone();
        let project = project.as_deref();
        for name in draft.host.namespaces.named() {
            *name = self.other(name, project)?.id.to_string();
        }
        if let Network::Workload(name) = &mut draft.host.network {
            let other = self.other(name, project)?;
            *name = other.id.to_string();
            draft.host.hostname.clone_from(&other.workload().host.hostname);
        }
        let mut inherited: Vec<Mount> = Vec::new();
        for text in &draft.host.volumes_from {
            let (name, mode) = text.split_once(':').unwrap_or((text, ""));
            let read_only = mode.split(',').any(|word| word == "ro");
            for mount in inheritable(&self.other(name, project)?.workload(), read_only) {
                inherited.retain(|other| other.target != mount.target);
                inherited.push(mount);
            }
        }
        // What it asks for itself counts more.
        inherited.retain(|mount| !draft.mounts.iter().any(|own| own.target == mount.target));
        draft.mounts.extend(inherited);
        Ok(())
    }

    /// A workload that a draft names. Clients take "not found" at a creation for the image's and go and get that.
    /// A project does not meet those of others.
    fn other(&self, name: &str, project: Option<&str>) -> Result<Arc<Entry>, Error> {
        let met = |entry: &Arc<Entry>| project.is_none() || entry.workload().host.project.as_deref() == project;
        let found = match self.find(name) {
            Err(error) if project.is_none() => Err(error),
            other => other.ok().filter(met).ok_or_else(|| Error::no_workload(name)),
        };
        found.map_err(|error| Error::Invalid(error.to_string()))
    }

    /// The namespaces of others that a workload is made in, but for the network's.
    pub(crate) fn joins(&self, workload: &Workload) -> Result<Vec<Join>, Error> {
        let namespaces = &workload.host.namespaces;
        let mut joins = Vec::new();
        if let Share::Workload(id) = &namespaces.pid {
            joins.push(Join { kind: Joined::Pid, of: self.first_process_of(id, "PID")?.1 });
        }
        if let Ipc::Workload(id) = &namespaces.ipc {
            let (other, of) = self.first_process_of(id, "IPC")?;
            if other.workload().host.namespaces.ipc != Ipc::Shareable {
                return Err(Error::InUse(format!(
                    "cannot join IPC of container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                )));
            }
            joins.push(Join { kind: Joined::Ipc, of });
        }
        Ok(joins)
    }

    /// The network of another workload, where one is wanted.
    pub(crate) fn joined_network(&self, workload: &Workload) -> Result<Option<OwnedFd>, Error> {
        let Network::Workload(id) = &workload.host.network else { return Ok(None) };
        let (_, process) = self.first_process_of(id, "network")?;
        let namespace = atoll_sys::proc::namespace(process.pid, process.start_time, "net");
        Ok(Some(namespace.map_err(|_| not_running(id, "network"))?))
    }

    fn first_process_of(&self, id: &str, what: &str) -> Result<(Arc<Entry>, ProcessRecord), Error> {
        let other = self.find(id)?;
        let process = if other.phase().is_live() { runtime::first_process(&self.run_folder(&other.id))? } else { None };
        match process {
            Some(process) => Ok((other, process)),
            None => Err(not_running(id, what)),
        }
    }
}

fn not_running(id: &str, what: &str) -> Error {
    Error::InUse(format!("cannot join {what} of a non running container: {id}"))
}

/// The mounts that others may have too: memory is its own workload's alone.
fn inheritable(workload: &Workload, read_only: bool) -> Vec<Mount> {
    let shared = |mount: &&Mount| !matches!(mount.source, MountSource::Tmpfs { .. });
    let same = |mount: &Mount| {
        let source = match mount.source.clone() {
            MountSource::Volume { name, .. } => MountSource::Volume { name, copy: false },
            other => other,
        };
        Mount { source, target: mount.target.clone(), read_only: mount.read_only || read_only }
    };
    workload.mounts.iter().filter(shared).map(same).collect()
}
