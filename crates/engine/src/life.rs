//! Starting, ending and everything between, with the driver. What follows from a restart policy is in `restart`.

use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Exit, LifeCycle, Phase, Refused, Stdin, Transition, Workload, WorkloadId, signal_number};
use atoll_store::{RootFs, failpoint};

use crate::attach::Output;
use crate::db::{Change, LastRun, When};
use crate::entry::Entry;
use crate::network::Place;
use crate::runtime::{self, Driver, Event, Handle, Plan, Size, Streams, Target};
use crate::{Engine, Error, host};

/// How long the end of a workload that was sent SIGKILL may take before the caller is told: it may hang in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(30);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Engine {
    /// Lets a workload run.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it does already; [`Error::exit_code`] tells a program that could not be started.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        if entry.workload().life.auto_remove && matches!(entry.phase(), Phase::Exited { .. }) {
            // It has ended, and removes itself as soon as this call lets it.
            return Err(Error::no_workload(name));
        }
        self.start_held(&entry, 0).await
    }

    /// Lets it run; `restarts` by its policy were before.
    pub(crate) async fn start_held(&self, entry: &Arc<Entry>, restarts: u32) -> Result<(), Error> {
        match entry.advance(&Transition::Start) {
            Err(Error::Refused { reason: Refused::Running, .. }) => return Err(Error::NotModified),
            other => other?,
        }
        entry.standing.send_modify(|standing| (standing.restarts, standing.asked) = (restarts, false));
        self.health_begins(entry);
        self.keep_forwarding(entry);
        match self.launch(entry).await {
            Ok(handle) => {
                self.note_start(entry).await;
                self.say_joined(entry);
                self.say(entry, "start", &[]);
                let engine = self.clone();
                let entry = Arc::clone(entry);
                tokio::spawn(async move { engine.supervise(&entry, &handle).await });
                Ok(())
            }
            Err(error) => {
                self.start_failed(entry, &error).await;
                Err(error)
            }
        }
    }

    /// Makes it ready, couples those who wait for it, lets it go.
    async fn launch(&self, entry: &Arc<Entry>) -> Result<Handle, Error> {
        failpoint::hit("start.before-prepare");
        let plan = self.prepare(entry).await?;
        failpoint::hit("start.after-prepare");
        let handle = self.shared.driver.create(plan).await?;
        failpoint::hit("start.after-create");
        entry.set_handle(Some(handle.clone()));
        for waiting in entry.take_waiting() {
            let (writer, reader) = handle.attach(waiting.attach).await?;
            // A client that has left meanwhile is no reason not to start.
            drop(waiting.input.send(writer));
            drop(waiting.output.send(Output::new(reader, entry)));
        }
        let at = handle.start().await?;
        entry.advance(&Transition::Started { pid: handle.pid(), at })?;
        failpoint::hit("start.after-start");
        Ok(handle)
    }

    async fn prepare(&self, entry: &Arc<Entry>) -> Result<Plan, Error> {
        let engine = self.clone();
        let entry = Arc::clone(entry);
        host::blocking(move || {
            let workload = entry.workload();
            let root = engine.root_of(&workload)?;
            let folder = engine.folder(&entry.id);
            let run = engine.run_folder(&entry.id);
            host::make_folder(&folder)?;
            host::make_folder(&run)?;
            let place = engine.connect(&workload, &run)?;
            let (network, endpoint, helper) = match place {
                Some(Place { namespace, endpoint, helper }) => (Some(namespace), Some(endpoint), helper),
                None => (engine.joined_network(&workload)?, None, None),
            };
            Ok(Plan {
                mounts: engine.resolve_mounts(&workload, &folder, endpoint.as_ref())?,
                network,
                helper,
                joins: engine.joins(&workload)?,
                root: crate::mounts::overlay(root, workload.life.auto_remove)?,
                streams: Streams {
                    terminal: workload.command.terminal.then(Size::default),
                    stdin: workload.command.stdin != Stdin::Closed,
                    stdin_once: workload.command.stdin == Stdin::Once,
                },
                log: crate::log::plan(&workload, folder, &engine.shared.settings.log)?,
                restarts: entry.standing.borrow().restarts,
                run,
                workload,
            })
        })
        .await
    }

    /// The root file system of a workload; made here for one whose definition was cut short after its record.
    pub(crate) fn root_of(&self, workload: &Workload) -> Result<RootFs, Error> {
        let store = &self.shared.store;
        let (id, limit) = (workload.id.as_str(), workload.resources.storage);
        if limit.is_some() {
            // The disk may be mounted in another way now.
            store.check_limits()?;
        }
        Ok(store.root(id).or_else(|_| store.create_root(id, &workload.image.layers, limit))?)
    }

    async fn start_failed(&self, entry: &Arc<Entry>, error: &Error) {
        let code = error.exit_code().unwrap_or(128);
        if let Some(handle) = entry.handle() {
            handle.abandon().await;
        }
        entry.set_handle(None);
        self.disconnect(&entry.id);
        drop(entry.take_waiting());
        let at = host::now();
        if let Err(error) = entry.advance(&Transition::Failed { code, at }) {
            tracing::error!(%error, id = %entry.id.short(), "a failed start does not fit its phase");
        }
        entry.standing.send_modify(|standing| standing.failure = error.to_string());
        if entry.workload().life.auto_remove {
            if let Err(error) = self.remove_held(entry, true).await {
                tracing::warn!(%error, id = %entry.id.short(), "removing a workload that could not be started");
            }
            return;
        }
        let last = match entry.phase() {
            Phase::Exited { started, exit } => LastRun { exit: Some(exit), ..LastRun::going_on(started) },
            _ => LastRun { failure: Some(code), ..LastRun::going_on(at) },
        };
        self.note_end(entry, last).await;
        self.clear_run_folder(&entry.id);
    }

    /// Follows a run to its end, and acts on that.
    pub(crate) async fn supervise(&self, entry: &Arc<Entry>, handle: &Handle) {
        let mut events = handle.events();
        loop {
            match events.recv().await {
                Some(Event::ExecExited { id, exit }) => self.exec_ended(entry, &id, exit),
                Some(Event::Resting { exit, restarts, .. }) => self.rests(entry, exit, restarts),
                Some(Event::Checked { health }) => self.checked(entry, health),
                Some(Event::Restarted { pid, at }) => self.runs_again(entry, pid, at),
                Some(Event::Exited { exit, failure }) => {
                    entry.standing.send_modify(|standing| standing.failure = failure);
                    return self.ended(entry, exit).await;
                }
                // The supervisor is gone without a word: what it left behind is recovered as after a restart.
                None => return self.bury(entry).await,
            }
        }
    }

    /// Records the end of a run, then publishes it, and does what was asked for in that case.
    ///
    /// Whoever learns of the end may start or remove the workload at once, so nothing of this run is left by then.
    pub(crate) async fn ended(&self, entry: &Arc<Entry>, exit: Exit) {
        failpoint::hit("exit.before-phase");
        let phase = entry.phase();
        let started = match phase {
            Phase::Running { started, .. } | Phase::Paused { started, .. } | Phase::Restarting { started, .. } => {
                started
            }
            _ => exit.at,
        };
        let (restarts, asked) = {
            let standing = entry.standing.borrow();
            (standing.restarts, standing.asked)
        };
        let auto_remove = entry.workload().life.auto_remove;
        if !auto_remove {
            self.note_end(entry, LastRun { started, exit: Some(exit), failure: None, restarts, asked }).await;
            failpoint::hit("exit.after-record");
            self.clear_run_folder(&entry.id);
        }
        self.disconnect(&entry.id);
        entry.set_handle(None);
        if matches!(phase, Phase::Restarting { .. }) {
            // The run that ended like this was told of before it waited for the next.
            self.advance_or_say(entry, &Transition::Exit(exit));
        } else {
            self.run_ended(entry, exit, &Transition::Exit(exit));
        }
        self.say_left(entry);
        if auto_remove {
            let _operation = entry.operation.lock().await;
            if entry.phase().is_up() {
                // It was started anew, by a restart: it goes when that run ends.
                return;
            }
            if let Err(error) = self.remove_held(entry, true).await {
                tracing::warn!(%error, id = %entry.id.short(), "removing a workload that has ended");
            }
        }
    }

    /// Publishes and tells the end of a run, and of the exec sessions in it. Whoever learns of the end by its phase says
    /// nothing before the end was told.
    pub(crate) fn run_ended(&self, entry: &Entry, exit: Exit, transition: &Transition) {
        let started = match entry.phase() {
            Phase::Running { started, .. } | Phase::Paused { started, .. } => started,
            _ => exit.at,
        };
        self.end_execs(entry);
        self.health_ends(entry);
        if exit.oom_killed {
            self.say(entry, "oom", &[]);
        }
        let _telling = entry.telling();
        self.advance_or_say(entry, transition);
        let seconds = exit.at.seconds().saturating_sub(started.seconds()).max(0);
        self.say_held(entry, "die", &[("execDuration", seconds.to_string()), ("exitCode", exit.code.to_string())]);
    }

    pub(crate) async fn note_end(&self, entry: &Arc<Entry>, last: LastRun) {
        let db = self.shared.db.clone();
        let id = entry.id.clone();
        let result = host::blocking(move || db.apply(&[Change::PutEnded(id.as_str(), last)], When::Now)).await;
        if let Err(error) = result {
            // It stays in the run folder, from which the next daemon reads it.
            tracing::error!(%error, id = %entry.id.short(), "recording how a workload ended");
        }
    }

    pub(crate) fn clear_run_folder(&self, id: &WorkloadId) {
        let folder = self.run_folder(id);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "removing a run folder");
        }
    }

    /// Asks a workload to end; after the time-out (seconds, negative: never) kills it.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it does not run.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout_s: Option<i64>) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        if !entry.phase().is_up() {
            return Err(Error::NotModified);
        }
        self.stop_held(&entry, signal, timeout_s).await
    }

    /// Stops a workload if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, name: &str, signal: Option<&str>, timeout_s: Option<i64>) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        if entry.phase().is_up() {
            self.stop_held(&entry, signal, timeout_s).await?;
        }
        self.start_held(&entry, 0).await?;
        self.say(&entry, "restart", &[]);
        Ok(())
    }

    async fn stop_held(&self, entry: &Arc<Entry>, signal: Option<&str>, timeout_s: Option<i64>) -> Result<(), Error> {
        let workload = entry.workload();
        let number = match signal.unwrap_or(&workload.life.stop_signal) {
            "" => SIGTERM,
            text => parse_signal(text)?,
        };
        let Some(handle) = entry.handle() else {
            // It has just ended by itself.
            entry.over().await;
            return Ok(());
        };
        self.stay_down(entry, &handle).await?;
        if entry.phase().is_live() {
            // Told first: the end may come at once.
            self.say(entry, "kill", &[("signal", number.to_string())]);
            ignore_ended(handle.signal(Target::Init, number).await)?;
            self.thaw_signalled(entry).await?;
        }
        let timeout = timeout_s.or(workload.life.stop_timeout_s).unwrap_or(LifeCycle::STOP_TIMEOUT_S);
        match u64::try_from(timeout) {
            Err(_) => entry.over().await,
            Ok(seconds) => {
                if tokio::time::timeout(Duration::from_secs(seconds), entry.over()).await.is_err() {
                    self.kill_hard(entry, &handle).await?;
                }
            }
        }
        self.say(entry, "stop", &[]);
        Ok(())
    }

    /// Sends SIGKILL to everything in a workload and waits for its end.
    pub(crate) async fn kill_hard(&self, entry: &Arc<Entry>, handle: &Handle) -> Result<(), Error> {
        self.send_kill(entry, handle).await?;
        self.killed(entry).await
    }

    /// Sends SIGKILL to everything in a workload, which is not to run again.
    pub(crate) async fn send_kill(&self, entry: &Arc<Entry>, handle: &Handle) -> Result<(), Error> {
        self.stay_down(entry, handle).await?;
        if entry.phase().is_live() {
            self.say(entry, "kill", &[("signal", SIGKILL.to_string())]);
            ignore_ended(handle.signal(Target::All, SIGKILL).await)?;
        }
        Ok(())
    }

    /// Waits for the end of a workload that was sent SIGKILL; the caller holds it, so that nobody starts it anew.
    pub(crate) async fn killed(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        match tokio::time::timeout(KILL_GRACE, entry.over()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::InUse(format!(
                "container {} was sent SIGKILL {} s ago and has not ended: a process of it hangs in the kernel",
                entry.id.short(),
                KILL_GRACE.as_secs()
            ))),
        }
    }

    /// Sends a signal to a workload's first process. One that waits for its next run does not get it: that run is not to be.
    ///
    /// # Errors
    /// When it does not run, or there is no such signal.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<(), Error> {
        let entry = self.find(name)?;
        let number = parse_signal(signal)?;
        if let (Phase::Restarting { .. }, Some(handle)) = (entry.phase(), entry.handle()) {
            return self.stay_down(&entry, &handle).await;
        }
        let handle = entry.running()?;
        let wants_end = wants_end(&entry.workload().life, number);
        if wants_end {
            self.stay_down(&entry, &handle).await?;
        }
        // A frozen process dies of SIGKILL only once it is thawed; killing everything does that.
        let target = if number == SIGKILL { Target::All } else { Target::Init };
        handle.signal(target, number).await?;
        self.say(&entry, "kill", &[("signal", number.to_string())]);
        if wants_end && number != SIGKILL {
            self.thaw_signalled(&entry).await?;
        }
        Ok(())
    }

    /// A frozen workload that was asked to end is thawed, as in Docker: it could not hear of it.
    async fn thaw_signalled(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        match entry.phase() {
            Phase::Paused { .. } => match self.unpause_held(entry).await {
                // It was thawed by somebody else, or has ended.
                Err(Error::Refused { .. }) => Ok(()),
                Err(Error::Driver(error)) => Ok(ignore_ended(Err(error))?),
                other => other,
            },
            _ => Ok(()),
        }
    }

    /// Freezes a workload's processes.
    ///
    /// # Errors
    /// When it does not run, or is frozen.
    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        atoll_model::next(&entry.phase(), &Transition::Pause).map_err(|reason| refused(&entry, reason))?;
        self.pause_held(&entry).await
    }

    /// Thaws a workload's processes.
    ///
    /// # Errors
    /// When it is not frozen.
    pub async fn unpause(&self, name: &str) -> Result<(), Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        atoll_model::next(&entry.phase(), &Transition::Resume).map_err(|reason| refused(&entry, reason))?;
        self.unpause_held(&entry).await
    }

    pub(crate) async fn pause_held(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        entry.running()?.pause().await?;
        entry.advance(&Transition::Pause)?;
        self.say(entry, "pause", &[]);
        Ok(())
    }

    pub(crate) async fn unpause_held(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        entry.running()?.resume().await?;
        entry.advance(&Transition::Resume)?;
        self.say(entry, "unpause", &[]);
        Ok(())
    }

    /// Changes the size of a workload's terminal.
    ///
    /// # Errors
    /// When it does not run or has no terminal.
    pub async fn resize(&self, name: &str, size: Size) -> Result<(), Error> {
        let entry = self.find(name)?;
        entry.running()?.resize(Target::Init, size).await?;
        self.say(&entry, "resize", &[("height", size.rows.to_string()), ("width", size.columns.to_string())]);
        Ok(())
    }
}

fn refused(entry: &Entry, reason: Refused) -> Error {
    Error::Refused { id: entry.id.short().to_string(), reason }
}

fn parse_signal(text: &str) -> Result<i32, Error> {
    signal_number(text).ok_or_else(|| Error::Invalid(format!("Invalid signal: {text}")))
}

/// Whether a signal means that the workload is to end for good, as Docker has it: SIGKILL, and the signal that asks it to end;
/// where none is named, any.
fn wants_end(life: &LifeCycle, number: i32) -> bool {
    number == SIGKILL || life.stop_signal.is_empty() || signal_number(&life.stop_signal) == Some(number)
}

/// A workload that has ended needs no signal: its end is seen elsewhere.
pub(crate) fn ignore_ended(result: Result<(), runtime::Error>) -> Result<(), runtime::Error> {
    match result {
        Err(error) if error.kind() == runtime::ErrorKind::NotNow => Ok(()),
        other => other,
    }
}
