//! Where the time of one `run` goes: what the kernel takes for each kind of system call, by `perf trace`.
//!
//! The kernel's own trace points tell it, at some hundred nanoseconds a call.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::measure::{Table, median};

/// Rows of the table; the rest is summed up.
const ROWS: usize = 14;
/// Calls that wait for another process of the same run, whose own calls are in the table.
const WAITING: [&str; 7] = ["wait4", "waitid", "poll", "ppoll", "recvmsg", "recvfrom", "read"];

/// Runs `command` as often as wanted below perf, and sorts calls by their time.
pub(super) fn bench(command: impl Fn() -> Command, rounds: u32) -> Result<Table> {
    // perf keeps what a log was before beside it.
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut all: HashMap<String, Vec<(u32, f64)>> = HashMap::new();
    for _ in 0..rounds {
        let traced = command();
        let mut perf = Command::new("perf");
        perf.args(["trace", "-o"]).arg(&log).arg(traced.get_program()).args(traced.get_args());
        let output = perf.stdin(Stdio::null()).stdout(Stdio::null()).output().context("perf (package linux-perf)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (call, sum) in sums(&log)? {
            all.entry(call).or_default().push(sum);
        }
    }
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    for (call, sums) in all {
        let count = median(&sums.iter().map(|(count, _)| f64::from(*count)).collect::<Vec<_>>());
        rows.push((format!("`{call}`, {count:.0} times"), sums.iter().map(|(_, time)| time * 1e6).collect()));
    }
    rows.sort_by(|a, b| median(&b.1).total_cmp(&median(&a.1)));
    let rest: f64 = rows.iter().skip(ROWS).map(|(_, times)| median(times)).sum();
    let more = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let title = "Where the time of one `run` goes: system calls by the time they take (`perf trace`)".to_owned();
    let notes = vec![
        format!("{rounds} rounds; {more} further kinds of calls take {rest:.0} µs together"),
        format!("calls that wait for another process of the run are left out: {}", WAITING.join(", ")),
    ];
    Ok(Table { title, unit: "µs".to_owned(), rows, notes })
}

/// Number and time of the calls of each kind, in seconds.
fn sums(log: &Path) -> Result<HashMap<String, (u32, f64)>> {
    let mut sums: HashMap<String, (u32, f64)> = HashMap::new();
    for (call, time) in std::fs::read_to_string(log)?.lines().filter_map(read) {
        let sum = sums.entry(call.to_owned()).or_default();
        *sum = (sum.0 + 1, sum.1 + time);
    }
    Ok(sums)
}

/// The call's name and its time in seconds, of one line: `TIME (DURATION ms): PROGRAM/PID name(…) = 0`. A call during which
/// another process wrote a line has a second line, with its duration.
fn read(line: &str) -> Option<(&str, f64)> {
    let (_, rest) = line.split_once('(')?;
    let (duration, rest) = rest.split_once(" ms): ")?;
    let (_, call) = rest.split_once(' ')?;
    let call = call.trim_start().trim_start_matches("... [continued]: ");
    let (name, milliseconds) = (call.split('(').next()?, duration.trim().parse::<f64>().ok()?);
    (!WAITING.contains(&name)).then_some((name, milliseconds / 1e3))
}

#[cfg(test)]
#[test]
fn lines_of_perf_are_read() {
    for (line, expected) in [
        (
            "     3.725 ( 0.500 ms): atoll-runtime/25281 clone3(uargs: 0x7ffe, size: 88)   = 25282",
            Some(("clone3", 0.0005)),
        ),
        ("     4.713 (         ): atoll-runtime/25281 mkdir(pathname: 0x7ffe) ...", None),
        ("     4.713 ( 1.000 ms): atoll-runtime/25281  ... [continued]: mkdir())      = 0", Some(("mkdir", 0.001))),
        ("     0.000 ( 0.001 ms): atoll-runtime/7 ppoll(ufds: 0x1)                    = 1", None),
        ("         ? (         ): atoll-runtime/25282  ... [continued]: clone3())     = 0", None),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
}
