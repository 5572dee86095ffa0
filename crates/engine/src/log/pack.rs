//! Closed log files are compressed where that was asked for, which the local driver does unless told otherwise: by the daemon,
//! because supervisors are to stay small, and now and then, because nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use atoll_store::failpoint;

use crate::entry::Entry;
use crate::runtime::log::pack;
use crate::{Engine, Error, host};

/// How often somebody looks for closed files.
const EVERY: Duration = Duration::from_secs(10);

impl Engine {
    /// Compresses for as long as the engine is there.
    pub(crate) fn keep_packing(&self) {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(EVERY);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                let engine = Self { shared };
                host::blocking(move || engine.pack_logs()).await;
            }
        });
    }

    fn pack_logs(&self) {
        for entry in self.entries() {
            if let Err(error) = self.pack_log(&entry) {
                tracing::warn!(%error, id = %entry.id.short(), "compressing a log");
            }
        }
    }

    fn pack_log(&self, entry: &Entry) -> Result<(), Error> {
        let workload = entry.workload();
        if !workload.command.log.rules()?.compress {
            return Ok(());
        }
        let (folder, format) = (self.folder(&entry.id), super::plan::format(&workload)?);
        let failed = || Error::host(format!("compressing the log in {}", folder.display()));
        while !entry.standing.borrow().removed {
            let Some(packed) = pack(&folder, &format).map_err(failed())? else { return Ok(()) };
            failpoint::hit("log.before-publish");
            if let Some(published) = packed.publish().map_err(failed())? {
                failpoint::hit("log.after-publish");
                published.finish().map_err(failed())?;
            }
        }
        // Its folder was deleted meanwhile, or could not be because of the file that was made here.
        self.delete_files(entry.id.as_str());
        Ok(())
    }
}
