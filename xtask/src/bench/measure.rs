//! Taking turns, and what comes of it.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Turns that are not counted.
const WARM_UP: u32 = 2;
/// Writes whose sync is timed.
const SYNCS: usize = 50;

/// Something that is measured: its name, and how it is run once.
pub(super) struct Candidate<'a> {
    pub(super) name: String,
    pub(super) command: Box<dyn Fn() -> Command + 'a>,
    /// What is undone after each turn, not timed.
    pub(super) after: Option<Box<dyn Fn() -> Result<()> + 'a>>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(name: impl Into<String>, command: impl Fn() -> Command + 'a) -> Self {
        Self { name: name.into(), command: Box::new(command), after: None }
    }
}

/// A table of times or other figures, the first row being what the others are compared with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) rows: Vec<(String, Vec<f64>)>,
    pub(super) notes: Vec<String>,
}

/// Runs all candidates in turn, `rounds` times; milliseconds.
pub(super) fn in_turn(title: &str, candidates: &[Candidate<'_>], rounds: u32) -> Result<Table> {
    let mut rows: Vec<(String, Vec<f64>)> = candidates.iter().map(|one| (one.name.clone(), Vec::new())).collect();
    for round in 0..WARM_UP + rounds {
        for (candidate, (_, times)) in candidates.iter().zip(&mut rows) {
            let time = once((candidate.command)()).with_context(|| candidate.name.clone())?;
            if let Some(after) = &candidate.after {
                after()?;
            }
            if round >= WARM_UP {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(Table { title: title.to_owned(), unit: "ms".to_owned(), rows, notes: vec![format!("{rounds} rounds, in turn")] })
}

/// Runs a command, which must succeed.
pub(super) fn once(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("{command:?}"))?;
    let output = child.wait_with_output()?;
    let time = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(time)
}

/// The value in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, unit, rows, notes } = self;
        // Times of candidates are compared; other figures stand for themselves.
        let first = rows.first().filter(|_| unit == "ms").map(|(_, values)| median(values));
        let (head, line) = if first.is_some() { (" to the first |", "---|") } else { ("", "") };
        writeln!(f, "### {title}\n\n| | min {unit} | median {unit} | max {unit} |{head}\n|---|---|---|---|{line}")?;
        for (name, values) in rows {
            let middle = median(values);
            let (min, max) = values.iter().fold((f64::INFINITY, 0.0_f64), |(min, max), v| (min.min(*v), max.max(*v)));
            write!(f, "| {name} | {min:.1} | {middle:.1} | {max:.1} |")?;
            first.map_or(Ok(()), |first| write!(f, " {:.2} |", middle / first))?;
            writeln!(f)?;
        }
        notes.iter().try_for_each(|note| write!(f, "\n{note}.")).and_then(|()| writeln!(f))
    }
}

/// What the figures were measured on.
pub(super) fn machine() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "{model}, {cores} cores, kernel {}, load {load} at the start; fsync of 4 KiB: median {:.2} ms",
        kernel.trim(),
        sync_latency()?
    ))
}

/// Median time of a 4 KiB write with fsync, milliseconds.
fn sync_latency() -> Result<f64> {
    let folder = tempfile::tempdir_in("/var/lib")?;
    let mut file = std::fs::File::create(folder.path().join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_all()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}

#[cfg(test)]
#[test]
fn the_middle_is_the_median() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    assert!(median(&[]).is_nan());
}
