//! The launching stage: one request in, one workload made, then this program becomes the monitor. The monitor makes further
//! runs of the workload by [`make`], from what is kept of the request.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use atoll_container::{Created, Creation, GroupPolicy, RootSource, StartHandle, StartMode, Stdio};
use atoll_model::{Health, History, Timestamp};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::overlay::{Overlay, Writable};
use atoll_wall::frame::{Decoder, encode_message};
use atoll_wall::launch::{Launch, LifePlan, Root, Streams};
use atoll_wall::message::{Failure, Reply, Request};
use atoll_wall::record::{self, ProcessRecord};
use atoll_wall::{PROTOCOL, SOCKET};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use crate::handover::{self, ClientState, Fds, Life, State, StreamFds};
use crate::{failure, joins, logfile, network};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Where the request is kept, for further runs and for exec sessions.
pub(crate) const LAUNCH: &str = "launch.json";
const BLOCK: usize = 64 << 10;

/// Makes the workload that the daemon asks for on standard input, answers, and becomes its monitor.
pub(crate) fn launch() -> Result<()> {
    // A session of its own: signals of the daemon's terminal do not come here. It fails only for one that leads its
    // group already, which is as good.
    let _ = rustix::process::setsid();
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    let request = receive(&control)?;
    match prepare(*request) {
        Ok(mut state) => {
            // A daemon that has left meanwhile is noticed by the monitor, which then takes the workload away.
            let _ = send(&control, &Reply::Created { pid: state.pid });
            state.fds.clients.push((control, ClientState::INHERITED));
            handover::give(&state)
        }
        Err(failure) => {
            send(&control, &Reply::Failed(failure))?;
            Ok(())
        }
    }
}

fn receive(control: &OwnedFd) -> Result<Box<Launch>> {
    let mut decoder = Decoder::default();
    let mut stream = File::from(control.try_clone()?);
    let mut block = vec![0; BLOCK];
    loop {
        if let Some(frame) = decoder.next_frame()? {
            match frame.message()? {
                Request::Launch(launch) => return Ok(launch),
                _ => bail!("the daemon did not begin with a launch"),
            }
        }
        let count = stream.read(&mut block)?;
        if count == 0 {
            bail!("the daemon left before it said what to launch");
        }
        decoder.push(&block[..count]);
    }
}

fn send(control: &OwnedFd, reply: &Reply) -> Result<()> {
    File::from(control.try_clone()?).write_all(&encode_message(reply)).context("answering the daemon")
}

fn prepare(launch: Launch) -> Result<State, Failure> {
    let io = |error: std::io::Error| failure::internal(&error);
    keep(&launch).map_err(io)?;
    let listener = listen(&launch.run).map_err(io)?;
    let (log, log_file) = logfile::open(launch.log.clone()).map_err(io)?;
    let helper = launch.helper.as_ref().map(|helper| network::connect(helper, &launch.run)).transpose()?;
    let (Made { pid, pidfd, cgroup, streams }, start) = make(&launch)?;
    let start = Some(start.into_fd());
    let LifePlan { restart, restarts, stop, health } = launch.life;
    let history = History { restarts, ..History::default() };
    Ok(State {
        id: launch.id,
        pid,
        cgroup,
        run: launch.run,
        stdin_once: launch.streams.stdin_once,
        log,
        life: Life { restart, history, stop, asked: false },
        health: health.map(|plan| (plan, Health::default())),
        started: Timestamp::NEVER,
        fds: Fds { clients: Vec::new(), listener, pidfd, start, log: log_file, streams, helper },
    })
}

/// Keeps what was asked for in the run folder.
pub(crate) fn keep(launch: &Launch) -> std::io::Result<()> {
    logfile::replace(&launch.run.join(LAUNCH), &serde_json::to_vec(launch)?)
}

/// What was asked for, from the run folder.
pub(crate) fn kept(run: &Path) -> std::io::Result<Launch> {
    Ok(serde_json::from_slice(&std::fs::read(run.join(LAUNCH))?)?)
}

/// One run of a workload.
pub(crate) struct Made {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Cgroup,
    pub(crate) streams: StreamFds,
}

impl Made {
    /// Ends what is not let go. What cannot be removed is nobody's loss but the host's.
    pub(crate) fn take_away(pidfd: &OwnedFd, cgroup: &Cgroup) {
        let _ = atoll_sys::pidfd::kill(pidfd, 9);
        let _ = atoll_sys::pidfd::wait(pidfd);
        let _ = cgroup.remove();
    }
}

/// Makes a run of a workload, to be let go.
pub(crate) fn make(launch: &Launch) -> Result<(Made, StartHandle), Failure> {
    let io = |error: std::io::Error| failure::internal(&error);
    let mut launch = launch.clone();
    let joined = joins::open(&mut launch)?;
    let (stdio, ours) = streams(launch.streams).map_err(io)?;
    let root = match launch.root {
        Root::Folder { path } => RootSource::Path(path),
        Root::Overlay { base, lower, upper, work, volatile } => {
            RootSource::Overlay(Overlay { base, lowers: lower, writable: Some(Writable { upper, work, volatile }) })
        }
    };
    let mut created = atoll_container::create(Creation {
        id: &launch.id,
        spec: &launch.spec,
        bundle: &launch.run,
        root,
        user: &launch.user,
        more_groups: &launch.groups,
        stdio,
        start: StartMode::Caller,
        preserve_fds: 0,
        keyring: true,
        pivot: true,
        groups: GroupPolicy::default(),
    })
    .map_err(|error| failure::of_create(&error))?;
    drop(joined);
    let streams = settle(&launch.run, &mut created, ours);
    let Created { pid, pidfd, cgroup, start, .. } = created;
    match (streams, start) {
        (Ok(streams), Some(start)) => Ok((Made { pid, pidfd, cgroup, streams }, start)),
        (streams, _) => {
            Made::take_away(&pidfd, &cgroup);
            Err(io(streams.err().unwrap_or_else(|| std::io::Error::other("it cannot be started by its creator"))))
        }
    }
}

/// The namespace of the workload's network ends with the workload's last run.
pub(crate) fn let_network_go() -> std::io::Result<()> {
    let nothing = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::stdio::dup2_stdout(&nothing)?)
}

/// What is left to do once the workload is there.
fn settle(run: &Path, created: &mut Created, ours: Option<StreamFds>) -> std::io::Result<StreamFds> {
    let streams = match (ours, created.master.take()) {
        (Some(pipes), _) => pipes,
        (None, Some(master)) => StreamFds::Terminal(master),
        (None, None) => return Err(std::io::Error::other("the container has no terminal")),
    };
    set_nonblocking(&streams)?;
    write_record(run, created)?;
    Ok(streams)
}

/// The socket, bound by way of its folder's descriptor: its path may be longer than a socket's address.
fn listen(run: &Path) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let folder = rustix::fs::open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match std::fs::remove_file(run.join(SOCKET)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The workload's ends of its streams, and ours where they are pipes.
fn streams(wanted: Streams) -> std::io::Result<(Stdio, Option<StreamFds>)> {
    if let Some(size) = wanted.terminal {
        return Ok((Stdio::Terminal { rows: size.rows, cols: size.columns }, None));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (their_stdin, stdin) = if wanted.stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    let (stdout, their_stdout) = pipe()?;
    let (stderr, their_stderr) = pipe()?;
    let theirs = Stdio::Fds { stdin: their_stdin, stdout: their_stdout, stderr: their_stderr };
    Ok((theirs, Some(StreamFds::Pipes { stdin, stdout, stderr })))
}

/// The streams of an exec session are made in the same way.
pub(crate) fn session_streams(wanted: Streams) -> std::io::Result<(Stdio, Option<StreamFds>)> {
    let (stdio, ours) = streams(wanted)?;
    ours.as_ref().map_or(Ok(()), set_nonblocking)?;
    Ok((stdio, ours))
}

fn set_nonblocking(streams: &StreamFds) -> std::io::Result<()> {
    let set = |fd: &OwnedFd| rustix::io::ioctl_fionbio(fd, true);
    match streams {
        StreamFds::Terminal(master) => set(master)?,
        StreamFds::Pipes { stdin, stdout, stderr } => {
            stdin.as_ref().map_or(Ok(()), set)?;
            set(stdout)?;
            set(stderr)?;
        }
    }
    Ok(())
}

/// Who supervises what, for a daemon that was not there.
fn write_record(run: &Path, created: &Created) -> std::io::Result<()> {
    let process = |pid| -> std::io::Result<ProcessRecord> {
        Ok(ProcessRecord { pid, start_time: atoll_sys::proc::start_time(pid)? })
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let record = record::Shim {
        protocol: PROTOCOL,
        boot: atoll_sys::proc::boot_id()?,
        shim: process(own)?,
        init: process(created.pid)?,
        cgroup: created.cgroup.to_string(),
        restarts: 0,
        asked: false,
    };
    crate::logfile::replace(&run.join(record::SHIM), &serde_json::to_vec(&record)?)
}

/// Notes in the record what a daemon is to know that finds no supervisor any more.
pub(crate) fn note_life(run: &Path, restarts: u32, asked: bool) -> std::io::Result<()> {
    let path = run.join(record::SHIM);
    let record: record::Shim = serde_json::from_slice(&std::fs::read(&path)?)?;
    crate::logfile::replace(&path, &serde_json::to_vec(&record::Shim { restarts, asked, ..record })?)
}
