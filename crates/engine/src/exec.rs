//! Further programs inside a running workload.
//!
//! A session is made, then started, then ends: each step is a request of its own in the Docker API. Sessions belong to
//! a run of their workload and go with it. That one of an earlier daemon runs is known by what its supervisor says; what it
//! is, by a note in the workload's run folder.

use std::path::PathBuf;
use std::sync::Arc;

use atoll_model::{Exit, Phase, Refused, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::attach::{Attach, Attachment, Origin};
use crate::entry::Entry;
use crate::runtime::{ExecPlan, Handle, Size, Target};
use crate::{Engine, Error, host};

/// Sessions that one workload may have at a time, ended ones included until it ends.
const SESSIONS_MAX: usize = 4096;

/// What to run inside a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecDraft {
    /// The command line.
    pub args: Vec<String>,
    /// Added to the workload's environment.
    pub env: Vec<String>,
    /// Where it starts; empty is where the workload does.
    pub working_dir: String,
    /// Who runs it; empty is whoever runs the workload.
    pub user: String,
    /// Whether its streams are a terminal.
    pub terminal: bool,
    /// Whether it has all capabilities.
    pub privileged: bool,
    /// Which streams the caller will be coupled to.
    pub attach: Attach,
    /// How the caller detaches from its terminal; empty is as everywhere.
    #[serde(default)]
    pub detach_keys: String,
}

impl ExecDraft {
    /// The command line as events have it: a space always follows the program.
    fn line(&self) -> String {
        let (program, arguments) = self.args.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        format!("{program} {}", arguments.join(" "))
    }
}

/// A session as callers see it.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Its identifier: 64 hexadecimal digits.
    pub id: String,
    /// The workload it is in.
    pub workload: WorkloadId,
    /// What was asked for.
    pub draft: ExecDraft,
    /// Whether it runs.
    pub running: bool,
    /// How it ended.
    pub exit: Option<i32>,
    /// Its process, in the host's pid namespace; 0 before and after.
    pub pid: i32,
}

/// What the next daemon is to know of a session that runs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    draft: ExecDraft,
    pid: i32,
}

/// A session in memory.
#[derive(Debug)]
pub(crate) struct ExecSession {
    draft: ExecDraft,
    stage: Stage,
    /// The size that its terminal is to have once its program runs.
    resized: Option<Size>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Made,
    Running { pid: i32 },
    Ended { code: i32 },
}

/// A session that one caller is about to run; it is free again when this is dropped before.
#[derive(Debug)]
pub struct ExecClaim {
    engine: Engine,
    entry: Arc<Entry>,
    handle: Handle,
    id: String,
    draft: ExecDraft,
    runs: bool,
}

impl ExecClaim {
    /// Runs the session's program, coupled to the caller unless `detach`.
    ///
    /// # Errors
    /// When it cannot be run ([`Error::exit_code`]).
    pub async fn run(mut self, size: Option<Size>, detach: bool) -> Result<Option<Attachment>, Error> {
        self.runs = true;
        let Self { engine, entry, id, draft, .. } = &self;
        let plan = ExecPlan {
            id: id.clone(),
            workload: entry.workload(),
            args: draft.args.clone(),
            env: draft.env.clone(),
            working_dir: draft.working_dir.clone(),
            user: draft.user.clone(),
            privileged: draft.privileged,
            terminal: draft.terminal.then(|| size.unwrap_or_default()),
            attach: if detach { Attach::default() } else { draft.attach },
        };
        // Told before it runs: its end may come at once.
        engine.say(entry, &format!("exec_start: {}", draft.line()), &[("execID", id.clone())]);
        match self.handle.exec(plan).await {
            Ok((pid, streams)) => {
                if let Some(size) = engine.exec_runs(entry, id, pid) {
                    // One that has ended needs none.
                    drop(self.handle.resize(Target::Exec(id.clone()), size).await);
                }
                let origin = Origin::new(engine.clone(), Arc::clone(entry), Some(id.clone()));
                Ok((!detach).then(|| Attachment::of_session(draft.terminal, streams, origin)))
            }
            Err(error) => {
                let error = Error::from(error);
                let code = error.exit_code().unwrap_or(126);
                entry.execs(|execs| set_stage(execs.get_mut(id), Stage::Ended { code }));
                Err(error)
            }
        }
    }
}

impl Drop for ExecClaim {
    fn drop(&mut self) {
        if !self.runs {
            self.entry.execs(|execs| set_stage(execs.get_mut(&self.id), Stage::Made));
        }
    }
}

impl Engine {
    /// Makes a session in a running workload.
    ///
    /// # Errors
    /// When the workload does not run, or is paused.
    pub fn exec_create(&self, name: &str, draft: &ExecDraft) -> Result<String, Error> {
        let entry = self.find(name)?;
        if draft.args.is_empty() {
            return Err(Error::Invalid("No exec command specified".to_owned()));
        }
        runs_freely(&entry)?;
        let id = host::new_id()?.to_string();
        let full = entry.execs(|execs| {
            if execs.len() >= SESSIONS_MAX {
                execs.retain(|_, session| !matches!(session.stage, Stage::Ended { .. }));
            }
            let full = execs.len() >= SESSIONS_MAX;
            if !full {
                execs.insert(id.clone(), ExecSession { draft: draft.clone(), stage: Stage::Made, resized: None });
            }
            full
        });
        if full {
            return Err(Error::InUse(format!("this container has {SESSIONS_MAX} exec sessions that have not ended")));
        }
        self.say(&entry, &format!("exec_create: {}", draft.line()), &[("execID", id.clone())]);
        Ok(id)
    }

    /// Takes a session for one caller, who is then to run it.
    ///
    /// # Errors
    /// When it was started before, or its workload does not run.
    pub fn exec_claim(&self, id: &str) -> Result<ExecClaim, Error> {
        let (entry, draft) = self.find_exec(id, |session| match session.stage {
            Stage::Made => Ok(session.draft.clone()),
            Stage::Running { .. } => Err(Error::InUse(format!("Exec instance {id} is already running"))),
            Stage::Ended { .. } => Err(Error::InUse(format!("Exec instance {id} has already run"))),
        })?;
        let (draft, handle) = (draft?, runs_freely(&entry)?);
        // Marked before it runs, so that an end that comes at once finds it.
        entry.execs(|execs| set_stage(execs.get_mut(id), Stage::Running { pid: 0 }));
        Ok(ExecClaim { engine: self.clone(), entry, handle, id: id.to_owned(), draft, runs: false })
    }

    /// Notes that a session's program runs, unless it has ended already; the size that its terminal was to have since.
    fn exec_runs(&self, entry: &Entry, id: &str, pid: i32) -> Option<Size> {
        entry.execs(|execs| {
            let session = execs.get_mut(id).filter(|session| matches!(session.stage, Stage::Running { .. }))?;
            session.stage = Stage::Running { pid };
            let note = Note { draft: session.draft.clone(), pid };
            let text = serde_json::to_vec(&note).expect("a note is plain data");
            if let Err(error) = host::write_file(&self.exec_note(entry, id), &text) {
                tracing::debug!(%error, "the next daemon will know little of an exec session");
            }
            session.resized.take()
        })
    }

    fn exec_note(&self, entry: &Entry, id: &str) -> PathBuf {
        self.run_folder(&entry.id).join(format!("exec-{id}.json"))
    }

    fn forget_exec(&self, entry: &Entry, id: &str) {
        // There is none of a session that never ran.
        drop(std::fs::remove_file(self.exec_note(entry, id)));
    }

    /// Changes the size of a session's terminal.
    ///
    /// # Errors
    /// When it does not run or has no terminal.
    pub async fn exec_resize(&self, id: &str, size: Size) -> Result<(), Error> {
        let (entry, ()) = self.find_exec(id, |_| ())?;
        let begins = entry.execs(|execs| match execs.get_mut(id) {
            Some(session) if matches!(session.stage, Stage::Running { pid: 0 }) => {
                session.resized = Some(size);
                true
            }
            _ => false,
        });
        if begins {
            return Ok(());
        }
        Ok(entry.running()?.resize(Target::Exec(id.to_owned()), size).await?)
    }

    /// The sessions of a workload that have not ended.
    pub(crate) fn exec_ids(&self, entry: &Entry) -> Vec<String> {
        entry.execs(|execs| {
            let there = execs.iter().filter(|(_, session)| !matches!(session.stage, Stage::Ended { .. }));
            there.map(|(id, _)| id.clone()).collect()
        })
    }

    /// One session.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecView, Error> {
        let (entry, (draft, stage)) = self.find_exec(id, |session| (session.draft.clone(), session.stage))?;
        let (running, exit, pid) = match stage {
            Stage::Made => (false, None, 0),
            Stage::Running { pid } => (true, None, pid),
            Stage::Ended { code } => (false, Some(code), 0),
        };
        Ok(ExecView { id: id.to_owned(), workload: entry.id.clone(), draft, running, exit, pid })
    }

    /// Notes the end of a session; it may be told more than once.
    pub(crate) fn exec_ended(&self, entry: &Entry, id: &str, exit: Exit) {
        let running = entry.execs(|execs| {
            let session = execs.get_mut(id).filter(|session| matches!(session.stage, Stage::Running { .. }));
            let running = session.is_some();
            set_stage(session, Stage::Ended { code: exit.code });
            running
        });
        if running {
            self.forget_exec(entry, id);
            self.say(entry, "exec_die", &[("execID", id.to_owned()), ("exitCode", exit.code.to_string())]);
        }
    }

    /// The run is over, and with it every session: those that still ran were killed. They can be asked about until the
    /// next start.
    pub(crate) fn end_execs(&self, entry: &Entry) {
        entry.execs(|execs| {
            for (id, session) in execs {
                if matches!(session.stage, Stage::Running { .. }) {
                    session.stage = Stage::Ended { code: 137 };
                    self.forget_exec(entry, id);
                }
            }
        });
    }

    /// Sessions of an earlier daemon.
    pub(crate) fn adopt_execs(&self, entry: &Entry, ids: Vec<String>) {
        entry.execs(|execs| {
            for id in ids {
                let note = std::fs::read(self.exec_note(entry, &id)).ok();
                let Note { draft, pid } = note.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
                execs.insert(id, ExecSession { draft, stage: Stage::Running { pid }, resized: None });
            }
        });
    }

    fn find_exec<T>(&self, id: &str, with: impl Fn(&ExecSession) -> T) -> Result<(Arc<Entry>, T), Error> {
        for entry in self.entries() {
            if let Some(found) = entry.execs(|execs| execs.get(id).map(&with)) {
                return Ok((entry, found));
            }
        }
        Err(Error::no_exec(id))
    }
}

/// The handle of a workload whose processes are not frozen.
fn runs_freely(entry: &Entry) -> Result<Handle, Error> {
    let handle = entry.running()?;
    if matches!(entry.phase(), Phase::Paused { .. }) {
        return Err(Error::Refused { id: entry.id.short().to_string(), reason: Refused::Paused });
    }
    Ok(handle)
}

fn set_stage(session: Option<&mut ExecSession>, stage: Stage) {
    if let Some(session) = session {
        session.stage = stage;
    }
}
