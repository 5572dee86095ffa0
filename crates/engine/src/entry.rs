//! One workload in memory: what was asked for, where it stands, and who is interested.
//!
//! Whatever changes a workload holds [`Entry::operation`] while it does, so that a start, a stop and a removal never
//! overlap. Where it stands is published in a watch channel: everyone who waits, waits on that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use atoll_model::{Exit, Health, Phase, Transition, Workload, WorkloadId, next};
use tokio::sync::watch;

use crate::Error;
use crate::attach::Waiting;
use crate::exec::ExecSession;
use crate::log::Forwarding;
use crate::network::Endpoint;
use crate::runtime::Handle;

/// Where a workload stands, as it is published.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    /// Runs that have ended since the daemon knows it.
    pub(crate) exits: u64,
    /// How the last of them, or the last start that failed, ended.
    pub(crate) last: Option<Exit>,
    /// Why the last start failed.
    pub(crate) failure: String,
    /// Restarts by its policy since somebody started it.
    pub(crate) restarts: u32,
    /// Whether somebody wanted the last end, or wants it now.
    pub(crate) asked: bool,
    /// What its checks came to, where there are any.
    pub(crate) health: Option<Health>,
    pub(crate) removed: bool,
}

/// One workload in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: WorkloadId,
    workload: RwLock<Arc<Workload>>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) operation: tokio::sync::Mutex<()>,
    /// Whether lines of its log are on their way to a receiver.
    pub(crate) forwarding: watch::Sender<Forwarding>,
    /// Held while something is told of it, so that its end is told before what its end lets others do.
    telling: Mutex<()>,
    live: Mutex<Live>,
    /// Clients that have not been given all output yet.
    outputs: watch::Sender<usize>,
}

/// How long the end of a run is held back for clients that are slow to take its last output, as in Docker.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// A client that is to get output, until it has it all or is gone.
#[derive(Debug)]
pub(crate) struct Coupled(Arc<Entry>);

/// What exists only while a workload runs, or until it does.
#[derive(Debug, Default)]
struct Live {
    handle: Option<Handle>,
    /// Clients that attached before the start.
    waiting: Vec<Waiting>,
    execs: BTreeMap<String, ExecSession>,
}

/// A workload as callers see it.
#[derive(Clone, Debug)]
pub struct WorkloadView {
    /// What was asked for.
    pub workload: Arc<Workload>,
    /// Where it stands.
    pub phase: Phase,
    /// Why its last start failed; empty if it did not.
    pub failure: String,
    /// Restarts by its policy since somebody started it.
    pub restarts: u32,
    /// How well it is, where that is checked.
    pub health: Option<Health>,
    /// Where it is on its network.
    pub endpoint: Option<Endpoint>,
    /// Exec sessions that exist.
    pub execs: Vec<String>,
    /// The file of its log that programs other than Atoll read.
    pub log: Option<PathBuf>,
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// That it does not run: at once, when it does not, else the end of the run that goes on. As in Docker, that is
    /// the end of the wait whether or not another run follows.
    NotRunning,
    /// The end of the run that goes on, or of the next one.
    NextExit,
    /// That it is gone.
    Removed,
}

/// Somebody waiting, from the moment it was made.
#[derive(Debug)]
pub struct Waiter {
    receiver: watch::Receiver<Standing>,
    condition: WaitCondition,
    exits: u64,
    outputs: watch::Receiver<usize>,
}

impl Coupled {
    pub(crate) fn new(entry: &Arc<Entry>) -> Self {
        entry.outputs.send_modify(|count| *count += 1);
        Self(Arc::clone(entry))
    }
}

impl Drop for Coupled {
    fn drop(&mut self) {
        self.0.outputs.send_modify(|count| *count -= 1);
    }
}

impl Entry {
    pub(crate) fn new(workload: Workload, phase: Phase) -> Self {
        let last = match phase {
            Phase::Exited { exit, .. } => Some(exit),
            Phase::Created { failure: Some(code) } => {
                Some(Exit { code, oom_killed: false, at: atoll_model::Timestamp::NEVER })
            }
            _ => None,
        };
        let standing = Standing {
            phase,
            exits: 0,
            last,
            failure: String::new(),
            restarts: 0,
            asked: false,
            health: None,
            removed: false,
        };
        Self {
            id: workload.id.clone(),
            workload: RwLock::new(Arc::new(workload)),
            standing: watch::Sender::new(standing),
            operation: tokio::sync::Mutex::default(),
            forwarding: watch::Sender::default(),
            telling: Mutex::default(),
            live: Mutex::default(),
            outputs: watch::Sender::new(0),
        }
    }

    /// Waits for whatever else changes it, and keeps that out. Who waited for its removal hears that there is none of that name.
    pub(crate) async fn hold(&self, name: &str) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let operation = self.operation.lock().await;
        if self.standing.borrow().removed { Err(Error::no_workload(name)) } else { Ok(operation) }
    }

    pub(crate) fn workload(&self) -> Arc<Workload> {
        Arc::clone(&self.workload.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace_workload(&self, workload: Workload) {
        *self.workload.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(workload);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.standing.borrow().phase.clone()
    }

    /// Applies a transition and publishes the new phase.
    pub(crate) fn advance(&self, transition: &Transition) -> Result<(), Error> {
        let mut refused = None;
        self.standing.send_if_modified(|standing| match next(&standing.phase, transition) {
            Ok(phase) => {
                match transition {
                    Transition::Exit(exit) | Transition::Rest(exit) => {
                        standing.exits += 1;
                        standing.last = Some(*exit);
                    }
                    Transition::Failed { code, at } => {
                        standing.last = Some(Exit { code: *code, oom_killed: false, at: *at });
                    }
                    Transition::Start => standing.failure.clear(),
                    _ => {}
                }
                standing.phase = phase;
                true
            }
            Err(reason) => {
                refused = Some(reason);
                false
            }
        });
        match refused {
            None => Ok(()),
            Some(reason) => Err(Error::Refused { id: self.id.short().to_string(), reason }),
        }
    }

    pub(crate) fn telling(&self) -> std::sync::MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handle(&self) -> Option<Handle> {
        self.live().handle.clone()
    }

    /// The handle of a workload that has processes.
    pub(crate) fn running(&self) -> Result<Handle, Error> {
        use atoll_model::Refused::{NotRunning, Restarting};
        let phase = self.phase();
        let reason = if matches!(phase, Phase::Restarting { .. }) { Restarting } else { NotRunning };
        self.handle()
            .filter(|_| phase.is_live())
            .ok_or_else(|| Error::Refused { id: self.id.short().to_string(), reason })
    }

    pub(crate) fn set_handle(&self, handle: Option<Handle>) {
        self.live().handle = handle;
    }

    pub(crate) fn push_waiting(&self, waiting: Waiting) {
        self.live().waiting.push(waiting);
    }

    pub(crate) fn take_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.live().waiting)
    }

    /// Looks at, or changes, the exec sessions.
    pub(crate) fn execs<T>(&self, with: impl FnOnce(&mut BTreeMap<String, ExecSession>) -> T) -> T {
        with(&mut self.live().execs)
    }

    pub(crate) fn wait(&self, condition: WaitCondition) -> Waiter {
        let receiver = self.standing.subscribe();
        let exits = receiver.borrow().exits;
        Waiter { receiver, condition, exits, outputs: self.outputs.subscribe() }
    }

    /// Waits until it has ended for good, or is gone.
    pub(crate) async fn over(&self) {
        let mut receiver = self.standing.subscribe();
        let over = |standing: &Standing| standing.removed || !is_busy(&standing.phase);
        // The sender is a field of `self`, so the channel is open.
        drop(receiver.wait_for(over).await);
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits, and until attached clients have the last output; how the workload ended, or a code of 0 for one that never ran.
    pub async fn done(mut self) -> Exit {
        let exit = self.ended().await;
        drop(tokio::time::timeout(OUTPUT_LIMIT, self.outputs.wait_for(|count| *count == 0)).await);
        exit
    }

    /// The same, whoever is attached.
    pub(crate) async fn ended(&mut self) -> Exit {
        let (condition, exits) = (self.condition, self.exits);
        let met = |standing: &Standing| {
            standing.removed
                || match condition {
                    WaitCondition::NotRunning => standing.exits > exits || !is_busy(&standing.phase),
                    WaitCondition::NextExit => standing.exits > exits,
                    WaitCondition::Removed => false,
                }
        };
        // The channel closes only with the entry, and then the workload is gone.
        let last = match self.receiver.wait_for(met).await {
            Ok(standing) => standing.last,
            Err(_) => None,
        };
        last.unwrap_or(Exit { code: 0, oom_killed: false, at: atoll_model::Timestamp::NEVER })
    }
}

/// Whether it runs, or is about to.
const fn is_busy(phase: &Phase) -> bool {
    phase.is_up() || matches!(phase, Phase::Starting { .. })
}

#[cfg(test)]
mod tests;
