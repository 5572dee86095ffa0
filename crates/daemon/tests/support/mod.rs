//! What the daemon's tests share: a host with an image, and commands that end within a time.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atoll_testkit::{Image, Layer, TempHost};

/// The image that every host of these tests has.
pub(crate) const IMAGE: &str = "busybox:test";
/// The stock client, where it is installed.
const DOCKER: &str = "/usr/local/bin/docker";
/// Seconds after which a command counts as hanging.
const LIMIT_S: &str = "60";
/// How long [`until`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its standard output without white space around it, for one that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.trim().to_owned()
    }
}

/// A daemon without images; `None` (said on standard output) where the tests cannot run.
pub(crate) fn empty_host() -> Option<TempHost> {
    atoll_testkit::require_root().then(|| TempHost::start().expect("the daemon starts"))
}

/// A daemon that has [`IMAGE`].
pub(crate) fn host() -> Option<TempHost> {
    let host = empty_host()?;
    if !write_archive(&archive(&host)) {
        return None;
    }
    host.ok(&["load", "-i", &archive(&host)]);
    Some(host)
}

/// Where a host's archive of [`IMAGE`] lies.
pub(crate) fn archive(host: &TempHost) -> String {
    host.root().with_file_name("busybox.tar").display().to_string()
}

/// Writes a docker-archive of [`busybox`]; `false` where there is none.
pub(crate) fn write_archive(to: &str) -> bool {
    let Some(image) = busybox() else { return false };
    std::fs::write(to, image.docker_archive(IMAGE)).expect("the archive is written");
    true
}

/// An image of busybox, where that is installed.
pub(crate) fn busybox() -> Option<Image> {
    let rootfs = atoll_testkit::tempdir();
    if !atoll_testkit::busybox_rootfs(rootfs.path()).expect("a root file system") {
        return None;
    }
    let layer = pack(Layer::new(), rootfs.path(), "");
    Some(Image::new().layer(layer).config("Cmd", vec!["sh"]).config("Env", vec!["PATH=/bin"]))
}

fn pack(mut layer: Layer, root: &Path, below: &str) -> Layer {
    use std::os::unix::fs::PermissionsExt;
    let mut entries: Vec<_> = std::fs::read_dir(root.join(below)).expect("a folder").flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let meta = entry.metadata().expect("metadata");
        if meta.is_symlink() {
            let target = std::fs::read_link(entry.path()).expect("a link");
            layer = layer.symlink(&name, &target.to_string_lossy());
        } else if meta.is_dir() {
            layer = pack(layer.folder(&name), root, &format!("{name}/"));
        } else {
            let content = std::fs::read(entry.path()).expect("a file");
            layer = layer.file(&name, meta.permissions().mode() & 0o7777, content);
        }
    }
    layer
}

/// Whether the stock client is there; says so where not.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub(crate) fn has_docker() -> bool {
    let there = Path::new(DOCKER).is_file();
    if !there {
        println!("skipped: needs the docker client at {DOCKER}");
    }
    there
}

/// The stock client against a host, killed when it hangs.
pub(crate) fn docker(host: &TempHost, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LIMIT_S, DOCKER]).args(arguments);
    command.env("DOCKER_HOST", host.address()).env("DOCKER_CONFIG", host.root().with_file_name("docker"));
    command
}

/// `atoll` against a host with further environment to come, killed when it hangs.
pub(crate) fn atoll(host: &TempHost, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LIMIT_S]).arg(atoll_testkit::program("atoll"));
    command.args(["--host", &host.address()]).args(arguments);
    command
}

/// Runs a command to its end with `input`.
pub(crate) fn finish(mut command: Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("piped");
    // One that has ended does not read: its output tells.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the command ends");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The stock client against a host that has [`IMAGE`].
pub(crate) mod stock {
    use super::{Ran, TempHost, docker, finish, has_docker};

    /// A host with the image, where the client is there too.
    pub(crate) fn host() -> Option<TempHost> {
        has_docker().then(super::host).flatten()
    }

    /// Runs the client to its end.
    pub(crate) fn run(host: &TempHost, arguments: &[&str]) -> Ran {
        finish(docker(host, arguments), "")
    }

    /// What it writes where it succeeds.
    #[track_caller]
    pub(crate) fn ok(host: &TempHost, arguments: &[&str]) -> String {
        run(host, arguments).ok()
    }
}
