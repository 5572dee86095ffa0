//! Taking workloads away.
//!
//! The durable record goes first, in one transaction with those of anonymous volumes; everything else that belonged to
//! the workload is then nobody's, and a daemon that was killed in between leaves it to its successor's clean-up.

use std::sync::Arc;

use atoll_model::{MountSource, Transition};
use atoll_store::failpoint;

use crate::db::{Change, When};
use crate::entry::Entry;
use crate::{Engine, Error, host};

impl Engine {
    /// Takes a workload away, `force`: also one that runs; `volumes`: with its anonymous volumes.
    ///
    /// # Errors
    /// When it runs and is not to be forced.
    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<(), Error> {
        let entry = self.find(name)?;
        // At first without waiting for whatever else changes it: a stop may be waiting for the end.
        let run = entry.standing.borrow().exits;
        let sent = force && self.kill_if_up(&entry).await?;
        let _operation = entry.operation.lock().await;
        if force && entry.phase().is_up() {
            let same = entry.standing.borrow().exits == run;
            if !(sent && same) {
                // It was started, or started anew, while this call waited.
                self.kill_if_up(&entry).await?;
            }
            self.killed(&entry).await?;
        }
        if entry.standing.borrow().removed {
            // It removed itself while this call waited: what was wanted.
            return if force { Ok(()) } else { Err(Error::no_workload(name)) };
        }
        self.remove_held(&entry, volumes).await
    }

    /// Sends SIGKILL to a workload that runs, unless it is ending by itself; whether it was sent.
    async fn kill_if_up(&self, entry: &Arc<Entry>) -> Result<bool, Error> {
        match entry.handle() {
            Some(handle) if entry.phase().is_up() => {
                self.send_kill(entry, &handle).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(crate) async fn remove_held(&self, entry: &Arc<Entry>, volumes: bool) -> Result<(), Error> {
        if entry.standing.borrow().removed {
            return Ok(());
        }
        self.await_forwarding(entry).await;
        let before = entry.phase();
        entry.advance(&Transition::Remove)?;
        let engine = self.clone();
        let there = Arc::clone(entry);
        let result = host::blocking(move || engine.remove_durably(&there, volumes)).await;
        if let Err(error) = result {
            entry.standing.send_modify(|standing| standing.phase = before);
            return Err(error);
        }
        self.shared.room.used(&entry.workload().image.id);
        self.unregister(entry);
        drop(entry.take_waiting());
        self.say(entry, "destroy", &[]);
        entry.standing.send_modify(|standing| standing.removed = true);
        let engine = self.clone();
        let id = entry.id.clone();
        // Nobody waits for the deletion of files that belong to nothing any more.
        tokio::task::spawn_blocking(move || engine.delete_files(id.as_str()));
        Ok(())
    }

    fn remove_durably(&self, entry: &Entry, volumes: bool) -> Result<(), Error> {
        let workload = entry.workload();
        let anonymous = if volumes { self.anonymous_volumes_of(&workload) } else { Vec::new() };
        let mut changes = vec![Change::RemoveWorkload(entry.id.as_str())];
        changes.extend(anonymous.iter().map(|name| Change::RemoveVolume(name)));
        // A workload that removes itself is removed again if this record comes back after a power cut.
        let when = if workload.life.auto_remove { When::Later } else { When::Now };
        failpoint::hit("remove.before-record");
        self.shared.db.apply(&changes, when)?;
        failpoint::hit("remove.after-record");
        self.forget_volumes(&anonymous)
    }

    /// Deletes what a workload that has no record any more left behind. The run folder goes last: while it is there, or
    /// when the root file system is not, a record that a power cut or a kill brought back is known to be stale.
    pub(crate) fn delete_files(&self, id: &str) {
        if let Err(error) = self.shared.store.remove_root(id) {
            tracing::warn!(%error, id, "deleting a workload's root file system");
        }
        failpoint::hit("remove.after-root");
        let settings = &self.shared.settings;
        for folder in [settings.root.join("workloads").join(id), settings.run.join(crate::engine::RUN_FOLDERS).join(id)]
        {
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, folder = %folder.display(), "deleting a workload's files");
            }
        }
    }

    fn anonymous_volumes_of(&self, workload: &atoll_model::Workload) -> Vec<String> {
        let volumes = self.volume_table();
        let mine = workload.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { name, .. } => Some(name),
            _ => None,
        });
        mine.filter(|name| volumes.get(name).is_some_and(|volume| volume.anonymous))
            .filter(|name| self.volume_users(name) <= 1)
            .cloned()
            .collect()
    }
}
