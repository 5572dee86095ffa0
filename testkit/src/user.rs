//! An ordinary user of this machine, made for one test and removed with everything that is left of it.
//!
//! The user is made by shadow's own tools (`useradd`, `usermod`), which lock the files that they change. What runs as the
//! user does so in a mount namespace of its own, where `/dev/net/tun` is open to everybody, as on most hosts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

use crate::tempdir;

/// Subordinate ids of a user that has some.
pub const SUBORDINATE_IDS: u32 = 65_536;
/// Where test users' subordinate ids begin: far from those that a distribution hands out.
const FIRST_SUBORDINATE: u32 = 1_000_000_000;
/// As many tests as can have ranges of their own.
const RANGES: u32 = 30_000;
/// The kernel's number of the tun device (Documentation/admin-guide/devices.txt): 10:200.
const TUN: (u32, u32) = (10, 200);
/// How often what still runs is killed before the user is removed.
const KILL_ROUNDS: u32 = 200;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The user.
#[derive(Debug)]
pub struct TestUser {
    name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its first subordinate id, when it has some: of users and of groups.
    pub subordinate: Option<u32>,
    folder: tempfile::TempDir,
    /// Files that it sees in the place of others.
    binds: Vec<(PathBuf, PathBuf)>,
}

impl TestUser {
    /// Makes a user, with [`SUBORDINATE_IDS`] or without.
    ///
    /// # Errors
    /// Where this process may not, or shadow's tools are missing.
    pub fn new(subordinate: bool) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("atoll{}x{number}", std::process::id());
        let folder = tempdir();
        run(&["useradd", "--system", "--no-create-home", "--user-group", "--shell", "/bin/sh", &name])?;
        let mut user = Self { name, uid: 0, gid: 0, subordinate: None, folder, binds: Vec::new() };
        user.uid = id(&["id", "-u", &user.name])?;
        user.gid = id(&["id", "-g", &user.name])?;
        if subordinate {
            let first = FIRST_SUBORDINATE + (std::process::id() * 7 + number) % RANGES * SUBORDINATE_IDS;
            let range = format!("{first}-{}", first + SUBORDINATE_IDS - 1);
            run(&["usermod", "--add-subuids", &range, "--add-subgids", &range, &user.name])?;
            user.subordinate = Some(first);
        }
        std::os::unix::fs::chown(user.folder.path(), Some(user.uid), Some(user.gid))?;
        let tun = user.folder.path().join("tun");
        let device = rustix::fs::makedev(TUN.0, TUN.1);
        rustix::fs::mknodat(rustix::fs::CWD, &tun, FileType::CharacterDevice, Mode::empty(), device)?;
        rustix::fs::chmod(&tun, Mode::from_raw_mode(0o666))?;
        user.binds.push((tun, PathBuf::from("/dev/net/tun")));
        Ok(user)
    }

    /// Its home: a temporary folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Its folder of the session (`XDG_RUNTIME_DIR`).
    #[must_use]
    pub fn runtime_folder(&self) -> PathBuf {
        self.home().join("run")
    }

    /// Shows the user `source` in the place of `target` in commands from now on.
    pub fn bind(&mut self, source: PathBuf, target: &str) {
        self.binds.push((source, PathBuf::from(target)));
    }

    /// A program to be run as the user, with an environment of its own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut script = String::from("set -e\n");
        for (source, target) in &self.binds {
            script.push_str(&format!("mount --bind '{}' '{}'\n", source.display(), target.display()));
        }
        let ids = format!("--reuid={} --regid={} --clear-groups", self.uid, self.gid);
        script.push_str(&format!("exec setpriv {ids} -- \"$@\"\n"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script, "sh"]).arg(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("USER", &self.name);
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.runtime_folder());
        command.current_dir(self.home()).stdin(Stdio::null());
        command
    }

    /// Gives everything in a folder to the user.
    ///
    /// # Errors
    /// Where `chown` fails.
    pub fn own(&self, folder: &Path) -> Result<()> {
        let owner = format!("{}:{}", self.uid, self.gid);
        run(&["chown", "-hR", &owner, &folder.display().to_string()])
    }

    /// Processes that run as the user or with one of its subordinate ids.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| uid_of(*pid).is_some_and(|uid| self.owns(uid))).collect()
    }

    fn owns(&self, uid: u32) -> bool {
        let subordinate = self.subordinate.is_some_and(|first| (first..first + SUBORDINATE_IDS).contains(&uid));
        uid == self.uid || subordinate
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        for _ in 0..KILL_ROUNDS {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // The entries of subordinate ids and the group go with it.
        let _ = run(&["userdel", &self.name]);
    }
}

/// The real user of a process that has not ended.
fn uid_of(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:")?.starts_with('Z') {
        return None;
    }
    field("Uid:")?.split_ascii_whitespace().next()?.parse().ok()
}

fn run(words: &[&str]) -> Result<()> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", words[0]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {}", said.trim());
    Ok(())
}

fn id(words: &[&str]) -> Result<u32> {
    let output = Command::new(words[0]).args(&words[1..]).output().context("cannot run id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
