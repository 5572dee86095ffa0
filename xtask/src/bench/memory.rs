//! What stays resident: a supervisor for each workload, the idle daemon, and the client's start.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use atoll_testkit::{TempHost, program};

use super::measure::{Table, median, once};

/// Workloads whose supervisors are looked at.
const WORKLOADS: usize = 10;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn bench() -> Result<Table> {
    let archives = tempfile::tempdir()?;
    let archive = archives.path().join("bench.tar");
    std::fs::write(&archive, super::busybox()?.docker_archive("bench:1"))?;
    let mut host = TempHost::start()?;
    host.ok(&["load", "-i", &archive.to_string_lossy()]);
    for _ in 0..WORKLOADS {
        host.ok(&["run", "-d", "--network", "none", "bench:1", "/bin/sleep", "1000"]);
    }
    let shims = shims(&host.run())?;
    let dirty = shims.iter().map(|pid| field(*pid, "smaps_rollup", "Private_Dirty:")).collect::<Result<Vec<_>>>()?;
    let switches =
        || shims.iter().map(|pid| field(*pid, "status", "voluntary_ctxt_switches:")).collect::<Result<Vec<_>>>();
    let before = switches()?;
    std::thread::sleep(IDLE);
    let woken: f64 = switches()?.iter().zip(before).map(|(after, before)| after - before).sum();
    let busy = host.daemon_pid().context("the daemon runs")?;
    let after_work = field(busy, "status", "VmRSS:")?;
    host.kill_daemon()?;
    host.start_daemon(&[])?;
    host.ok(&["ps"]);
    let fresh = field(host.daemon_pid().context("the daemon runs")?, "status", "VmRSS:")?;
    let mut starts = Vec::new();
    for _ in 0..20 {
        let mut command = std::process::Command::new(program("atoll"));
        command.arg("--version");
        starts.push(once(command)?.as_secs_f64() * 1e3);
    }
    Ok(Table {
        title: "Resident memory".to_owned(),
        unit: "KiB".to_owned(),
        rows: vec![
            ("a supervisor's private dirty memory".to_owned(), dirty),
            (format!("idle daemon, {WORKLOADS} workloads adopted"), vec![fresh]),
            ("daemon after a load and ten runs".to_owned(), vec![after_work]),
        ],
        notes: vec![
            format!("all {WORKLOADS} idle supervisors together woke {woken} times in {} s", IDLE.as_secs()),
            format!("`atoll --version`: median {:.1} ms of {}", median(&starts), starts.len()),
        ],
    })
}

/// The supervisors of a daemon's run folder.
pub(super) fn shims(run: &Path) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(run.join("w"))? {
        let record = std::fs::read(entry?.path().join("shim.json"))?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        pids.push(u32::try_from(record["shim"]["pid"].as_u64().context("a supervisor's record has its process")?)?);
    }
    Ok(pids)
}

/// A number of `/proc/PID/FILE`.
pub(super) fn field(pid: u32, file: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{name} of {path}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
