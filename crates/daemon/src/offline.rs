//! What is done to a state while no daemon has it: under the daemon's lock, without a socket.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use atoll_engine::{Depth, Report, Settings};
use clap::Subcommand;

use crate::config::Config;
use crate::instance::{self, LOCK, LOG, Taken};

/// How long a daemon may take to end when it is told to.
const ENDING: Duration = Duration::from_secs(30);
/// How long to wait before the lock is tried again.
const STEP: Duration = Duration::from_millis(20);
const SIGTERM: i32 = 15;

/// What `atolld` does in place of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// End everything that runs and delete everything that is kept; asks nothing
    Reset {
        /// Keep containers, images and volumes: only end what runs and clear the host of it
        #[arg(long)]
        keep_state: bool,
    },
    /// Check what is kept; 0: nothing is wrong, 1: it was and is mended, 4: something is wrong, 8: the check failed
    Fsck {
        /// Mend what can be mended, and remove what is of no use
        #[arg(long)]
        repair: bool,
    },
}

/// Exit codes of a check, as fsck(8) has them.
const MENDED: u8 = 1;
const WRONG: u8 = 4;
const NOT_CHECKED: u8 = 8;

impl Task {
    /// The exit code when it cannot be done.
    pub(crate) fn failure_code(&self) -> ExitCode {
        match self {
            Self::Reset { .. } => ExitCode::FAILURE,
            Self::Fsck { .. } => ExitCode::from(NOT_CHECKED),
        }
    }

    /// The lock, for which a daemon that has it is ended where nothing is to be left of it.
    pub(crate) fn lock(&self, run: &Path) -> Result<File> {
        match self {
            Self::Reset { .. } => take_over(run),
            Self::Fsck { .. } => match instance::lock(run)? {
                Ok(lock) => Ok(lock),
                Err(Taken) => bail!(
                    "a daemon works on this state: end it first (systemctl stop atoll.socket atoll.service, or the process in {}); containers go on",
                    run.join(LOCK).display()
                ),
            },
        }
    }
}

/// The lock, when the daemon that has it has ended.
fn take_over(run: &Path) -> Result<File> {
    let deadline = Instant::now() + ENDING;
    let mut told = false;
    loop {
        if let Ok(lock) = instance::lock(run)? {
            return Ok(lock);
        }
        if !told {
            end_daemon(run)?;
            told = true;
        }
        if Instant::now() > deadline {
            bail!("the daemon of {} does not end: end it first", run.display());
        }
        std::thread::sleep(STEP);
    }
}

/// Tells the daemon that has the lock to end.
fn end_daemon(run: &Path) -> Result<()> {
    let text = std::fs::read_to_string(run.join(LOCK)).context("reading whose the lock is")?;
    let Ok(pid) = text.trim().parse() else { return Ok(()) };
    let Ok(process) = atoll_sys::pidfd::open(pid) else { return Ok(()) };
    // While the lock is held the number is its holder's; what is open is that process if it is held still.
    if matches!(instance::lock(run)?, Err(Taken)) {
        atoll_sys::pidfd::kill(&process, SIGTERM).context("ending the daemon")?;
    }
    Ok(())
}

/// Does it.
pub(crate) async fn run(task: &Task, config: &Config, settings: Settings) -> Result<ExitCode> {
    match task {
        Task::Reset { keep_state } => {
            let depth = if *keep_state { Depth::Run } else { Depth::State };
            let foreign = atoll_engine::reset(&settings, depth).await?;
            clear_run(config)?;
            for path in foreign.iter().filter(|path| **path != config.run) {
                say(&format!("{} is not Atoll's: it stays", path.display()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Fsck { repair } => {
            let report = atoll_engine::fsck(&settings, *repair).await?;
            Ok(ExitCode::from(tell(&report)))
        }
    }
}

/// Says what a check came to.
fn tell(report: &Report) -> u8 {
    for sentence in &report.found {
        let mended = if report.left.contains(sentence) { "" } else { " (mended)" };
        say(&format!("{sentence}{mended}"));
    }
    for sentence in report.left.iter().filter(|sentence| !report.found.contains(sentence)) {
        say(sentence);
    }
    match (report.found.is_empty(), report.left.is_empty()) {
        (true, _) => 0,
        (false, true) => MENDED,
        (false, false) => WRONG,
    }
}

/// Removes what the daemon itself has in the run folder, the lock last. A socket on which somebody listens is systemd's.
fn clear_run(config: &Config) -> Result<()> {
    let socket = config.socket();
    if !is_listened_on(&socket)? {
        remove(&socket)?;
    }
    for name in [LOG, LOCK] {
        remove(&config.run.join(name))?;
    }
    for folder in [&config.run, &config.root] {
        // Whatever is left in it is somebody else's.
        drop(std::fs::remove_dir(folder));
    }
    Ok(())
}

fn is_listened_on(socket: &Path) -> Result<bool> {
    let sockets = std::fs::read_to_string("/proc/net/unix").context("reading the sockets of this host")?;
    Ok(sockets.lines().any(|line| line.ends_with(&format!(" {}", socket.display()))))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[allow(clippy::print_stdout, reason = "what is done in place of serving speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
