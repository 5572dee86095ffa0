//! The peers, on state of their own: Debian's dockerd and podman.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long dockerd may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The stock client.
const DOCKER: &str = "/usr/local/bin/docker";

/// Where a program is, if it is installed.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// The docker client against a socket.
pub(super) fn docker(socket: &Path, args: &[&str]) -> Command {
    let client = if Path::new(DOCKER).is_file() { DOCKER } else { "docker" };
    let mut command = Command::new(client);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).args(args);
    command
}

/// A dockerd of our own, without networks.
pub(super) struct Dockerd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Dockerd {
    /// Starts it; `None` where it is not installed.
    pub(super) fn start() -> Result<Option<Self>> {
        let Some(program) = find("dockerd") else { return Ok(None) };
        let folder = tempfile::tempdir_in("/var/lib")?;
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log"))?;
        let child = Command::new(program)
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("sock").display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let dockerd = Self { folder, child };
        let deadline = Instant::now() + START_LIMIT;
        while !dockerd.client(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            if Instant::now() > deadline {
                bail!("dockerd does not answer: {}", std::fs::read_to_string(dockerd.folder.path().join("log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Some(dockerd))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn client(&self, args: &[&str]) -> Command {
        docker(&self.socket(), args)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // By SIGTERM, so that it ends its containerd and unmounts.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

/// A podman on storage of its own.
pub(super) struct Podman {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Podman {
    /// `None` where it is not installed.
    pub(super) fn new() -> Result<Option<Self>> {
        let Some(program) = find("podman") else { return Ok(None) };
        Ok(Some(Self { folder: tempfile::tempdir_in("/var/lib")?, program }))
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let at = |name: &str| self.folder.path().join(name);
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]).args(args);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its storage may be mounted.
        drop(self.command(&["system", "reset", "--force"]).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}
