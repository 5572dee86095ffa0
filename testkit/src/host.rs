//! A host of one's own: `atolld` on a temporary root, and the `atoll` that talks to it.
//!
//! [`TempHost::start`] waits until the daemon's socket answers; dropping the host removes its workloads, ends the
//! daemon and whatever else still works on this host's folders (shims outlive a daemon by design).

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{program, tempdir};

/// How long a daemon may take until its socket answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end when asked.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often waiting looks again.
const POLL: Duration = Duration::from_millis(10);

/// A daemon on state of its own.
#[derive(Debug)]
pub struct TempHost {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    /// Name of the cgroup that it makes for its workloads, in each hierarchy.
    cgroup: String,
}

impl TempHost {
    /// Makes the folders and starts the daemon.
    ///
    /// # Errors
    /// Where it does not start; its own output is part of the error.
    pub fn start() -> Result<Self> {
        let mut host = Self { dir: tempdir(), daemon: None, cgroup: String::new() };
        std::fs::create_dir(host.root())?;
        std::fs::create_dir(host.run())?;
        host.start_daemon(&[])?;
        let id = host.command().args(["info", "--format", "{{.ID}}"]).stdin(Stdio::null()).output()?;
        host.cgroup = format!("atoll-{}", String::from_utf8_lossy(&id.stdout).trim());
        Ok(host)
    }

    /// The durable state folder (`--root`).
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The run folder (`--run`).
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("atoll.sock")
    }

    /// The value of `--host`, `ATOLL_HOST` and `DOCKER_HOST` for this host.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The daemon's process, where it runs as far as this host knows.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Starts the daemon (again), with further environment, and waits for its socket.
    ///
    /// # Errors
    /// Where it ends instead, or does not answer within 20 seconds.
    pub fn start_daemon(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.start_daemon_with(&[], environment)
    }

    /// As [`Self::start_daemon`], with further arguments.
    ///
    /// # Errors
    /// Where it ends instead, or does not answer within 20 seconds.
    pub fn start_daemon_with(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new(program("atolld"))
            .arg("--root")
            .arg(self.root())
            .arg("--run")
            .arg(self.run())
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start atolld")?;
        let child = self.daemon.insert(child);
        let deadline = Instant::now() + START_LIMIT;
        let socket = self.dir.path().join("run/atoll.sock");
        loop {
            if UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                self.daemon = None;
                bail!("atolld ended with {status}: {}", self.daemon_log());
            }
            if Instant::now() > deadline {
                bail!("atolld does not answer: {}", self.daemon_log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills the daemon with SIGKILL and waits until it is gone; workloads live on.
    ///
    /// # Errors
    /// Where none runs.
    pub fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// What the daemons of this host wrote so far.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `atoll` against this host, to be given arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("atoll"));
        command.arg("--host").arg(self.address()).env_remove("DOCKER_HOST").env_remove("ATOLL_HOST");
        command
    }

    /// Runs `atoll` with `arguments` to its end, without standard input.
    ///
    /// # Panics
    /// Where the program cannot be started at all.
    pub fn atoll<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).output().expect("atoll starts")
    }

    /// As [`Self::atoll`], for a command that must succeed: its standard output, without the last line end.
    ///
    /// # Panics
    /// Where it fails; both outputs and the daemon's log are in the message.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> String {
        let output = self.atoll(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "atoll {arguments:?}: {}\n{text}{}\ndaemon: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.daemon_log()
        );
        text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("atolld.log")
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(ids) = self.command().args(["ps", "-aq"]).stdin(Stdio::null()).output() {
                let ids = String::from_utf8_lossy(&ids.stdout).into_owned();
                let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
                if !ids.is_empty() {
                    let _ = self.command().args(["rm", "-f"]).args(ids).stdin(Stdio::null()).output();
                }
            }
            let deadline = Instant::now() + STOP_LIMIT;
            signal(daemon.id(), Signal::TERM);
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Whatever still has this host's own folder on its command line was started for it.
        for process in users_of(self.dir.path()) {
            signal(process, Signal::KILL);
        }
    }
}

impl Drop for TempHost {
    fn drop(&mut self) {
        self.stop();
        if self.cgroup.len() > "atoll-".len() {
            remove_cgroups(Path::new("/sys/fs/cgroup"), &self.cgroup, CGROUP_DEPTH);
            remove_network(&self.cgroup);
        }
    }
}

/// Removes the folders of this name, which are empty once all workloads have ended.
fn remove_cgroups(folder: &Path, name: &str, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name() == name {
            // One that is busy still belongs to a test that failed.
            let _ = std::fs::remove_dir(entry.path());
        } else if depth > 0 {
            remove_cgroups(&entry.path(), name, depth - 1);
        }
    }
}

/// Removes the bridge and the packet filter of a root, `atoll-ID`, that a test leaves on the real host.
fn remove_network(root: &str) {
    let bridge = format!("atl-{}", root.trim_start_matches("atoll-"));
    for command in [["ip", "link", "del", &bridge].as_slice(), &["nft", "delete", "table", "inet", root]] {
        // There is none where no workload was on it, and no program to remove it with on some machines.
        let _ = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn signal(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// How deep below the hierarchies' mount points a daemon's cgroup may be.
const CGROUP_DEPTH: usize = 5;

/// Processes other than this one with a path below `dir` among their arguments.
pub(crate) fn users_of(dir: &Path) -> Vec<u32> {
    use std::os::unix::ffi::OsStrExt;
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let wanted = dir.as_os_str().as_bytes();
    let uses = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(wanted.len()).any(|window| window == wanted)
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).filter(uses).collect()
}
