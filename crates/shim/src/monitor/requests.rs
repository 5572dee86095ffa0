//! What clients ask for.

use std::os::fd::AsFd;
use std::time::Instant;

use atoll_container::{Execution, Target as Inside};
use atoll_wall::frame::{Frame, Kind};
use atoll_wall::launch::{Streams, User};
use atoll_wall::message::{Attach, Exec, Failure, FailureKind, Process, Reply, Request, Resources, State, Target};
use atoll_wall::{PROTOCOL, PROTOCOL_OLDEST};
use rustix::event::PollFlags;

use super::connection::Coupling;
use super::session::{Session, Whose};
use super::{Monitor, Stage, now};
use crate::failure::{internal, not_now, of_exec, of_start};
use crate::handover::StreamFds;
use crate::launch::{keep, kept, session_streams};

const SIGKILL: i32 = 9;
/// Exec sessions at a time.
const SESSIONS_MAX: usize = 256;

/// What is answered, and what the connection becomes with that.
enum Answer {
    Reply(Reply),
    Coupled(Reply, Whose, Attach),
}

impl Monitor {
    /// Reads from a client, writes to it, does what it asks for.
    pub(super) fn serve(&mut self, index: usize, flags: PollFlags) {
        let connection = &mut self.connections[index];
        if flags.contains(PollFlags::OUT) {
            connection.write();
        }
        if flags.contains(PollFlags::IN) {
            connection.read();
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            // It was not read because its input is not taken; what it sent before it left still counts.
            connection.read_to_end();
        }
        loop {
            match self.connections[index].next_frame() {
                Ok(Some(frame)) => self.take(index, &frame),
                Ok(None) => return,
                Err(error) => {
                    let failure = Failure { kind: FailureKind::Invalid, message: error.to_string() };
                    self.connections[index].reply(&Reply::Failed(failure));
                    self.connections[index].close_when_sent();
                    return;
                }
            }
        }
    }

    fn take(&mut self, index: usize, frame: &Frame) {
        let connection = &mut self.connections[index];
        match (frame.kind, &connection.coupling) {
            (Kind::Stdin, Some(coupling)) if coupling.attach.stdin => {
                if let Some(session) = self.sessions.iter_mut().find(|session| session.whose == coupling.whose) {
                    session.feed(&frame.payload);
                }
            }
            (Kind::Message, None) => match frame.message::<Request>() {
                Ok(request) => self.answer(index, request),
                Err(error) => {
                    let failure = Failure { kind: FailureKind::Invalid, message: error.to_string() };
                    connection.reply(&Reply::Failed(failure));
                }
            },
            // Nothing that this connection may carry.
            _ => connection.close(),
        }
    }

    fn answer(&mut self, index: usize, request: Request) {
        let number = self.connections[index].number;
        let watch = matches!(request, Request::Watch);
        let greeted = self.connections[index].protocol.is_some();
        let answer = match request {
            Request::Hello { protocol } => self.greet(index, protocol),
            _ if !greeted => Err(not_now("say hello first")),
            request => self.act(request),
        };
        // Acting may have ended the workload, but never takes connections away.
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.number == number) else {
            return;
        };
        match answer {
            Ok(Answer::Reply(reply)) => {
                connection.watches |= watch;
                connection.reply(&reply);
            }
            Ok(Answer::Coupled(reply, whose, attach)) => {
                connection.reply(&reply);
                connection.coupling = Some(Coupling { whose, attach });
            }
            Err(failure) => connection.reply(&Reply::Failed(failure)),
        }
    }

    fn greet(&mut self, index: usize, protocol: u32) -> Result<Answer, Failure> {
        if protocol < PROTOCOL_OLDEST {
            let message = format!("this supervisor speaks protocol {PROTOCOL_OLDEST} to {PROTOCOL}, not {protocol}");
            return Err(Failure { kind: FailureKind::Unsupported, message });
        }
        // A newer daemon speaks our version, an older one is spoken to in its own.
        let protocol = protocol.min(PROTOCOL);
        self.connections[index].protocol = Some(protocol);
        Ok(Answer::Reply(Reply::Hello { protocol, id: self.id.clone() }))
    }

    fn act(&mut self, request: Request) -> Result<Answer, Failure> {
        let reply = match request {
            Request::Start => self.start()?,
            Request::Abandon => {
                if !matches!(self.stage, Stage::Waiting(_)) {
                    return Err(not_now("the workload was started"));
                }
                self.abandon();
                Reply::Done
            }
            Request::Watch => Reply::State(self.state()),
            Request::Attach(attach) => {
                self.check_live()?;
                return Ok(Answer::Coupled(Reply::Done, Whose::Init, attach));
            }
            Request::Exec(exec) => {
                let (attach, whose) = (exec.attach, Whose::Exec(exec.id.clone()));
                let pid = self.exec(*exec)?;
                return Ok(Answer::Coupled(Reply::ExecStarted { pid }, whose, attach));
            }
            Request::Signal { target, signal } => self.signal(&target, signal)?,
            Request::Resize { target, size } => {
                let session = self.session(&target)?;
                session.resize(size.rows, size.columns).map_err(|error| internal(&error))?;
                Reply::Done
            }
            Request::Pause => self.freeze(true)?,
            Request::Resume => self.freeze(false)?,
            Request::Processes => Reply::Processes { pids: self.processes()? },
            Request::Limit { resources } => self.limit(&resources)?,
            Request::StayDown => self.stay_down()?,
            Request::SetRestart { restart } => {
                self.life.restart = restart;
                Reply::Done
            }
            Request::Launch(_) | Request::Hello { .. } => return Err(not_now("a workload is there already")),
        };
        Ok(Answer::Reply(reply))
    }

    fn check_live(&self) -> Result<(), Failure> {
        match self.stage {
            Stage::Waiting(_) | Stage::Running => Ok(()),
            Stage::Resting { .. } => Err(not_now("the workload is restarting, wait until it runs")),
            Stage::Draining(_) | Stage::Telling => Err(not_now("the workload has ended")),
        }
    }

    /// What ends is not started again, and what has ended stays so.
    fn stay_down(&mut self) -> Result<Reply, Failure> {
        let first = !std::mem::replace(&mut self.life.asked, true);
        if let Stage::Resting { exit, .. } = self.stage {
            self.end(exit, String::new()).map_err(|error| internal(&*error))?;
        } else if first {
            self.note_life();
        }
        Ok(Reply::Done)
    }

    fn start(&mut self) -> Result<Reply, Failure> {
        let Stage::Waiting(handle) = std::mem::replace(&mut self.stage, Stage::Running) else {
            return Err(not_now("the workload was started"));
        };
        match handle.start() {
            Ok(()) => {
                self.current.started = now();
                self.current.since = Instant::now();
                if self.life.history.restarts > 0 {
                    self.note_life();
                }
                self.begin_checks();
                Ok(Reply::Started { at: self.current.started })
            }
            Err(error) => {
                let failure = of_start(&error);
                self.abandon();
                Err(failure)
            }
        }
    }

    fn state(&self) -> State {
        let execs = self.sessions.iter().filter_map(|session| match &session.whose {
            Whose::Init | Whose::Check => None,
            Whose::Exec(id) => Some(id.clone()),
        });
        let resting = match self.stage {
            Stage::Resting { exit, .. } => Some(exit),
            _ => None,
        };
        State {
            pid: if resting.is_none() { self.sessions[0].pid } else { 0 },
            started: self.current.started,
            paused: self.current.paused,
            exit: self.sessions[0].exit,
            execs: execs.collect(),
            resting,
            restarts: self.life.history.restarts,
            restart: self.life.restart,
            asked: self.life.asked,
            health: self.current.checks.as_ref().map(|checks| checks.health.clone()),
        }
    }

    fn session(&self, target: &Target) -> Result<&Session, Failure> {
        let whose = match target {
            Target::Init | Target::All => Whose::Init,
            Target::Exec(id) => Whose::Exec(id.clone()),
        };
        self.sessions.iter().find(|session| session.whose == whose).ok_or_else(|| not_now("there is no such session"))
    }

    fn signal(&mut self, target: &Target, signal: i32) -> Result<Reply, Failure> {
        self.check_live()?;
        let sent = match target {
            Target::All if signal == SIGKILL => self.kill_all(),
            Target::All => self.processes().map(|pids| {
                for pid in pids {
                    // One that has ended meanwhile needs no signal.
                    let _ = atoll_sys::pidfd::open(pid).and_then(|process| atoll_sys::pidfd::kill(&process, signal));
                }
            }),
            Target::Init | Target::Exec(_) => {
                let session = self.session(target)?;
                atoll_sys::pidfd::kill(&session.pidfd, signal).map_err(|error| internal(&error))
            }
        };
        sent.map(|()| Reply::Done)
    }

    /// Ends everything in the workload.
    pub(super) fn kill_all(&mut self) -> Result<(), Failure> {
        self.current.killed = true;
        if self.cgroup.is_none() {
            // The end of its first process ends all of its pid namespace.
            return atoll_sys::pidfd::kill(&self.sessions[0].pidfd, SIGKILL).map_err(|error| internal(&error));
        }
        self.cgroup.kill().map_err(|error| internal(&error))
    }

    /// Those of its control group; without one, of its pid namespace.
    fn processes(&self) -> Result<Vec<i32>, Failure> {
        if self.cgroup.is_none() {
            return atoll_sys::proc::sharing_pid_namespace(self.sessions[0].pid).map_err(|error| internal(&error));
        }
        self.cgroup.pids().map_err(|error| internal(&error))
    }

    /// Limits this run, if there is one, and those to come. Without control groups there is nothing to limit, as when it
    /// was made.
    fn limit(&self, resources: &Resources) -> Result<Reply, Failure> {
        let limits = atoll_container::plan::limits(resources);
        let limits = limits.map_err(|error| Failure { kind: FailureKind::Invalid, message: error.to_string() })?;
        if !matches!(self.stage, Stage::Resting { .. }) {
            self.check_live()?;
            self.cgroup.limit(&limits).map_err(|error| internal(&error))?;
        }
        let mut launch = kept(&self.run).map_err(|error| internal(&error))?;
        let present = &mut launch.spec.linux.get_or_insert_default().resources;
        present.get_or_insert_default().merge(resources).map_err(|error| internal(&error))?;
        keep(&launch).map_err(|error| internal(&error))?;
        Ok(Reply::Done)
    }

    fn freeze(&mut self, frozen: bool) -> Result<Reply, Failure> {
        if !matches!(self.stage, Stage::Running) {
            return Err(not_now("the workload does not run"));
        }
        if frozen && self.current.killed {
            return Err(not_now("the workload is about to end"));
        }
        if self.current.paused == frozen {
            return Err(not_now(if frozen { "the workload is paused" } else { "the workload is not paused" }));
        }
        if self.cgroup.is_none() {
            let message = "the workload cannot be paused: no control groups are delegated to this user".to_owned();
            return Err(Failure { kind: FailureKind::Unsupported, message });
        }
        self.cgroup.freeze(frozen).map_err(|error| internal(&error))?;
        self.current.paused = frozen;
        if !frozen {
            self.begin_checks();
        }
        Ok(Reply::Done)
    }

    /// Runs another program inside. This waits until it has been executed; the workload's output waits as long.
    fn exec(&mut self, exec: Exec) -> Result<i32, Failure> {
        if !matches!(self.stage, Stage::Running) || self.current.paused {
            return Err(not_now("the workload does not run, or is paused"));
        }
        if self.sessions.len() > SESSIONS_MAX {
            return Err(not_now("there are too many exec sessions"));
        }
        let Exec { id, process, user, groups, streams, .. } = exec;
        self.run_inside(Whose::Exec(id), (&process, &user, Some(&groups)), streams)
    }

    /// Runs a program inside, as a user who is in further groups: the workload's own, if none are given.
    pub(super) fn run_inside(
        &mut self,
        whose: Whose,
        (process, user, groups): (&Process, &User, Option<&[String]>),
        wanted: Streams,
    ) -> Result<i32, Failure> {
        let launch = kept(&self.run).map_err(|error| internal(&error))?;
        let (stdio, ours) = session_streams(wanted).map_err(|error| internal(&error))?;
        let inside =
            Inside { pidfd: self.sessions[0].pidfd.as_fd(), cgroup: &self.cgroup, spec: &launch.spec, state: None };
        let more_groups = groups.unwrap_or(&launch.groups);
        let execution = Execution { process, user, more_groups, stdio, preserve_fds: 0 };
        let made = atoll_container::exec(&inside, execution).map_err(|error| of_exec(&error))?;
        let streams = match (ours, made.master) {
            (Some(pipes), _) => pipes,
            (None, Some(master)) => {
                rustix::io::ioctl_fionbio(&master, true).map_err(|error| internal(&std::io::Error::from(error)))?;
                StreamFds::Terminal(master)
            }
            (None, None) => return Err(not_now("the program has no terminal")),
        };
        self.sessions.push(Session::new(whose, (made.pid, made.pidfd), streams, wanted.stdin_once));
        Ok(made.pid)
    }
}
