//! `stats`, `top` and `update`: what containers use, and may use.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use atoll_api::docker::{ContainerStats, ContainerSummary, TopResponse, UpdateRequest, UpdateResponse};
use atoll_client::{Error, escape, with_query};
use serde_json::{Value, json};

use super::{Daemon, complain, say};
use crate::args::{StatsArgs, TopArgs, UpdateArgs, values};
use crate::output::{Column, print_rows};
use crate::request::swap;

const STATS: [Column; 8] = [
    ("CONTAINER ID", "{{.ID}}"),
    ("NAME", "{{.Name}}"),
    ("CPU %", "{{.CPUPerc}}"),
    ("MEM USAGE / LIMIT", "{{.MemUsage}}"),
    ("MEM %", "{{.MemPerc}}"),
    ("NET I/O", "{{.NetIO}}"),
    ("BLOCK I/O", "{{.BlockIO}}"),
    ("PIDS", "{{.PIDs}}"),
];
/// Digits of a shortened id.
const SHORT: usize = 12;
/// Moves the cursor home and clears what follows: a terminal shows the newest figures only.
const HOME: &str = "\x1b[H\x1b[J";

/// `stats`.
pub(crate) async fn stats(daemon: Daemon, args: StatsArgs) -> Result<u8> {
    loop {
        let rows = sample(&daemon, &args).await?;
        if !args.no_stream && std::io::stdout().is_terminal() {
            std::io::stdout().write_all(HOME.as_bytes())?;
        }
        print_rows(&rows, args.format.as_deref(), &STATS)?;
        if args.no_stream {
            return Ok(0);
        }
        if rows.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A row for each container, all measured over the same second.
async fn sample(daemon: &Daemon, args: &StatsArgs) -> Result<Vec<Value>> {
    let names = if args.containers.is_empty() {
        let all = if args.all { "1" } else { "" };
        let list: Vec<ContainerSummary> = daemon.get(&with_query("/containers/json", &[("all", all)])).await?;
        list.into_iter().map(|container| container.id).collect()
    } else {
        args.containers.clone()
    };
    let mut asked = tokio::task::JoinSet::new();
    for (place, name) in names.into_iter().enumerate() {
        let daemon = daemon.clone();
        asked.spawn(async move {
            let path = format!("/containers/{}/stats", escape(&name));
            (place, daemon.get::<ContainerStats>(&with_query(&path, &[("stream", "false")])).await)
        });
    }
    let mut rows = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer? {
            (place, Ok(stats)) => rows.push((place, row(&stats, args.no_trunc))),
            // One of a list that was removed meanwhile is not missed.
            (_, Err(Error::Refused { status: 404, .. })) if args.containers.is_empty() => {}
            (_, Err(error)) => bail!(error),
        }
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(stats: &ContainerStats, whole: bool) -> Value {
    let name = stats.name.trim_start_matches('/');
    let id = if whole { stats.id.as_str() } else { &stats.id[..stats.id.len().min(SHORT)] };
    let (used, limit) = (stats.memory_in_use(), stats.memory_stats.limit);
    let share = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let both = |(left, right): (u64, u64), unit: fn(u64) -> String| format!("{} / {}", unit(left), unit(right));
    json!({
        "ID": id,
        "Container": name,
        "Name": name,
        "CPUPerc": format!("{:.2}%", stats.cpu_percent()),
        "MemUsage": both((used, limit), binary),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": both(stats.network_bytes(), decimal),
        "BlockIO": both(stats.block_bytes(), decimal),
        "PIDs": stats.pids_stats.current.to_string(),
    })
}

/// As Docker writes memory: `1.5MiB`.
fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// As Docker writes traffic: `1.5MB`.
fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Four significant digits for memory and three for traffic, without zeros at the end.
fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits: usize = if base > 1000.0 { 4 } else { 3 };
    let whole = if value < 10.0 {
        1
    } else if value < 100.0 {
        2
    } else if value < 1000.0 {
        3
    } else {
        4
    };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// `top`.
pub(crate) async fn top(daemon: Daemon, args: TopArgs) -> Result<u8> {
    let path = format!("/containers/{}/top", escape(&args.container));
    let found: TopResponse = daemon.get(&with_query(&path, &[("ps_args", &args.ps.join(" "))])).await?;
    let mut out = std::io::stdout().lock();
    let widths: Vec<usize> = (0..found.titles.len()).map(|at| width(&found, at)).collect();
    for line in std::iter::once(&found.titles).chain(&found.processes) {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("   ").trim_end())?;
    }
    Ok(0)
}

fn width(found: &TopResponse, column: usize) -> usize {
    let cells = std::iter::once(&found.titles).chain(&found.processes).filter_map(|line| line.get(column));
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// `update`.
pub(crate) async fn update(daemon: Daemon, args: UpdateArgs) -> Result<u8> {
    let request = change(&args)?;
    let mut failed = 0;
    for name in &args.containers {
        match daemon.post::<UpdateResponse>(&format!("/containers/{}/update", escape(name)), &request).await {
            Ok(response) => {
                say(name)?;
                response.warnings.into_iter().for_each(|warning| complain(&anyhow::Error::msg(warning)));
            }
            Err(error) => {
                complain(&error.into());
                failed = crate::ERROR;
            }
        }
    }
    Ok(failed)
}

fn change(args: &UpdateArgs) -> Result<UpdateRequest> {
    let size = |text: &Option<String>| text.as_deref().map_or(Ok(0), values::size);
    let cpu = &args.processors;
    let request = UpdateRequest {
        memory: size(&args.memory)?,
        memory_swap: swap(args.memory_swap.as_deref())?,
        memory_reservation: size(&args.memory_reservation)?,
        nano_cpus: cpu.cpus.as_deref().map_or(Ok(0), values::nano_cpus)?,
        cpu_shares: cpu.cpu_shares.unwrap_or_default(),
        cpu_quota: cpu.cpu_quota.unwrap_or_default(),
        cpu_period: cpu.cpu_period.unwrap_or_default(),
        cpuset_cpus: cpu.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: cpu.cpuset_mems.clone().unwrap_or_default(),
        cpu_realtime_period: cpu.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: cpu.cpu_rt_runtime.unwrap_or_default(),
        pids_limit: args.pids_limit,
        blkio_weight: args.blkio_weight.unwrap_or_default(),
        restart_policy: args.restart.as_deref().map(values::restart).transpose()?,
        ..UpdateRequest::default()
    };
    if request == UpdateRequest::default() {
        bail!("name what to change, such as --memory 512m or --restart always");
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_dockers() {
        let check = |bytes: u64, in_binary: &str, in_decimal: &str| {
            assert_eq!((binary(bytes).as_str(), decimal(bytes).as_str()), (in_binary, in_decimal));
        };
        check(0, "0B", "0B");
        check(512, "512B", "512B");
        check(1536, "1.5KiB", "1.54kB");
        check(442_368, "432KiB", "442kB");
        check(1_234_567, "1.177MiB", "1.23MB");
        check(8_350_000_000, "7.777GiB", "8.35GB");
    }
}
