//! What follows from the end of a run: another, or the end of the workload.
//!
//! The record of a run's end says which it is before anybody is told, and is taken away before the next run is made: whenever
//! this process dies, what is left is a record of the end, or a supervisor that is gone while its workload ran.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use atoll_model::{Exit, History, RunEnd, Timestamp, Verdict};
use atoll_wall::message::{Event, Failure, FailureKind};
use atoll_wall::record::{self, Ended};

use super::health::Checks;
use super::session::Whose;
use super::{Monitor, Stage, now};
use crate::failure::{internal, of_start};
use crate::handover::{self, Fds, State};
use crate::launch::{Made, kept, let_network_go, make, note_life};
use crate::logfile;

impl Monitor {
    /// Judges a run that has ended, and of which nothing is left.
    pub(super) fn run_ended(&mut self, exit: Exit) -> Result<()> {
        self.sessions[0].close();
        let unhealthy = self.end_checks();
        let ran = self.current.since.elapsed();
        let end = RunEnd { code: exit.code, ran, asked: self.life.asked, unhealthy };
        match self.life.restart.judge(&self.life.history, &end) {
            Verdict::Again { after, history } => self.rest(exit, after, history),
            Verdict::Over => self.end(exit, String::new()),
        }
    }

    fn rest(&mut self, exit: Exit, after: Duration, history: History) -> Result<()> {
        self.life.history = history;
        (self.current.paused, self.current.killed) = (false, false);
        self.record(exit, true)?;
        self.stage = Stage::Resting { exit, due: Instant::now() + after };
        let until = Timestamp(now().0.saturating_add(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)));
        self.tell(&Event::Resting { exit, restarts: history.restarts, until });
        // The streams of the next run are others.
        self.part(&Whose::Init, &Event::Exited { exit, failure: String::new() });
        Ok(())
    }

    /// The end of the workload; `failure`: why it could not run again.
    pub(super) fn end(&mut self, exit: Exit, failure: String) -> Result<()> {
        // Its ports and its address are free when the end is told.
        self.helper = None;
        self.log.finish(now());
        let_network_go().context("letting the network go")?;
        self.record(exit, false)?;
        self.stage = Stage::Telling;
        let event = Event::Exited { exit, failure };
        self.tell(&event);
        self.part(&Whose::Init, &event);
        Ok(())
    }

    fn record(&self, exit: Exit, resting: bool) -> Result<()> {
        let restarts = self.life.history.restarts;
        let ended = Ended { started: self.current.started, exit, resting, restarts, asked: self.life.asked };
        logfile::replace(&self.run.join(record::ENDED), &serde_json::to_vec(&ended)?).context("recording the exit")
    }

    /// Notes what follows from its end, should this supervisor be lost.
    pub(super) fn note_life(&self) {
        if let Err(error) = note_life(&self.run, self.life.history.restarts, self.life.asked) {
            crate::complain(&anyhow::Error::from(error).context("noting restarts"));
        }
    }

    /// Whether the next run is due.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.stage, Stage::Resting { due, .. } if due <= Instant::now())
    }

    /// Lets the workload run once more.
    pub(super) fn again(mut self) -> Result<Self> {
        let made = match self.let_go_again() {
            Ok(made) => made,
            Err(failure) => {
                // As Docker has it, what cannot be started is not tried again.
                let exit = Exit { code: exit_code(failure.kind), oom_killed: false, at: now() };
                self.end(exit, failure.message)?;
                return Ok(self);
            }
        };
        self.current.started = now();
        self.note_life();
        self.tell(&Event::Restarted { pid: made.pid, at: self.current.started });
        let state = self.into_state(made);
        // All that making it took goes with this image of the program; one that cannot be had is done without.
        if let Err(error) = handover::give(&state) {
            crate::complain(&error);
        }
        Self::new(state)
    }

    fn let_go_again(&self) -> Result<Made, Failure> {
        let launch = kept(&self.run).map_err(|error| internal(&error))?;
        // From here on a supervisor that dies leaves a workload whose end nobody saw.
        std::fs::remove_file(self.run.join(record::ENDED)).map_err(|error| internal(&error))?;
        let (made, start) = make(&launch)?;
        start.start().map_err(|error| {
            Made::take_away(&made.pidfd, &made.cgroup);
            of_start(&error)
        })?;
        Ok(made)
    }

    fn into_state(mut self, made: Made) -> State {
        let (log, log_file) = self.log.into_parts();
        let clients = self.connections.drain(..).map(super::connection::Connection::into_parts).collect();
        State {
            id: self.id,
            pid: made.pid,
            cgroup: made.cgroup,
            run: self.run,
            stdin_once: self.sessions[0].is_stdin_once(),
            log,
            life: self.life,
            health: self.current.checks.map(Checks::into_parts),
            started: self.current.started,
            fds: Fds {
                clients,
                listener: self.listener,
                pidfd: made.pidfd,
                start: None,
                log: log_file,
                streams: made.streams,
                helper: self.helper,
            },
        }
    }
}

/// As a shell has it, for a program that did not come to run.
const fn exit_code(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::CommandNotFound => 127,
        FailureKind::CommandNotExecutable => 126,
        _ => 128,
    }
}
