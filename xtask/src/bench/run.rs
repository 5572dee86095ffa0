//! `run --rm --network none IMAGE true` with a warm daemon, as people type it.

use anyhow::Result;
use atoll_testkit::TempHost;

use super::measure::{Candidate, Table, in_turn, once};
use super::peers::{Dockerd, Podman, docker};

const IMAGE: &str = "bench:1";
const RUN: [&str; 6] = ["run", "--rm", "--network", "none", IMAGE, "/bin/true"];

pub(super) fn bench(rounds: u32) -> Result<Table> {
    let archives = tempfile::tempdir()?;
    let archive = archives.path().join("bench.tar");
    std::fs::write(&archive, super::busybox()?.docker_archive(IMAGE))?;
    let archive = archive.to_string_lossy();
    let load = ["load", "-i", archive.as_ref()];
    let host = TempHost::start()?;
    host.ok(&load);
    let (dockerd, podman) = (Dockerd::start()?, Podman::new()?);
    let socket = host.socket();
    let mut candidates = vec![
        Candidate::new("atoll", || {
            let mut command = host.command();
            command.args(RUN);
            command
        }),
        Candidate::new("docker client, atolld", || docker(&socket, &RUN)),
    ];
    let mut missing = Vec::new();
    match &dockerd {
        Some(dockerd) => {
            once(dockerd.client(&load))?;
            candidates.push(Candidate::new("docker client, dockerd", || dockerd.client(&RUN)));
        }
        None => missing.push("dockerd"),
    }
    match &podman {
        Some(podman) => {
            once(podman.command(&load))?;
            // It raises limits that not every root may raise.
            let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
            let run = move || podman.command(&[&RUN[..2], &limits, &RUN[2..]].concat());
            candidates.push(Candidate::new("podman with runc", run));
        }
        None => missing.push("podman"),
    }
    let mut bridge = RUN;
    bridge[3] = "bridge";
    let here = &host;
    candidates.push(Candidate::new("atoll, on the bridge", move || {
        let mut command = here.command();
        command.args(bridge);
        command
    }));
    let mut table = in_turn("`run --rm --network none IMAGE /bin/true`", &candidates, rounds)?;
    table.notes.extend((!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", "))));
    Ok(table)
}
