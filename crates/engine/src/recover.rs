//! Taking over what an earlier daemon left: nothing stopped because it was killed, so the records are held against what
//! is there.
//!
//! ```text
//!   record, supervisor answers          → adopted: its phase is what the supervisor says
//!   record, exit record                 → ended while nobody looked
//!   record, supervisor dead without one → its cgroup is killed, the exit is unknown (137)
//!   record, no run folder               → as the record says: never run, or ended
//!   no record, something on the disk    → a removal that was not finished, or a definition that was not: deleted
//! ```

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use atoll_model::{Exit, Phase, Transition, Workload};

use crate::db::LastRun;
use crate::engine::RUN_FOLDERS;
use crate::entry::Entry;
use crate::runtime::{self, Driver, Handle, ProcessRecord, Recovered, State};
use crate::{Engine, Error, host};

/// One process of each workload that runs, though the engine that started it may be gone. Whoever is to open an engine on this
/// run folder learns from them where the workloads are.
///
/// # Errors
/// When the folder or a record in it cannot be read.
pub fn live_processes(run: &Path) -> Result<Vec<ProcessRecord>, Error> {
    let folder = run.join(RUN_FOLDERS);
    let mut live = Vec::new();
    for name in names_in(&folder)? {
        live.extend(runtime::live_process(&folder.join(name))?);
    }
    Ok(live)
}

impl Engine {
    /// Makes memory, disk and processes agree.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let known = self.shared.db.workloads()?;
        let roots: HashSet<String> = self.shared.store.roots()?.into_iter().collect();
        let ids: HashSet<String> = known.iter().map(|(workload, _)| workload.id.to_string()).collect();
        for (workload, last) in known {
            self.recover_workload(workload, last, &roots).await?;
        }
        self.delete_orphans(&ids, &roots).await?;
        self.delete_orphan_volumes()?;
        let engine = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.sweep() {
                tracing::warn!(%error, "sweeping the store");
            }
        });
        Ok(())
    }

    async fn recover_workload(
        &self,
        workload: Workload,
        last: Option<LastRun>,
        roots: &HashSet<String>,
    ) -> Result<(), Error> {
        let auto_remove = workload.life.auto_remove;
        let run = self.run_folder(&workload.id);
        let ran = run.exists();
        let entry = Arc::new(Entry::new(workload, phase_of(last)));
        self.register(&entry)?;
        if !ran {
            if auto_remove && !roots.contains(entry.id.as_str()) {
                self.remove_held(&entry, true).await?;
            }
            return Ok(());
        }
        match self.shared.driver.recover(&run).await? {
            Recovered::Live(handle, state) => self.adopt(&entry, handle, state).await,
            Recovered::Ended(ended) => {
                entry.advance(&Transition::Start)?;
                entry.advance(&Transition::Started { pid: 0, at: ended.started })?;
                self.ended(&entry, ended.exit).await;
            }
            Recovered::Lost => {
                entry.advance(&Transition::Start)?;
                self.ended(&entry, Exit::unknown(host::now())).await;
            }
            // It was being made ready when the daemon was killed: as if nobody had asked.
            Recovered::NotStarted => self.clear_run_folder(&entry.id),
        }
        Ok(())
    }

    async fn adopt(&self, entry: &Arc<Entry>, handle: Handle, state: State) {
        if !state.started.is_set() {
            // Made ready, never let go: the daemon that wanted it is gone, and its caller with it.
            handle.abandon().await;
            self.clear_run_folder(&entry.id);
            return;
        }
        let phase = if state.paused {
            Phase::Paused { pid: state.pid, started: state.started }
        } else {
            Phase::Running { pid: state.pid, started: state.started }
        };
        tracing::info!(id = %entry.id.short(), pid = state.pid, "adopted");
        entry.standing.send_modify(|standing| standing.phase = phase);
        entry.set_handle(Some(handle.clone()));
        self.adopt_endpoint(&entry.id);
        self.adopt_execs(entry, state.execs);
        self.settle_limits(entry, &handle).await;
        let engine = self.clone();
        let entry = Arc::clone(entry);
        tokio::spawn(async move { engine.supervise(&entry, &handle).await });
    }

    /// The end of a workload whose supervisor is gone without a word.
    pub(crate) async fn bury(&self, entry: &Arc<Entry>) -> Exit {
        match self.shared.driver.recover(&self.run_folder(&entry.id)).await {
            Ok(Recovered::Ended(ended)) => ended.exit,
            Ok(_) => Exit::unknown(host::now()),
            Err(error) => {
                tracing::error!(%error, id = %entry.id.short(), "clearing up after a lost supervisor");
                Exit::unknown(host::now())
            }
        }
    }

    /// Deletes what belongs to no record: roots, folders and supervisors.
    async fn delete_orphans(&self, known: &HashSet<String>, roots: &HashSet<String>) -> Result<(), Error> {
        let settings = &self.shared.settings;
        let mut orphans: HashSet<String> = roots.difference(known).cloned().collect();
        for folder in [settings.root.join("workloads"), settings.run.join(RUN_FOLDERS)] {
            orphans.extend(names_in(&folder)?.into_iter().filter(|name| !known.contains(name)));
        }
        for id in orphans {
            let run = settings.run.join(RUN_FOLDERS).join(&id);
            if run.exists() {
                self.shared.driver.destroy(&run).await?;
            }
            tracing::info!(id, "deleting what a removal left behind");
            let engine = self.clone();
            host::blocking(move || engine.delete_files(&id)).await;
        }
        Ok(())
    }

    fn delete_orphan_volumes(&self) -> Result<(), Error> {
        let names = names_in(&self.shared.settings.root.join("volumes"))?;
        let orphans: Vec<_> = names.into_iter().filter(|name| !self.has_volume(name)).collect();
        self.forget_volumes(&orphans)
    }
}

fn phase_of(last: Option<LastRun>) -> Phase {
    match last {
        None => Phase::CREATED,
        Some(LastRun { started, exit: Some(exit), .. }) => Phase::Exited { started, exit },
        Some(LastRun { failure, .. }) => Phase::Created { failure },
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::host(format!("reading {}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed())?.file_name().into_string().ok());
    }
    Ok(names)
}
