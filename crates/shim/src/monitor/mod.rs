//! The monitor: one loop over everything that can happen, until the workload has ended and everybody knows.
//!
//! ```text
//!   Waiting ──Start──► Running ──first process ends──► Draining ──output handed on──► Telling ──sent──► (end)
//!      │                  ▲                                │                             ▲
//!      │                  └──due──── Resting ◄─again───────┘                             │
//!      │                                └──somebody wants its end, or it cannot run──────┤
//!      └──Abandon, or a start that fails─────────────────────────────────────────────────┘
//! ```
//!
//! *Draining*: everything left in the cgroup is killed, what the streams still hold is written to the log and to whoever
//! is attached. *Resting*: nothing is left of the last run but its network and the record of its end, which says that another
//! follows. *Telling*: the exit record is on disk, the cgroup is gone, the event is on its way; a client that takes
//! nothing for [`PATIENCE`] is left behind. Only these three stages ever wait with a time-out, and a workload whose
//! health is checked does (`health`); an idle one's monitor sleeps.

mod connection;
mod health;
mod requests;
mod restart;
mod session;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use atoll_container::StartHandle;
use atoll_model::{Exit, Timestamp};
use atoll_sys::cgroup::Cgroup;
use atoll_wall::PROTOCOL_OLDEST;
use atoll_wall::frame::encode_message;
use atoll_wall::message::{Event, Reply};
use atoll_wall::record;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;

use crate::handover::{Life, State};
use crate::logfile::Writer;
use crate::network::Connected;
use connection::Connection;
use health::Checks;
use session::{Session, Whose};

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// The version of the messages that has restarts and checks.
const RESTARTS: u32 = 2;
/// How long a client may take nothing when the workload has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the workload stands.
#[derive(Debug)]
enum Stage {
    Waiting(StartHandle),
    Running,
    /// Its first process has ended like this.
    Draining(Exit),
    /// It has ended like this, and runs again when that is due.
    Resting {
        exit: Exit,
        due: Instant,
    },
    /// Nothing is left of it.
    Telling,
}

/// The supervisor of one workload.
#[derive(Debug)]
struct Monitor {
    id: String,
    run: PathBuf,
    cgroup: Cgroup,
    listener: OwnedFd,
    log: Writer,
    stage: Stage,
    life: Life,
    current: Run,
    /// The workload's own streams first, then those of exec sessions.
    sessions: Vec<Session>,
    connections: Vec<Connection>,
    /// Who connects the workload to the network, until it has ended.
    helper: Option<Connected>,
    /// Connections get numbers that are not used again.
    next_connection: u64,
}

/// One run of the workload.
#[derive(Debug)]
struct Run {
    /// When it was let go.
    started: Timestamp,
    /// The same by a clock that is never set.
    since: Instant,
    paused: bool,
    /// Whether everything in it was sent SIGKILL: frozen now, it would not die.
    killed: bool,
    checks: Option<Checks>,
}

/// Supervises the workload that was handed over, to its end.
pub(crate) fn run(state: State) -> Result<()> {
    let mut monitor = Monitor::new(state)?;
    while !monitor.is_done() {
        if monitor.is_due() {
            monitor = monitor.again()?;
        } else {
            monitor.turn()?;
        }
    }
    Ok(())
}

/// The time by the host's clock.
fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Listener,
    Process(usize),
    Output(usize, usize),
    Input(usize),
    Log,
    Connection(usize),
}

impl Monitor {
    fn new(state: State) -> Result<Self> {
        let init = Session::new(Whose::Init, (state.pid, state.fds.pidfd), state.fds.streams, state.stdin_once);
        let mut monitor = Self {
            id: state.id,
            run: state.run,
            cgroup: state.cgroup,
            listener: state.fds.listener,
            log: Writer::new(state.log, state.fds.log),
            stage: state.fds.start.map_or(Stage::Running, |start| Stage::Waiting(StartHandle::from_fd(start))),
            life: state.life,
            current: Run {
                started: state.started,
                since: Instant::now(),
                paused: false,
                killed: false,
                checks: state.health.map(|(plan, health)| Checks::new(plan, health)),
            },
            sessions: vec![init],
            connections: Vec::new(),
            helper: state.fds.helper,
            next_connection: 0,
        };
        for (stream, client) in state.fds.clients {
            monitor.adopt(stream, |number, stream| Connection::inherited(number, stream, client))?;
        }
        Ok(monitor)
    }

    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Telling) && self.connections.iter().all(|connection| !connection.has_output())
    }

    fn adopt(&mut self, stream: OwnedFd, make: impl FnOnce(u64, OwnedFd) -> Connection) -> Result<()> {
        rustix::io::ioctl_fionbio(&stream, true)?;
        self.connections.push(make(self.next_connection, stream));
        self.next_connection += 1;
        Ok(())
    }

    /// Waits for something to happen, and acts on it.
    fn turn(&mut self) -> Result<()> {
        let ready = self.wait()?;
        if ready.is_empty() && matches!(self.stage, Stage::Draining(_) | Stage::Telling) {
            // Nobody has taken anything for too long.
            self.connections.retain(|connection| !connection.has_output());
        }
        for (source, flags) in ready {
            match source {
                Source::Listener => self.accept(),
                Source::Process(index) => self.process_ended(index)?,
                Source::Output(session, output) => self.pump_output(session, output),
                Source::Input(session) => self.sessions[session].pump_input(),
                Source::Log => self.log.pump(),
                Source::Connection(index) => self.serve(index, flags),
            }
        }
        self.drop_closed();
        self.finish_sessions()?;
        self.check_health();
        Ok(())
    }

    /// What is ready. Interest is what backpressure allows: output is read while everyone attached keeps up.
    fn wait(&self) -> Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Listener];
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        for (index, session) in self.sessions.iter().enumerate() {
            if session.exit.is_none() {
                sources.push(Source::Process(index));
                fds.push(PollFd::new(&session.pidfd, PollFlags::IN));
            }
            if !self.is_congested(&session.whose) {
                for (number, output) in session.outputs.iter().enumerate() {
                    let Some(fd) = &output.fd else { continue };
                    sources.push(Source::Output(index, number));
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
            if let Some(fd) = session.input_waiting() {
                sources.push(Source::Input(index));
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
            }
        }
        if let Some(fd) = self.log.waits_for() {
            sources.push(Source::Log);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::OUT, connection.has_output());
            interest.set(PollFlags::IN, self.may_read(connection));
            sources.push(Source::Connection(index));
            fds.push(PollFd::from_borrowed_fd(connection.as_fd(), interest));
        }
        let timeout = self.patience().map(Timespec::try_from).transpose()?;
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let flags: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        Ok(sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// How long nothing needs to happen.
    fn patience(&self) -> Option<Duration> {
        match self.stage {
            Stage::Waiting(_) => None,
            Stage::Running => self.health_due().map(|due| due.saturating_duration_since(Instant::now())),
            Stage::Resting { due, .. } => Some(due.saturating_duration_since(Instant::now())),
            Stage::Draining(_) | Stage::Telling => Some(PATIENCE),
        }
    }

    /// Whether a client coupled to these streams has not taken what was read before.
    fn is_congested(&self, whose: &Whose) -> bool {
        self.connections.iter().any(|connection| connection.is_coupled_to(whose) && connection.is_congested())
    }

    /// A client whose workload takes no more input is not read from.
    fn may_read(&self, connection: &Connection) -> bool {
        let Some(coupling) = &connection.coupling else { return true };
        let session = self.sessions.iter().find(|session| session.whose == coupling.whose);
        !coupling.attach.stdin || session.is_none_or(|session| !session.input_is_full())
    }

    fn accept(&mut self) {
        // A client that left before it was accepted is none.
        let Ok(stream) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        if self.connections.len() < CONNECTIONS_MAX && connection::is_trusted(&stream) {
            let _ = self.adopt(stream, Connection::accepted);
        }
    }

    /// Collects a process that has ended.
    fn process_ended(&mut self, index: usize) -> Result<()> {
        if matches!(self.stage, Stage::Waiting(_)) {
            // Killed before it was let go.
            self.abandon();
            return Ok(());
        }
        let session = &mut self.sessions[index];
        let Some(exit) = atoll_sys::pidfd::try_wait(&session.pidfd)? else { return Ok(()) };
        let mut exit = Exit { code: i32::from(exit.status()), oom_killed: false, at: now() };
        session.exit = Some(exit);
        if session.whose != Whose::Init {
            return Ok(());
        }
        exit.oom_killed = oom_kills(&self.cgroup) > 0;
        // The end of its pid namespace has killed the rest, unless it shares the host's.
        let _ = self.cgroup.kill();
        self.stage = Stage::Draining(exit);
        Ok(())
    }

    /// Hands on what a stream has.
    fn pump_output(&mut self, index: usize, output: usize) {
        let session = &mut self.sessions[index];
        let Some(chunk) = session.read(output) else { return };
        let (stream, bytes) = (chunk.stream, chunk.bytes);
        match session.whose {
            Whose::Init => {
                let at = (stream, now());
                session.outputs[output].lines.push(&bytes, at, &mut self.log);
                self.log.flush(at.1);
            }
            Whose::Check => {
                if let Some(checks) = &mut self.current.checks {
                    checks.said(&bytes);
                }
            }
            Whose::Exec(_) => {}
        }
        let session = &self.sessions[index];
        for connection in &mut self.connections {
            connection.offer(&session.whose, stream, &bytes);
        }
    }

    /// What comes after the last of a session's output: its lines are finished, and its end is told.
    fn finish_sessions(&mut self) -> Result<()> {
        // Sessions of a workload that has ended have been killed with it; their ends come first.
        for index in (1..self.sessions.len()).rev() {
            if let Some(exit) = self.sessions[index].exit
                && self.sessions[index].is_drained()
            {
                let session = self.sessions.remove(index);
                match &session.whose {
                    Whose::Exec(id) => {
                        let event = Event::ExecExited { id: id.clone(), exit };
                        self.tell(&event);
                        self.part(&session.whose, &event);
                    }
                    Whose::Check => self.checked(exit.code),
                    Whose::Init => {}
                }
            }
        }
        let Stage::Draining(exit) = self.stage else { return Ok(()) };
        if self.sessions.len() > 1 || !self.sessions[0].is_drained() || self.is_congested(&Whose::Init) {
            return Ok(());
        }
        let at = now();
        for output in &mut self.sessions[0].outputs {
            output.lines.finish((output.stream, at), &mut self.log);
        }
        self.log.flush(at);
        self.remove_cgroup();
        self.run_ended(exit)
    }

    /// Tells those who watch, in words that they know.
    fn tell(&mut self, event: &Event) {
        let message = encode_message(&Reply::Event(event.clone()));
        let since = match event {
            Event::Exited { .. } | Event::ExecExited { .. } => PROTOCOL_OLDEST,
            Event::Resting { .. } | Event::Restarted { .. } | Event::Checked { .. } => RESTARTS,
        };
        for connection in &mut self.connections {
            if connection.watches && connection.protocol >= Some(since) {
                connection.send(&message);
            }
        }
    }

    /// The last word to those who were coupled to streams.
    fn part(&mut self, whose: &Whose, event: &Event) {
        for connection in &mut self.connections {
            if connection.is_coupled_to(whose) {
                connection.reply(&Reply::Event(event.clone()));
                connection.close_when_sent();
            }
        }
    }

    fn remove_cgroup(&self) {
        if let Err(error) = self.cgroup.remove() {
            crate::complain(&anyhow::Error::from(error).context("removing the workload's cgroup"));
        }
    }

    /// Takes away a workload that was never let go.
    fn abandon(&mut self) {
        let _ = atoll_sys::pidfd::kill(&self.sessions[0].pidfd, 9);
        let _ = atoll_sys::pidfd::wait(&self.sessions[0].pidfd);
        let _ = self.cgroup.kill();
        self.remove_cgroup();
        self.helper = None;
        // Whoever looks later finds that nothing was let go, not that something was lost.
        let _ = std::fs::remove_file(self.run.join(record::SHIM));
        self.sessions[0].exit = Some(Exit::unknown(now()));
        self.stage = Stage::Telling;
    }

    /// Lets clients that have left go, and what belonged to them.
    fn drop_closed(&mut self) {
        let mut orphaned = false;
        for connection in self.connections.extract_if(.., |connection| connection.is_closed()) {
            orphaned |= connection.watches;
            let Some(coupling) = connection.coupling.filter(|coupling| coupling.attach.stdin) else { continue };
            if let Some(session) = self.sessions.iter_mut().find(|session| session.whose == coupling.whose) {
                session.client_left();
            }
        }
        if orphaned && matches!(self.stage, Stage::Waiting(_)) {
            // The daemon that would have let it go is gone, and whoever asked for it with that.
            self.abandon();
        }
    }
}

/// Processes that the kernel has killed in this group for want of memory.
fn oom_kills(cgroup: &Cgroup) -> u64 {
    let Some(folder) = cgroup.folder("memory") else { return 0 };
    let file = if cgroup.is_unified() { "memory.events" } else { "memory.oom_control" };
    let read = |path: PathBuf| -> std::io::Result<String> { std::io::read_to_string(File::open(path)?) };
    let text = read(folder.join(file)).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}
