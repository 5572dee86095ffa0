//! Many containers on one engine: two hundred started at once, then five hundred that run while one is listed and entered.
//!
//! Both engines are asked by the same clients: `curl` where the client's own start would hide the answer, the stock client
//! where people type.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use atoll_testkit::{TempHost, require_programs};

use super::measure::{Candidate, Table, in_turn, once};
use super::memory::field;
use super::peers::{Dockerd, docker};

const IMAGE: &str = "bench:1";
/// Containers that are started at once.
const AT_ONCE: u32 = 200;
/// Containers that run while others are asked for.
const RUNNING: u32 = 500;
/// What each container runs.
const BODY: &str = r#"{"Image":"bench:1","Cmd":["/bin/sleep","100000"],"HostConfig":{"NetworkMode":"none"}}"#;

pub(super) fn bench(rounds: u32) -> Result<Vec<Table>> {
    if !require_programs(&["curl"]) {
        return Ok(Vec::new());
    }
    let archives = tempfile::tempdir()?;
    let archive = archives.path().join("bench.tar");
    std::fs::write(&archive, super::busybox()?.docker_archive(IMAGE))?;
    let archive = archive.to_string_lossy();
    let host = TempHost::start()?;
    host.ok(&["load", "-q", "-i", archive.as_ref()]);
    let dockerd = Dockerd::start()?;
    if let Some(dockerd) = &dockerd {
        once(dockerd.client(&["load", "-q", "-i", archive.as_ref()]))?;
    }
    let mut engines = vec![("atolld", host.socket())];
    engines.extend(dockerd.as_ref().map(|dockerd| ("dockerd", dockerd.socket())));
    let started = started_at_once(&engines, rounds.div_ceil(10))?;
    for (_, socket) in &engines {
        create(socket, RUNNING)?;
        once(start(socket, RUNNING))?;
    }
    let entered =
        asked(&host, &engines, "`exec` of `true`, 500 containers running", &["exec", "c7", "/bin/true"], rounds)?;
    let mut listed = asked(&host, &engines, "`ps` with 500 containers running", &["ps", "-q"], rounds)?;
    let lists = engines.iter().map(|(name, socket)| Candidate::new(*name, || lists(socket))).collect::<Vec<_>>();
    let lists = in_turn("The list of 500 running containers, 20 times on one connection", &lists, rounds)?;
    let resident = |pid| field(pid, "status", "VmRSS:").map(|kib| kib / 1024.0);
    let ours = resident(host.daemon_pid().context("the daemon runs")?)?;
    let theirs = dockerd.as_ref().map(|dockerd| resident(dockerd.pid())).transpose()?;
    listed.notes.push(match theirs {
        Some(theirs) => format!("resident with 500 containers: atolld {ours:.1} MiB, dockerd {theirs:.1} MiB"),
        None => format!("resident with 500 containers: atolld {ours:.1} MiB; dockerd is not installed"),
    });
    for (_, socket) in &engines {
        remove(socket, RUNNING)?;
    }
    Ok(vec![started, entered, listed, lists])
}

/// Starting what was created before; afterwards it is removed and created again.
fn started_at_once(engines: &[(&str, PathBuf)], rounds: u32) -> Result<Table> {
    let mut candidates = Vec::new();
    for (name, socket) in engines {
        create(socket, AT_ONCE)?;
        let again = move || {
            remove(socket, AT_ONCE)?;
            create(socket, AT_ONCE)
        };
        let started = Candidate::new(*name, move || start(socket, AT_ONCE));
        candidates.push(Candidate { after: Some(Box::new(again)), ..started });
    }
    let table = in_turn(&format!("`start` of {AT_ONCE} containers at once, none may fail"), &candidates, rounds)?;
    for (_, socket) in engines {
        remove(socket, AT_ONCE)?;
    }
    Ok(table)
}

/// One command by our client, and by the stock one at each engine.
fn asked(host: &TempHost, engines: &[(&str, PathBuf)], title: &str, arguments: &[&str], rounds: u32) -> Result<Table> {
    let mut candidates = vec![Candidate::new("atoll", || {
        let mut command = host.command();
        command.args(arguments);
        command
    })];
    for (name, socket) in engines {
        candidates.push(Candidate::new(format!("docker client, {name}"), || docker(socket, arguments)));
    }
    in_turn(title, &candidates, rounds)
}

fn create(socket: &Path, count: u32) -> Result<()> {
    let mut command = curl(socket, &format!("/containers/create?name=c[1-{count}]"));
    command.args(["-H", "Content-Type: application/json", "-d", BODY]);
    once(command).map(drop)
}

fn start(socket: &Path, count: u32) -> Command {
    let mut command = curl(socket, &format!("/containers/c[1-{count}]/start"));
    command.args(["-X", "POST"]);
    command
}

fn remove(socket: &Path, count: u32) -> Result<()> {
    let mut command = curl(socket, &format!("/containers/c[1-{count}]?force=1"));
    command.args(["-X", "DELETE"]);
    once(command).map(drop)
}

/// The parameter means nothing to either engine.
fn lists(socket: &Path) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--unix-socket"]).arg(socket).arg("http://localhost/containers/json?time=[1-20]");
    command
}

/// Requests for all addresses of a range, at once; fails where one is refused.
fn curl(socket: &Path, path: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--fail-early", "--parallel", "--parallel-immediate", "--parallel-max", "200"]);
    command.arg("--unix-socket").arg(socket).arg(format!("http://localhost{path}"));
    command
}
