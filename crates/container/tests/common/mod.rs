//! Bundles with a busybox root, run by `atoll-runtime` or a peer.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of several test programs: a failure here is the test's"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

pub const RUNTIME: &str = env!("CARGO_BIN_EXE_atoll-runtime");
pub const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 26] = [
    "tr", "cut", "sh", "cat", "ls", "id", "echo", "sleep", "stat", "pwd", "readlink", "hostname", "mknod", "env", "ps",
    "dd", "tty", "wc", "touch", "kill", "grep", "mkdir", "mount", "umount", "rm", "true",
];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One bundle with its own root of records.
pub struct Bundle {
    dir: tempfile::TempDir,
    pub id: String,
    runtime: &'static str,
}

/// A bundle that runs `script`, or `None` (said aloud) where no container can run.
pub fn bundle(script: &str) -> Option<Bundle> {
    bundle_for(RUNTIME, script)
}

/// The same for any runtime.
pub fn bundle_for(runtime: &'static str, script: &str) -> Option<Bundle> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    if !Path::new(BUSYBOX).exists() {
        println!("skipped: needs {BUSYBOX} (apt-get install busybox-static)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("rootfs/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let id = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let bundle = Bundle { dir, id, runtime };
    let spec = Command::new(RUNTIME).args(["spec", "-b", bundle.path().to_str().unwrap()]).status();
    assert!(spec.unwrap().success());
    bundle.edit(|spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["root"]["readonly"] = json!(false);
    });
    Some(bundle)
}

impl Bundle {
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn is_peers(&self) -> bool {
        self.runtime == PEER
    }

    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path().join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(&path, spec.to_string()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.runtime);
        command.arg("--root").arg(self.path().join("state")).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn run(&self) -> Output {
        let bundle = self.path();
        self.call(&["run", "-b", bundle.to_str().unwrap(), &self.id])
    }

    /// As `run -d` or `create`: descriptors that a container keeps open must not be pipes of ours.
    pub fn detached(&self, arguments: &[&str]) {
        let (out, bundle) = (fs::File::create(self.path().join("out")).unwrap(), self.path());
        let mut command = self.command(arguments);
        command.args(["-b", bundle.to_str().unwrap(), &self.id]).stderr(out.try_clone().unwrap()).stdout(out);
        assert!(command.status().unwrap().success(), "{}", self.written());
    }

    pub fn written(&self) -> String {
        fs::read_to_string(self.path().join("out")).unwrap()
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_slice(&self.call(&["state", &self.id]).stdout).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    pub fn wait_for(&self, status: &str) {
        for _ in 0..1000 {
            if self.status() == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{} is {} and not {status}", self.id, self.status());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call(&["delete", "-f", &self.id]);
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `script` in a container (changed by `change`) prints `expected` and nothing else.
#[track_caller]
pub fn check_with(script: &str, expected: &str, change: impl FnOnce(&Bundle)) {
    let Some(bundle) = bundle(script) else { return };
    change(&bundle);
    let output = bundle.run();
    assert_eq!(text(&output).trim(), expected, "{script}");
    let left = fs::read_dir(bundle.path().join("state")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a record is left");
    assert!(!Path::new("/sys/fs/cgroup/pids").join(&bundle.id).exists(), "a cgroup is left");
}

#[track_caller]
pub fn check(script: &str, expected: &str) {
    check_with(script, expected, |_| {});
}

/// `script` ends with `code`.
#[track_caller]
pub fn check_code(args: &[&str], code: i32) {
    let Some(bundle) = bundle("") else { return };
    bundle.edit(|spec| spec["process"]["args"] = json!(args));
    let output = bundle.run();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
}

/// The container is refused with `word` in the message, and nothing of it is left.
#[track_caller]
pub fn check_refused(word: &str, change: impl FnOnce(&Bundle)) {
    let Some(bundle) = bundle("echo escaped") else { return };
    change(&bundle);
    let output = bundle.run();
    assert!(!output.status.success());
    assert!(text(&output).contains(word) && !text(&output).contains("escaped"), "{}", text(&output));
    assert_eq!(fs::read_dir(bundle.path().join("state")).map_or(0, Iterator::count), 0);
}

/// The peer that a case is proved on.
pub const PEER: &str = "runc";

/// Whether the peer is there; said aloud where it is not.
pub fn has_peer() -> bool {
    let there = Command::new(PEER).arg("--version").output().is_ok();
    if !there {
        println!("skipped the peer: needs {PEER}");
    }
    there
}

/// As [`check_with`], on the peer first: `expected` is what it prints, and so do we.
#[track_caller]
pub fn check_like_peer(script: &str, expected: &str, change: impl Fn(&Bundle)) {
    if has_peer()
        && let Some(bundle) = bundle_for(PEER, script)
    {
        change(&bundle);
        assert_eq!(text(&bundle.run()).trim(), expected, "{PEER} proves the case: {script}");
    }
    check_with(script, expected, change);
}
