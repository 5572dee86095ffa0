//! Taking over what an earlier daemon left: nothing stopped because it was killed, so the records are held against what
//! is there.
//!
//! ```text
//!   record, supervisor answers          → adopted: its phase is what the supervisor says
//!   record, exit record                 → ended while nobody looked
//!   record, supervisor dead without one → its cgroup is killed, the exit is unknown (137)
//!   record, no run folder               → as the record says: never run, or ended
//!   … and the host has come up since    → started, where its restart policy has it so
//!   no record, something on the disk    → a removal that was not finished, or a definition that was not: deleted
//! ```

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use atoll_model::{Exit, Phase, Workload};

use crate::db::LastRun;
use crate::engine::RUN_FOLDERS;
use crate::entry::Entry;
use crate::runtime::{self, Driver, Handle, ProcessRecord, Recovered, State};
use crate::{Engine, Error, host};

/// Which boot of the host the run folder is of.
pub(crate) const BOOT: &str = "boot";

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
        let rebooted = self.note_boot()?;
        let mut starting = Vec::new();
        self.complete_volumes();
        for (workload, last) in known {
            let entry = self.recover_workload(workload, last, &roots).await?;
            self.keep_forwarding(&entry);
            if rebooted && is_to_start(&entry) {
                starting.push(entry);
            }
        }
        self.start_all(starting);
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
    ) -> Result<Arc<Entry>, Error> {
        let auto_remove = workload.life.auto_remove;
        let run = self.run_folder(&workload.id);
        let ran = run.exists();
        let entry = Arc::new(Entry::new(workload, phase_of(last)));
        self.register(&entry)?;
        if let Some(LastRun { restarts, asked, .. }) = last {
            entry.standing.send_modify(|standing| (standing.restarts, standing.asked) = (restarts, asked));
        }
        if !ran {
            if auto_remove && !roots.contains(entry.id.as_str()) {
                self.remove_held(&entry, true).await?;
            }
            if let (Some(last), Phase::Exited { started, exit }) = (last, entry.phase())
                && last.exit.is_none()
            {
                self.note_end(&entry, LastRun { exit: Some(exit), ..LastRun::going_on(started) }).await;
            }
            return Ok(entry);
        }
        match self.shared.driver.recover(&run).await? {
            Recovered::Live(handle, state) => self.adopt(&entry, handle, state).await,
            Recovered::Ended(ended) => {
                entry.standing.send_modify(|standing| {
                    standing.phase = Phase::Running { pid: 0, started: ended.started };
                    (standing.restarts, standing.asked) = (ended.restarts, ended.asked);
                });
                self.ended_unseen(&entry, ended.exit, ended.resting).await;
            }
            Recovered::Lost { restarts, asked } => {
                entry.standing.send_modify(|standing| {
                    (standing.restarts, standing.asked) = (restarts, asked);
                    standing.phase =
                        Phase::Running { pid: 0, started: last.map_or_else(host::now, |last| last.started) };
                });
                let exit = Exit::unknown(host::now());
                self.ended_unseen(&entry, exit, self.wants_again(&entry, exit)).await;
            }
            // It was being made ready when the daemon was killed: as if nobody had asked.
            Recovered::NotStarted => self.clear_run_folder(&entry.id),
        }
        Ok(entry)
    }

    /// The end of a run, and what follows from it where no supervisor is left to see to that.
    async fn ended_unseen(&self, entry: &Arc<Entry>, exit: Exit, again: bool) {
        self.ended(entry, exit).await;
        let (restarts, asked) = {
            let standing = entry.standing.borrow();
            (standing.restarts, standing.asked)
        };
        if again && !asked {
            self.start_again(entry, restarts.saturating_add(1));
        }
    }

    /// Whether the host has come up since the last engine on this run folder.
    fn note_boot(&self) -> Result<bool, Error> {
        let boot = atoll_sys::proc::boot_id().map_err(Error::host("reading the boot id"))?;
        let file = self.shared.settings.run.join(BOOT);
        let same = std::fs::read_to_string(&file).is_ok_and(|noted| noted == boot);
        if !same {
            host::write_file(&file, boot.as_bytes())?;
        }
        Ok(!same)
    }

    async fn adopt(&self, entry: &Arc<Entry>, handle: Handle, state: State) {
        if !state.started.is_set() {
            // Made ready, never let go: the daemon that wanted it is gone, and its caller with it.
            handle.abandon().await;
            self.clear_run_folder(&entry.id);
            return;
        }
        let State { pid, started, .. } = state;
        let phase = match (state.resting, state.paused) {
            (Some(exit), _) => Phase::Restarting { started, exit },
            (None, true) => Phase::Paused { pid, started },
            (None, false) => Phase::Running { pid, started },
        };
        tracing::info!(id = %entry.id.short(), pid, "adopted");
        entry.standing.send_modify(|standing| {
            standing.phase = phase;
            standing.last = state.resting.or(standing.last);
            (standing.restarts, standing.asked) = (state.restarts, state.asked);
            standing.health = state.health;
        });
        self.align_policy(entry, &handle, state.restart).await;
        entry.set_handle(Some(handle.clone()));
        self.adopt_endpoint(&entry.id);
        self.adopt_execs(entry, state.execs);
        self.settle_limits(entry, &handle).await;
        self.thaw_committed(entry).await;
        let engine = self.clone();
        let entry = Arc::clone(entry);
        tokio::spawn(async move { engine.supervise(&entry, &handle).await });
    }

    /// The end of a workload whose supervisor is gone without a word, and what follows from that.
    pub(crate) async fn bury(&self, entry: &Arc<Entry>) {
        let (exit, again) = match self.shared.driver.recover(&self.run_folder(&entry.id)).await {
            Ok(Recovered::Ended(ended)) => (ended.exit, ended.resting),
            Ok(_) => {
                let exit = Exit::unknown(host::now());
                (exit, self.wants_again(entry, exit))
            }
            Err(error) => {
                tracing::error!(%error, id = %entry.id.short(), "clearing up after a lost supervisor");
                (Exit::unknown(host::now()), false)
            }
        };
        self.ended_unseen(entry, exit, again).await;
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

    /// A volume whose making was cut short has a record and no folder yet.
    fn complete_volumes(&self) {
        for view in self.volumes().into_iter().filter(|view| !view.mountpoint.is_dir()) {
            let name = &view.volume.name;
            match host::make_folder(&view.mountpoint) {
                Ok(()) => tracing::warn!(name, "a volume had no folder: it is empty now"),
                Err(error) => tracing::warn!(%error, name, "a volume has no folder"),
            }
        }
    }

    fn delete_orphan_volumes(&self) -> Result<(), Error> {
        let names = names_in(&self.shared.settings.root.join("volumes"))?;
        let orphans: Vec<_> = names.into_iter().filter(|name| !self.has_volume(name)).collect();
        self.forget_volumes(&orphans)
    }
}

/// Whether a workload that does not run is to run because its host has come up.
fn is_to_start(entry: &Entry) -> bool {
    let standing = entry.standing.borrow();
    let Phase::Exited { exit, .. } = standing.phase else { return false };
    !standing.removed && entry.workload().life.restart.at_boot(exit.code, standing.restarts, standing.asked)
}

fn phase_of(last: Option<LastRun>) -> Phase {
    match last {
        None => Phase::CREATED,
        Some(LastRun { started, exit: Some(exit), .. }) => Phase::Exited { started, exit },
        // It was let go, and went with its host.
        Some(LastRun { started, failure: None, .. }) => Phase::Exited { started, exit: Exit::unknown(host::now()) },
        Some(LastRun { failure, .. }) => Phase::Created { failure },
    }
}

pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
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
