//! What is handed to the monitor over an `execve` of this program, by the launching stage or by the monitor before it: a
//! small document in a memfd, which names the descriptors that stay open.

use std::ffi::{CStr, CString};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use atoll_model::{Health, History, Restart, Timestamp};
use atoll_sys::cgroup::Cgroup;
use atoll_wall::launch::{HealthPlan, LogPlan, StopPlan};
use serde::{Deserialize, Serialize};

use crate::network::Connected;

/// The program executes itself through this link, and so stays on its read-only mount.
const SELF: &CStr = c"/proc/self/exe";
/// Characters of a short identifier.
const SHORT: usize = 12;

/// Everything that the monitor needs to know.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) cgroup: Cgroup,
    pub(crate) run: PathBuf,
    pub(crate) stdin_once: bool,
    pub(crate) log: LogState,
    pub(crate) life: Life,
    /// Its checks, and what they came to before this run.
    pub(crate) health: Option<(HealthPlan, Health)>,
    /// When this run was let go; never, while it waits for the daemon's word.
    pub(crate) started: Timestamp,
    pub(crate) fds: Fds,
}

/// Whether the workload is started again, and how it is ended for that.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) restart: Restart,
    pub(crate) history: History,
    pub(crate) stop: StopPlan,
    /// Whether somebody wants its end.
    pub(crate) asked: bool,
}

/// A connection, but for its descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClientState {
    /// The version that is spoken; none before it was agreed upon.
    pub(crate) protocol: Option<u32>,
    /// Whether it is told events.
    pub(crate) watches: bool,
    /// Whether it is closed when everything is sent.
    pub(crate) ending: bool,
    /// What came from it and is not a whole frame yet.
    pub(crate) unread: Vec<u8>,
    /// What it is still to get.
    pub(crate) unsent: Vec<u8>,
}

impl ClientState {
    /// Of the connection that a supervisor is started with.
    pub(crate) const INHERITED: Self = Self {
        protocol: Some(atoll_wall::PROTOCOL),
        watches: true,
        ending: false,
        unread: Vec::new(),
        unsent: Vec::new(),
    };
}

/// The log as it was left: a file's size and number mean nothing where another process writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogState {
    pub(crate) plan: LogPlan,
    /// Bytes of whole records, header included.
    pub(crate) size: u64,
    pub(crate) sequence: u64,
    /// Bytes of records that did not fit since the last one that did.
    pub(crate) dropped: u64,
    /// What another process is still to get.
    pub(crate) waiting: Vec<u8>,
}

impl LogState {
    /// Of a log that has nothing yet.
    pub(crate) const fn new(plan: LogPlan) -> Self {
        Self { plan, size: 0, sequence: 0, dropped: 0, waiting: Vec::new() }
    }
}

/// The descriptors.
#[derive(Debug)]
pub(crate) struct Fds {
    /// The daemon, and whoever else is connected.
    pub(crate) clients: Vec<(OwnedFd, ClientState)>,
    pub(crate) listener: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    /// To let it go; none, when it runs.
    pub(crate) start: Option<OwnedFd>,
    pub(crate) log: OwnedFd,
    pub(crate) streams: StreamFds,
    /// Who connects the workload to the network.
    pub(crate) helper: Option<Connected>,
}

/// Our ends of the workload's streams.
#[derive(Debug)]
pub(crate) enum StreamFds {
    Terminal(OwnedFd),
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
}

/// The same with numbers for descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    id: String,
    pid: i32,
    cgroup: String,
    run: PathBuf,
    stdin_once: bool,
    log: LogState,
    life: Life,
    health: Option<(HealthPlan, Health)>,
    started: Timestamp,
    clients: Vec<(i32, ClientState)>,
    listener: i32,
    pidfd: i32,
    start: Option<i32>,
    log_file: i32,
    streams: StreamNumbers,
    helper: Option<i32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StreamNumbers {
    Terminal(i32),
    Pipes(Option<i32>, i32, i32),
}

/// Becomes the monitor; returns only when that fails.
pub(crate) fn give(state: &State) -> Result<()> {
    let fds = &state.fds;
    let keep = |fd: &OwnedFd| -> Result<i32> {
        atoll_sys::fd::keep_on_exec(fd)?;
        Ok(fd.as_raw_fd())
    };
    let document = Document {
        id: state.id.clone(),
        pid: state.pid,
        cgroup: state.cgroup.to_string(),
        run: state.run.clone(),
        stdin_once: state.stdin_once,
        log: state.log.clone(),
        life: state.life,
        health: state.health.clone(),
        started: state.started,
        clients: fds.clients.iter().map(|(fd, client)| Ok((keep(fd)?, client.clone()))).collect::<Result<_>>()?,
        listener: keep(&fds.listener)?,
        pidfd: keep(&fds.pidfd)?,
        start: fds.start.as_ref().map(keep).transpose()?,
        log_file: keep(&fds.log)?,
        streams: match &fds.streams {
            StreamFds::Terminal(master) => StreamNumbers::Terminal(keep(master)?),
            StreamFds::Pipes { stdin, stdout, stderr } => {
                StreamNumbers::Pipes(stdin.as_ref().map(keep).transpose()?, keep(stdout)?, keep(stderr)?)
            }
        },
        helper: fds.helper.as_ref().map(|helper| keep(helper.as_fd())).transpose()?,
    };
    let memory = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::empty())?;
    let mut memory = std::fs::File::from(memory);
    memory.write_all(&serde_json::to_vec(&document)?)?;
    memory.seek(SeekFrom::Start(0))?;
    let number = memory.as_fd().as_raw_fd().to_string();
    // Whose supervisor it is, for `ps`.
    let short = state.id.get(..SHORT).unwrap_or(&state.id);
    let arguments = ["atoll-shim", "monitor", short, &number];
    let arguments: Vec<CString> = arguments.into_iter().map(CString::new).collect::<Result<_, _>>()?;
    Err(atoll_sys::process::execve(SELF, &arguments, &[])).context("becoming the monitor")
}

/// What was handed over, on descriptor `number`.
pub(crate) fn take(number: i32) -> Result<State> {
    let take = |number| atoll_sys::fd::take_inherited(number).context("taking over a descriptor");
    let mut text = Vec::new();
    std::fs::File::from(take(number)?).read_to_end(&mut text)?;
    let document: Document = serde_json::from_slice(&text).context("reading the state that was handed over")?;
    let streams = match document.streams {
        StreamNumbers::Terminal(master) => StreamFds::Terminal(take(master)?),
        StreamNumbers::Pipes(stdin, stdout, stderr) => {
            StreamFds::Pipes { stdin: stdin.map(take).transpose()?, stdout: take(stdout)?, stderr: take(stderr)? }
        }
    };
    Ok(State {
        id: document.id,
        pid: document.pid,
        cgroup: document.cgroup.parse().context("the cgroup that was handed over")?,
        run: document.run,
        stdin_once: document.stdin_once,
        log: document.log,
        life: document.life,
        health: document.health,
        started: document.started,
        fds: Fds {
            clients: document.clients.into_iter().map(|(fd, client)| Ok((take(fd)?, client))).collect::<Result<_>>()?,
            listener: take(document.listener)?,
            pidfd: take(document.pidfd)?,
            start: document.start.map(take).transpose()?,
            log: take(document.log_file)?,
            streams,
            helper: document.helper.map(take).transpose()?.map(Connected::from_fd),
        },
    })
}
