//! What the engine has to do with restart policies: less than one would think.
//!
//! The supervisor starts a workload again by itself; here that is told to those who watch, and what somebody wants is told to
//! the supervisor. Only where there is no supervisor (it was lost, or the host has come up again) the engine starts the
//! workload itself. That there is a run to come back to is in the durable record of a workload with a policy.

use std::sync::Arc;

use atoll_model::{Exit, History, Phase, Restart, RunEnd, Timestamp, Transition, Verdict, Workload};
use atoll_store::failpoint;
use tokio::sync::Semaphore;

use crate::db::{Change, LastRun, When};
use crate::entry::Entry;
use crate::life::ignore_ended;
use crate::runtime::Handle;
use crate::{Engine, Error, host};

/// Workloads that are started at a time when the host has come up.
const STARTS: usize = 8;

impl Engine {
    /// A run has ended, and another follows.
    pub(crate) fn rests(&self, entry: &Entry, exit: Exit, restarts: u32) {
        entry.standing.send_modify(|standing| standing.restarts = restarts);
        self.run_ended(entry, exit, &Transition::Rest(exit));
    }

    /// The supervisor has started it again.
    pub(crate) fn runs_again(&self, entry: &Entry, pid: i32, at: Timestamp) {
        self.health_begins(entry);
        self.advance_or_say(entry, &Transition::Started { pid, at });
        self.say(entry, "start", &[]);
    }

    /// Applies what a supervisor reports.
    pub(crate) fn advance_or_say(&self, entry: &Entry, transition: &Transition) {
        if let Err(error) = entry.advance(transition) {
            tracing::error!(%error, id = %entry.id.short(), "what a supervisor reports does not fit the phase");
        }
    }

    /// Tells the supervisor that the end of a workload is wanted: what ends is not started again.
    pub(crate) async fn stay_down(&self, entry: &Entry, handle: &Handle) -> Result<(), Error> {
        entry.standing.send_modify(|standing| standing.asked = true);
        Ok(ignore_ended(handle.stay_down().await)?)
    }

    /// Changes a workload's restart policy, also while it runs.
    ///
    /// # Errors
    /// When it is removed at its end, or its supervisor is of a version that has no policies.
    pub async fn set_restart(&self, name: &str, restart: Restart) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        let mut workload = Workload::clone(&entry.workload());
        if workload.life.auto_remove && restart.is_set() {
            let why = "Restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(Error::Invalid(why.to_owned()));
        }
        workload.life.restart = restart;
        if let Some(handle) = entry.handle() {
            ignore_ended(handle.set_restart(restart).await)?;
        }
        let db = self.shared.db.clone();
        let changed = workload.clone();
        host::blocking(move || db.apply(&[Change::PutWorkload(&changed)], When::Now)).await?;
        entry.replace_workload(workload);
        self.note_start(&entry).await;
        Ok(())
    }

    /// Makes the supervisor of an adopted workload hold the policy that is on record.
    pub(crate) async fn align_policy(&self, entry: &Entry, handle: &Handle, held: Restart) {
        let wanted = entry.workload().life.restart;
        if wanted != held
            && let Err(error) = handle.set_restart(wanted).await
        {
            tracing::warn!(%error, id = %entry.id.short(), "changing the restart policy of a workload that was found");
        }
    }

    /// Records durably that a workload with a policy runs.
    pub(crate) async fn note_start(&self, entry: &Arc<Entry>) {
        let started = match entry.phase() {
            Phase::Running { started, .. } | Phase::Paused { started, .. } | Phase::Restarting { started, .. } => {
                started
            }
            _ => return,
        };
        if entry.workload().life.restart.is_set() {
            self.note_end(entry, LastRun::going_on(started)).await;
            failpoint::hit("start.after-record");
        }
    }

    /// Whether a workload's policy has it started again after a run whose end its supervisor did not judge.
    pub(crate) fn wants_again(&self, entry: &Entry, exit: Exit) -> bool {
        let standing = entry.standing.borrow();
        let history = History { restarts: standing.restarts, ..History::default() };
        let end = RunEnd { code: exit.code, asked: standing.asked, ..RunEnd::default() };
        matches!(entry.workload().life.restart.judge(&history, &end), Verdict::Again { .. })
    }

    /// Starts a workload whose supervisor was lost, unless somebody else did or took it away.
    pub(crate) fn start_again(&self, entry: &Arc<Entry>, restarts: u32) {
        let (engine, entry) = (self.clone(), Arc::clone(entry));
        tokio::spawn(async move { engine.start_if_ended(&entry, restarts).await });
    }

    /// Starts workloads after the host has come up.
    pub(crate) fn start_all(&self, entries: Vec<Arc<Entry>>) {
        let turns = Arc::new(Semaphore::new(STARTS));
        for entry in entries {
            let (engine, turns) = (self.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                let _turn = turns.acquire().await;
                engine.start_if_ended(&entry, 0).await;
            });
        }
    }

    async fn start_if_ended(&self, entry: &Arc<Entry>, restarts: u32) {
        let _operation = entry.operation.lock().await;
        // One that is being removed is in another phase.
        if !matches!(entry.phase(), Phase::Exited { .. }) {
            return;
        }
        if let Err(error) = self.start_held(entry, restarts).await {
            tracing::warn!(%error, id = %entry.id.short(), "starting a workload again, as its restart policy has it");
        }
    }
}
