//! A chatty container: how long a million short lines take until they are in the log, and what that takes in memory.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use atoll_testkit::TempHost;

use super::measure::{Candidate, Table, in_turn, median, once};
use super::memory::{field, shims};
use super::peers::Dockerd;

const IMAGE: &str = "bench:1";
const LINES: u32 = 1_000_000;
/// What writes them.
const SCRIPT: &str = "/bin/busybox yes | /bin/busybox head -n 1000000";

/// Runs the container in the background and waits for its end, so that no client reads along.
fn chatter(socket: &Path, driver: &str) -> Command {
    // A log of one size everywhere: what is kept is not what is measured.
    let run = format!("run -d --network none --log-driver {driver} --log-opt max-size=10m --log-opt max-file=3");
    let mut command = Command::new("sh");
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).arg("-ec").arg(format!(
        "id=$(docker {run} --log-opt compress=false {IMAGE} /bin/sh -c '{SCRIPT}'); docker wait $id; docker rm $id"
    ));
    command
}

pub(super) fn bench(rounds: u32) -> Result<Table> {
    let archives = tempfile::tempdir()?;
    let archive = archives.path().join("bench.tar");
    std::fs::write(&archive, super::busybox()?.docker_archive(IMAGE))?;
    let archive = archive.to_string_lossy();
    let load = ["load", "-i", archive.as_ref()];
    let host = TempHost::start()?;
    host.ok(&load);
    let socket = host.socket();
    let dockerd = Dockerd::start()?;
    let here = socket.as_path();
    let theirs = dockerd.as_ref().map(Dockerd::socket);
    let mut candidates = Vec::new();
    if let Some(dockerd) = &dockerd {
        once(dockerd.client(&load))?;
    }
    for driver in ["local", "json-file"] {
        candidates.push(Candidate::new(format!("atolld, {driver}"), move || chatter(here, driver)));
        if let Some(theirs) = &theirs {
            candidates.push(Candidate::new(format!("dockerd, {driver}"), move || chatter(theirs, driver)));
        }
    }
    let mut table = in_turn(&format!("{LINES} short lines into the log, the same client"), &candidates, rounds)?;
    for (name, times) in &table.rows {
        let rate = f64::from(LINES) / median(times);
        table
            .notes
            .push(format!("{name}: {rate:.0} thousand lines in a second, the container's start and end included"));
    }
    table.notes.push(memory(&host, dockerd.as_ref())?);
    Ok(table)
}

/// The most that was resident of those who write the log.
fn memory(host: &TempHost, dockerd: Option<&Dockerd>) -> Result<String> {
    let script = format!("{SCRIPT}; /bin/sleep 1000");
    host.ok(&["run", "-d", "--network", "none", "--name", "chatter", IMAGE, "/bin/sh", "-c", &script]);
    let written = host.root().join("workloads");
    wait_for_files(&written)?;
    let shim = *shims(&host.run())?.first().context("a supervisor runs")?;
    let peak = |pid| field(pid, "status", "VmHWM:");
    let daemon = peak(host.daemon_pid().context("the daemon runs")?)?;
    let ours = format!("peak resident: supervisor {} KiB, atolld {daemon} KiB", peak(shim)?);
    match dockerd {
        Some(dockerd) => Ok(format!("{ours}, dockerd {} KiB", peak(dockerd.pid())?)),
        None => Ok(format!("{ours}; dockerd is not installed")),
    }
}

/// Waits until the log was rotated, which takes most of the lines.
fn wait_for_files(workloads: &Path) -> Result<()> {
    loop {
        for folder in std::fs::read_dir(workloads)? {
            let folder = folder?.path();
            if folder.join("log.2").exists() || folder.join("log.2.gz").exists() {
                return Ok(());
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
