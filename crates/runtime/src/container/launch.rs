//! Starting a supervisor and having it make a workload.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{LifeCycle, Workload, signal_number};
use atoll_oci::runtime::Spec;
use atoll_wall::PROTOCOL;
use atoll_wall::frame::{Decoder, encode_message};
use atoll_wall::launch::{HealthPlan, Launch, LifePlan, StopPlan};
use atoll_wall::message::{Attach, Reply, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::handle::next_reply;
use crate::{Error, ExecPlan, Handle, Plan, spec};

/// What a supervisor has to say when it cannot speak any more.
const LOG: &str = "shim.log";
/// How much of that is passed on, in bytes.
const SAID_MAX: u64 = 2048;
/// How long a supervisor that hung up may take to be gone.
const ENDING: Duration = Duration::from_secs(10);

pub(super) async fn launch(shim: &Path, plan: Plan, spec: Spec) -> Result<Handle, Error> {
    let run = plan.run.clone();
    let life = life(&plan)?;
    let launch = Launch {
        id: plan.workload.id.to_string(),
        spec,
        user: plan.workload.command.user.clone(),
        groups: plan.workload.command.groups.clone(),
        root: plan.root,
        streams: plan.streams,
        log: plan.log,
        run: plan.run,
        helper: plan.helper,
        joins: plan.joins,
        life,
    };
    let short = plan.workload.id.short().to_string();
    let (mut stream, mut child) = spawn(shim, &run, &short, plan.network)?;
    let result = converse(&mut stream, launch).await;
    match result {
        Ok((pid, decoder)) => {
            // The kernel keeps an ended child until its parent asks for it.
            tokio::spawn(async move { drop(child.wait().await) });
            Ok(Handle::new(pid, PROTOCOL, run, stream, decoder))
        }
        Err(error) => {
            drop(stream);
            Err(explain(error, &mut child, &run).await)
        }
    }
}

/// What happens when a run ends, and how to learn whether the workload is well.
fn life(plan: &Plan) -> Result<LifePlan, Error> {
    let workload = &plan.workload;
    let life = &workload.life;
    let default = StopPlan::default();
    let timeout = life.stop_timeout_s.unwrap_or(LifeCycle::STOP_TIMEOUT_S);
    let stop = StopPlan {
        signal: signal_number(&life.stop_signal).unwrap_or(default.signal),
        timeout: u64::try_from(timeout).ok().map(Duration::from_secs),
    };
    let health = life.health.args().map(|args| health(workload, args)).transpose()?;
    Ok(LifePlan { restart: life.restart, restarts: plan.restarts, stop, health })
}

/// A check is run as an exec session is.
fn health(workload: &Arc<Workload>, args: Vec<String>) -> Result<HealthPlan, Error> {
    let exec = spec::exec(ExecPlan {
        id: String::new(),
        workload: Arc::clone(workload),
        args,
        env: Vec::new(),
        working_dir: String::new(),
        user: String::new(),
        privileged: false,
        terminal: None,
        attach: Attach::default(),
    })?;
    Ok(HealthPlan { check: workload.life.health.clone(), process: exec.process, user: exec.user })
}

fn spawn(shim: &Path, run: &Path, short: &str, network: Option<OwnedFd>) -> Result<(UnixStream, Child), Error> {
    let failed = |source| Error::Spawn { program: shim.to_owned(), source };
    let log = File::create(run.join(LOG)).map_err(Error::io(format!("making {LOG} in {}", run.display())))?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let child = Command::new(shim)
        .args(["launch", short])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // What wall::NETWORK_FD says.
        .stdout(network.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::from(log))
        .kill_on_drop(false)
        .spawn()
        .map_err(failed)?;
    Ok((UnixStream::from_std(ours).map_err(failed)?, child))
}

async fn converse(stream: &mut UnixStream, launch: Launch) -> Result<(i32, Decoder), Error> {
    let request = encode_message(&Request::Launch(Box::new(launch)));
    stream.write_all(&request).await.map_err(|_| Error::Gone)?;
    let mut decoder = Decoder::default();
    match next_reply(stream, &mut decoder).await? {
        Reply::Created { pid } => Ok((pid, decoder)),
        Reply::Failed(failure) => Err(Error::Failed(failure)),
        _ => Err(Error::Protocol("another reply than that it is created")),
    }
}

/// Waits for a supervisor that failed, so that nothing of it is in the way of the next, and reads its last words.
async fn explain(error: Error, child: &mut Child, run: &Path) -> Error {
    let status = match tokio::time::timeout(ENDING, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => return error,
    };
    match error {
        Error::Gone => Error::Died { status, said: last_words(run).unwrap_or_default() },
        error => error,
    }
}

fn last_words(run: &Path) -> std::io::Result<String> {
    let mut file = File::open(run.join(LOG))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SAID_MAX)))?;
    let mut bytes = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
