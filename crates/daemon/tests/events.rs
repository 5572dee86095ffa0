//! `docker events` tells the same of the same afternoon, on dockerd and here.
//!
//! Where dockerd is installed, it is asked first. What differs on purpose is taken off: `execDuration`, which dockerd has from
//! version 24 on, and that dockerd 20.10 says of a volume that was there already that it was made ([`afternoon`]).

mod raw;
mod support;

use std::process::{Child, Command, Stdio};

use atoll_testkit::TempDir;
use raw::ask;
use support::{IMAGE, Ran, docker, finish, has_docker, host, until, write_archive};

/// Debian's dockerd.
const DOCKERD: &str = "/usr/sbin/dockerd";

/// What dockerd 20.10 says of [`afternoon`].
const SAID: &str = "\
volume create data (driver=local)
container create ID (a=b, image=busybox:test, name=web)
network connect ID (container=ID, name=none, type=null)
volume mount data (container=ID, destination=/d, driver=local, propagation=, read/write=true)
container start ID (a=b, image=busybox:test, name=web)
container exec_create: sh -c exit 3 ID (a=b, execID=ID, image=busybox:test, name=web)
container exec_start: sh -c exit 3 ID (a=b, execID=ID, image=busybox:test, name=web)
container exec_die ID (a=b, execID=ID, exitCode=3, image=busybox:test, name=web)
container exec_create: true  ID (a=b, execID=ID, image=busybox:test, name=web)
container exec_start: true  ID (a=b, execID=ID, image=busybox:test, name=web)
container exec_die ID (a=b, execID=ID, exitCode=0, image=busybox:test, name=web)
container rename ID (a=b, image=busybox:test, name=other, oldName=/web)
container pause ID (a=b, image=busybox:test, name=other)
container unpause ID (a=b, image=busybox:test, name=other)
container resize ID (a=b, height=20, image=busybox:test, name=other, width=30)
container kill ID (a=b, image=busybox:test, name=other, signal=15)
container kill ID (a=b, image=busybox:test, name=other, signal=9)
container die ID (a=b, exitCode=137, image=busybox:test, name=other)
network disconnect ID (container=ID, name=none, type=null)
volume unmount data (container=ID, driver=local)
container stop ID (a=b, image=busybox:test, name=other)
network connect ID (container=ID, name=none, type=null)
volume mount data (container=ID, destination=/d, driver=local, propagation=, read/write=true)
container start ID (a=b, image=busybox:test, name=other)
container restart ID (a=b, image=busybox:test, name=other)
container kill ID (a=b, image=busybox:test, name=other, signal=9)
container die ID (a=b, exitCode=137, image=busybox:test, name=other)
network disconnect ID (container=ID, name=none, type=null)
volume unmount data (container=ID, driver=local)
container destroy ID (a=b, image=busybox:test, name=other)
volume destroy data (driver=local)
image tag sha256:ID (name=second:1)
image untag sha256:ID (name=sha256:ID)
container create ID (image=busybox:test, name=short)
container attach ID (image=busybox:test, name=short)
network connect ID (container=ID, name=none, type=null)
container start ID (image=busybox:test, name=short)
container die ID (exitCode=7, image=busybox:test, name=short)
network disconnect ID (container=ID, name=none, type=null)
container destroy ID (image=busybox:test, name=short)";

/// Does it all with a client, and returns what was told of it, a line each.
fn afternoon(run: impl Fn(&[&str]) -> Ran) -> Vec<String> {
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
    };
    let ok = |arguments: &[&str]| run(arguments).ok();
    let since = now();
    ok(&["volume", "create", "data"]);
    let web = ["-d", "-t", "--name", "web", "--network", "none", "-v", "data:/d", "-l", "a=b", IMAGE, "sleep", "1000"];
    ok(&[&["run"], web.as_slice()].concat());
    assert_eq!(run(&["exec", "web", "sh", "-c", "exit 3"]).code, Some(3));
    ok(&["exec", "-d", "web", "true"]);
    let dead = |count: usize| {
        let told = ok(&["events", "--since", &since, "--until", &now(), "-f", "event=exec_die"]);
        told.lines().count() == count
    };
    until("the session's end is told", || dead(2));
    ok(&["rename", "web", "other"]);
    ok(&["pause", "other"]);
    ok(&["unpause", "other"]);
    run(&["resize"]);
    ok(&["restart", "-t", "0", "other"]);
    ok(&["rm", "-f", "other"]);
    ok(&["volume", "rm", "data"]);
    ok(&["tag", IMAGE, "second:1"]);
    ok(&["rmi", "second:1"]);
    assert_eq!(
        run(&["run", "--rm", "--name", "short", "--network", "none", IMAGE, "sh", "-c", "exit 7"]).code,
        Some(7)
    );
    let told = |more: &[&str]| ok(&[&["events", "--since", &since, "--until", &now()], more].concat());
    until("the last is told", || told(&[]).lines().any(|line| line.contains("destroy") && line.contains("short")));
    let lines = told(&[]);
    check_filters(&lines, told);
    let mut normal: Vec<String> = lines.lines().map(normal).collect();
    normal.dedup_by(|again, first| again == first && again.starts_with("volume create"));
    normal
}

/// The filters choose among the same lines.
fn check_filters(lines: &str, told: impl Fn(&[&str]) -> String) {
    for filter in [
        "type=volume",
        "container=other",
        "container=web",
        "image=busybox",
        "image=second:1",
        "label=a",
        "label=a=c",
        "event=die",
        "event=exec_create",
        "volume=data",
        "network=none",
        "scope=local",
        "scope=swarm",
        "daemon=x",
        "plugin=x",
    ] {
        let chosen = told(&["-f", filter]);
        assert!(chosen.lines().all(|line| lines.contains(line)), "{filter}: {chosen}");
        let count = |what: &str| lines.lines().filter(|line| line.contains(what)).count();
        let expected = match filter {
            "type=volume" => count(" volume "),
            "container=other" => count("name=other"),
            "container=web" => count("name=web"),
            "image=busybox" => count("image=busybox"),
            "image=second:1" => count("name=second:1"),
            "label=a" => count("a=b"),
            "event=die" => count(" die "),
            "event=exec_create" => count("exec_create"),
            "volume=data" => count(" data ("),
            "network=none" => count(" network "),
            "scope=local" => lines.lines().count(),
            _ => 0,
        };
        assert_eq!(chosen.lines().count(), expected, "{filter}: {chosen}");
    }
}

/// Without its time, with identifiers as `ID`.
fn normal(line: &str) -> String {
    let mut line = line.split_once(' ').map_or(line, |(_, rest)| rest).to_owned();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut at = 0;
    while let Some(found) = (at..line.len().saturating_sub(63)).find(|from| line.get(*from..from + 64).is_some_and(hex))
    {
        line.replace_range(found..found + 64, "ID");
        at = found;
    }
    if let Some(from) = line.find("execDuration=") {
        let to = line[from..].find(", ").map_or(line.len(), |length| from + length + 2);
        line.replace_range(from..to, "");
    }
    line
}

/// dockerd on folders of its own.
struct Peer {
    folder: TempDir,
    child: Child,
}

impl Peer {
    fn start() -> Option<Self> {
        let folder = atoll_testkit::tempdir();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let child = Command::new(DOCKERD)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("sock")), "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let peer = Self { folder, child };
        until("dockerd answers", || peer.run(&["version"]).code == Some(0));
        Some(peer)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new("timeout");
        command.args([
            "-k",
            "5",
            "60",
            "docker",
            "-H",
            &format!("unix://{}", self.folder.path().join("sock").display()),
        ]);
        command.args(arguments);
        finish(command, "")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.child.wait();
    }
}

/// The client has no command that resizes: by hand, where `run` is called with that name.
fn resize(path: &std::path::Path) -> Ran {
    let mut command = Command::new("curl");
    command.args(["-s", "--fail", "-X", "POST", "--unix-socket"]).arg(path);
    command.arg("http://x/v1.41/containers/other/resize?h=20&w=30");
    finish(command, "")
}

#[test]
fn an_afternoon_is_told_as_dockerd_tells_it() {
    let Some(host) = host().filter(|_| has_docker()) else { return };
    let expected: Vec<&str> = SAID.lines().collect();
    match Peer::start() {
        None => println!("skipped in part: needs {DOCKERD}"),
        Some(peer) => {
            let archive = peer.folder.path().join("image.tar").display().to_string();
            assert!(write_archive(&archive));
            peer.run(&["load", "-i", &archive]).ok();
            let socket = peer.folder.path().join("sock");
            let said =
                afternoon(|arguments| if arguments == ["resize"] { resize(&socket) } else { peer.run(arguments) });
            assert_eq!(said, expected, "dockerd");
        }
    }
    let said =
        afternoon(
            |arguments| {
                if arguments == ["resize"] { resize(&host.socket()) } else { finish(docker(&host, arguments), "") }
            },
        );
    assert_eq!(said, expected, "atolld");
}

#[test]
fn times_are_read_as_dockerd_reads_them() {
    let Some(host) = host() else { return };
    let check = |query: &str, status: u16| {
        let answer = ask(&host, "GET", &format!("/events?{query}"), "");
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        String::from_utf8_lossy(&answer.body).lines().count()
    };
    // The image that every host has was loaded.
    assert_eq!(check("until=1", 200), 0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(check(&format!("until={now:.6}"), 200) >= 1, "who names only an end gets what is kept");
    assert!(check(&format!("since=1.5&until={now:.6}"), 200) >= 1);
    assert_eq!(check(&format!("since={now:.6}&until={:.6}", now + 0.2), 200), 0);
    check("since=10&until=5", 400);
    check("since=yesterday", 400);
}
