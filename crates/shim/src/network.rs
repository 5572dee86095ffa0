//! The program of the host that connects a workload of an ordinary user to the network: started before the workload, ended
//! after it, whether or not there is a daemon. What it is told is the daemon's plan.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_sys::helper::Helper;
use atoll_wall::launch::NetworkHelper;
use atoll_wall::message::{Failure, FailureKind};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::thread::CapabilitySet;

use crate::failure;

/// Where the program says what is wrong, in the run folder.
const LOG: &str = "network.log";
/// How long it may take to connect the workload.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of what it says that are read.
const SAID_MAX: u64 = 4096;

/// Connects a workload; the program is killed when this is dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub(crate) struct Connected(OwnedFd);

impl Connected {
    /// The one with this descriptor.
    pub(crate) fn from_fd(process: OwnedFd) -> Self {
        Self(process)
    }

    /// Its descriptor.
    pub(crate) fn as_fd(&self) -> &OwnedFd {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // One that has ended needs no signal and is collected as well.
        let _ = atoll_sys::pidfd::kill(&self.0, 9);
        let _ = atoll_sys::pidfd::wait(&self.0);
    }
}

/// Starts the program on the namespace that is this process's standard output (`wall::NETWORK_FD`), and waits until the
/// workload is connected and its ports are published.
pub(crate) fn connect(plan: &NetworkHelper, run: &Path) -> Result<Connected, Failure> {
    let io = |error: std::io::Error| failure::internal(&error);
    let log = File::create(run.join(LOG)).map_err(io)?;
    let (ready, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| io(error.into()))?;
    let namespace = std::io::stdout();
    let helper = Helper {
        program: &plan.program,
        arguments: &plan.arguments,
        folder: run,
        streams: [namespace.as_fd(), theirs.as_fd(), log.as_fd()],
        // To enter the namespace, to set its interface up, and to give up what is not needed: both do.
        capabilities: CapabilitySet::SYS_ADMIN
            | CapabilitySet::NET_ADMIN
            | CapabilitySet::NET_BIND_SERVICE
            | CapabilitySet::SETPCAP,
    };
    let connected = Connected(helper.start().map_err(io)?);
    drop(theirs);
    wait_ready(File::from(ready), &plan.ready).map_err(|why| refused(plan, run, &why))?;
    for request in &plan.requests {
        ask(plan, run, request).map_err(|why| refused(plan, run, &why))?;
    }
    Ok(connected)
}

/// Waits for the word.
fn wait_ready(mut said: File, word: &str) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    let mut block = [0; 256];
    while !text.windows(word.len()).any(|window| window == word.as_bytes()) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|error| error.to_string())?;
        let mut fds = [PollFd::new(&said, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(format!("it was not ready within {} s", PATIENCE.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.to_string()),
        }
        match said.read(&mut block).map_err(|error| error.to_string())? {
            0 => return Err("it ended".to_owned()),
            count => text.extend_from_slice(&block[..count]),
        }
    }
    Ok(())
}

/// One request on a connection of its own.
fn ask(plan: &NetworkHelper, run: &Path, request: &str) -> Result<(), String> {
    let socket = plan.socket.as_deref().ok_or("it takes no requests")?;
    let exchange = || -> std::io::Result<String> {
        let mut stream = File::from(atoll_sys::fd::connect_stream(&run.join(socket))?);
        stream.write_all(request.as_bytes())?;
        rustix::net::shutdown(&stream, rustix::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.take(SAID_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| error.to_string())?;
    let value: serde_json::Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
    match value.get("error") {
        None => Ok(()),
        Some(error) => Err(format!("{request}: {error}")),
    }
}

/// What it said, for whoever wanted the workload.
fn refused(plan: &NetworkHelper, run: &Path, why: &str) -> Failure {
    let mut said = String::new();
    if let Ok(log) = File::open(run.join(LOG)) {
        // What is no text is left out.
        let _ = log.take(SAID_MAX).read_to_string(&mut said);
    }
    let said = said.trim().replace('\n', "; ");
    let message = format!("{} did not connect the workload to the network: {why}: {said}", plan.program.display());
    Failure { kind: FailureKind::Internal, message: message.trim_end_matches([':', ' ']).to_owned() }
}
