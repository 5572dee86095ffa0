//! A workload that a supervisor holds, as its engine sees it.
//!
//! Requests go over one control connection that is kept; each attached client and exec session gets a connection of its
//! own to the supervisor's socket, whose first two messages (greeting and request) are sent together.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Exit, Resources, Restart, Timestamp};
use atoll_wall::frame::{Decoder, Kind, encode_message};
use atoll_wall::launch::Size;
use atoll_wall::message::{Attach, Exec, Failure, FailureKind, Reply, Request, State, Target};
use atoll_wall::{PROTOCOL, PROTOCOL_OLDEST, SOCKET};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::control::Control;
use crate::events::Hub;
use crate::{Error, Events, ExecPlan, StreamReader, StreamWriter, spec, stream};

/// How long a supervisor may take to answer on a fresh connection. It is single-threaded but never blocks.
const GREETING: Duration = Duration::from_secs(30);
/// How long it may take to end once it was told to.
const ENDING: Duration = Duration::from_secs(30);
/// The version of the messages that has restart policies.
const RESTARTS: u32 = 2;
const BLOCK: usize = 4096;

/// Both directions of a coupled client.
pub type Connection = (StreamWriter, StreamReader);

/// A workload that a supervisor holds. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: i32,
    /// What the supervisor speaks.
    protocol: u32,
    run: PathBuf,
    control: Control,
    hub: Arc<Hub>,
}

impl Handle {
    /// On a connection that gets events already.
    pub(crate) fn new(pid: i32, protocol: u32, run: PathBuf, stream: UnixStream, decoder: Decoder) -> Self {
        let hub = Arc::new(Hub::new());
        let control = Control::new(stream, decoder, Arc::clone(&hub));
        Self { shared: Arc::new(Shared { pid, protocol, run, control, hub }) }
    }

    /// Connects to the supervisor of a run folder.
    pub(crate) async fn connect(run: &Path) -> Result<(Self, State), Error> {
        let (mut stream, mut decoder, protocol) = open(run, &Request::Watch).await?;
        match next_reply(&mut stream, &mut decoder).await? {
            Reply::State(state) => Ok((Self::new(state.pid, protocol, run.to_owned(), stream, decoder), state)),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::Protocol("no state where one was asked for")),
        }
    }

    /// The first process of the workload's run that went on when this was made, in the host's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared.pid
    }

    /// Lets the workload's program run; when that was.
    ///
    /// # Errors
    /// Among others those whose kind is that the program is not there or cannot be executed; the supervisor ends then.
    pub async fn start(&self) -> Result<Timestamp, Error> {
        match self.ask(&Request::Start).await? {
            Reply::Started { at } => Ok(at),
            _ => Err(Error::Protocol("another reply than that it started")),
        }
    }

    /// Takes away a workload that was not started, and waits for that. One that runs is left alone.
    pub async fn abandon(&self) {
        // One that is gone already, or runs, needs nothing.
        if self.ask(&Request::Abandon).await.is_ok()
            && tokio::time::timeout(ENDING, self.shared.hub.closed()).await.is_err()
        {
            tracing::warn!(run = %self.shared.run.display(), "a supervisor was told to end and has not");
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Error::Gone`] when the workload has ended; when there is no such exec session.
    pub async fn signal(&self, target: Target, signal: i32) -> Result<(), Error> {
        self.order(&Request::Signal { target, signal }).await
    }

    /// Changes the size of a terminal.
    ///
    /// # Errors
    /// When there is no terminal, or as [`Handle::signal`].
    pub async fn resize(&self, target: Target, size: Size) -> Result<(), Error> {
        self.order(&Request::Resize { target, size }).await
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// When they are frozen already, or the workload has ended.
    pub async fn pause(&self) -> Result<(), Error> {
        self.order(&Request::Pause).await
    }

    /// Thaws them.
    ///
    /// # Errors
    /// When they are not frozen, or the workload has ended.
    pub async fn resume(&self) -> Result<(), Error> {
        self.order(&Request::Resume).await
    }

    /// All processes inside, in the host's pid namespace.
    ///
    /// # Errors
    /// When the workload has ended.
    pub async fn processes(&self) -> Result<Vec<i32>, Error> {
        match self.ask(&Request::Processes).await? {
            Reply::Processes { pids } => Ok(pids),
            _ => Err(Error::Protocol("another reply than processes")),
        }
    }

    /// Changes limits of a workload that has some of them already; what it was not given stays without.
    ///
    /// # Errors
    /// When the kernel refuses them, or the workload has ended.
    pub async fn limit(&self, before: &Resources, after: &Resources) -> Result<(), Error> {
        let resources = Box::new(spec::change_of_limits(before, after)?);
        self.order(&Request::Limit { resources }).await
    }

    /// Couples a client to the workload's streams, before or after its start. What is written later comes, what was
    /// written before does not.
    ///
    /// # Errors
    /// [`Error::Gone`] when the workload has ended.
    pub async fn attach(&self, attach: Attach) -> Result<Connection, Error> {
        let (mut stream, mut decoder, _) = open(&self.shared.run, &Request::Attach(attach)).await?;
        match next_reply(&mut stream, &mut decoder).await? {
            Reply::Done => Ok(stream::split(stream, decoder)),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::Protocol("another reply than that it is attached")),
        }
    }

    /// Runs a further program inside: its process in the host's pid namespace, and its streams. It goes on when the
    /// connection is dropped, its output unread.
    ///
    /// # Errors
    /// As [`Handle::start`], for the program; when the workload does not run or is frozen.
    pub async fn exec(&self, plan: ExecPlan) -> Result<(i32, Connection), Error> {
        let exec: Exec = spec::exec(plan)?;
        let (mut stream, mut decoder, _) = open(&self.shared.run, &Request::Exec(Box::new(exec))).await?;
        match next_reply(&mut stream, &mut decoder).await? {
            Reply::ExecStarted { pid } => Ok((pid, stream::split(stream, decoder))),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::Protocol("another reply than that it started")),
        }
    }

    /// From now on the workload is not started again when it ends, nor when it waits for that.
    ///
    /// # Errors
    /// [`Error::Gone`] when it has ended.
    pub async fn stay_down(&self) -> Result<(), Error> {
        // An older supervisor starts nothing again.
        if self.shared.protocol < RESTARTS { Ok(()) } else { self.order(&Request::StayDown).await }
    }

    /// Changes the restart policy.
    ///
    /// # Errors
    /// [`Error::Gone`] when the workload has ended; when its supervisor is of a version that has no policies.
    pub async fn set_restart(&self, restart: Restart) -> Result<(), Error> {
        if self.shared.protocol < RESTARTS {
            let message =
                "the container was started by an older version, which has no restart policies: restart it first";
            return Err(Failure { kind: FailureKind::Unsupported, message: message.to_owned() }.into());
        }
        self.order(&Request::SetRestart { restart }).await
    }

    /// Follows the workload. The first follower gets every event since the handle was made; later ones what comes, and
    /// the end if it was before.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.hub.follow()
    }

    /// Waits for the workload's end; `None` when its supervisor went without reporting one.
    pub async fn exited(&self) -> Option<Exit> {
        self.shared.hub.exited().await
    }

    async fn order(&self, request: &Request) -> Result<(), Error> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            _ => Err(Error::Protocol("another reply than that it is done")),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, Error> {
        self.shared.control.ask(request).await
    }
}

/// Connects, greets and asks in one go; the greeting has been answered well when this returns, with the version that is
/// spoken.
async fn open(run: &Path, request: &Request) -> Result<(UnixStream, Decoder, u32), Error> {
    let mut stream = connect(run).await?;
    let mut bytes = encode_message(&Request::Hello { protocol: PROTOCOL });
    bytes.extend_from_slice(&encode_message(request));
    stream.write_all(&bytes).await.map_err(|_| Error::Gone)?;
    let mut decoder = Decoder::default();
    match next_reply(&mut stream, &mut decoder).await? {
        Reply::Hello { protocol, .. } if (PROTOCOL_OLDEST..=PROTOCOL).contains(&protocol) => {
            Ok((stream, decoder, protocol))
        }
        Reply::Hello { .. } => Err(Error::Protocol("a supervisor of a version that this program does not speak")),
        Reply::Failed(failure) => Err(failure.into()),
        _ => Err(Error::Protocol("no greeting")),
    }
}

/// The path of a socket is at most 107 bytes long: it is reached through a descriptor of its folder.
async fn connect(run: &Path) -> Result<UnixStream, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(run, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT) => return Err(Error::Gone),
        Err(error) => return Err(Error::io(format!("opening {}", run.display()))(error.into())),
    };
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder.as_fd());
    match UnixStream::connect(format!("/proc/self/fd/{number}/{SOCKET}")).await {
        Ok(stream) => Ok(stream),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Err(Error::Gone),
            _ => Err(Error::io(format!("connecting to {}", run.join(SOCKET).display()))(error)),
        },
    }
}

/// The next message of a connection on which nothing else is expected.
pub(crate) async fn next_reply(stream: &mut UnixStream, decoder: &mut Decoder) -> Result<Reply, Error> {
    let read = async {
        let mut block = [0; BLOCK];
        loop {
            if let Some(frame) = decoder.next_frame()? {
                if frame.kind != Kind::Message {
                    return Err(Error::Protocol("stream bytes before the answer"));
                }
                return Ok(frame.message()?);
            }
            match stream.read(&mut block).await {
                Ok(0) | Err(_) => return Err(Error::Gone),
                Ok(count) => decoder.push(&block[..count]),
            }
        }
    };
    match tokio::time::timeout(GREETING, read).await {
        Ok(reply) => reply,
        Err(_) => Err(Error::Silent { seconds: GREETING.as_secs() }),
    }
}
