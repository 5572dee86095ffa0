//! Where the time of one `run` goes: what the kernel takes for each kind of system call, by `strace -f -T`.
//!
//! Tracing makes every call slower by some microseconds, so that what counts are the large ones, and their share.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::measure::{Table, median};

/// Rows of the table; the rest is summed up.
const ROWS: usize = 14;
/// Calls that wait for another process of the same run, whose own calls are in the table.
const WAITING: [&str; 7] = ["wait4", "waitid", "poll", "ppoll", "recvmsg", "recvfrom", "read"];

/// Runs `command` as often as wanted below strace, and sorts calls by their time.
pub(super) fn bench(command: impl Fn() -> Command, rounds: u32) -> Result<Table> {
    let log = tempfile::NamedTempFile::new()?;
    let mut all: HashMap<String, Vec<(u32, f64)>> = HashMap::new();
    for _ in 0..rounds {
        let traced = command();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-T", "-q", "-o"]).arg(log.path()).arg(traced.get_program()).args(traced.get_args());
        let output = strace.stdin(Stdio::null()).stdout(Stdio::null()).output().context("strace (package strace)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (call, sum) in sums(log.path())? {
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
    let title = "Where the time of one `run` goes: system calls by the time they take (`strace -f -T`)".to_owned();
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

/// The call's name and its time, of one line: `PID name(…) = 0 <0.000012>`, or resumed after another process's line.
fn read(line: &str) -> Option<(&str, f64)> {
    let (_, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let name = match rest.strip_prefix("<... ") {
        Some(resumed) => resumed.split(' ').next()?,
        None => rest.split('(').next()?,
    };
    let time = line.strip_suffix('>')?.rsplit_once('<')?.1.parse().ok()?;
    (!WAITING.contains(&name)).then_some((name, time))
}

#[cfg(test)]
#[test]
fn lines_of_strace_are_read() {
    for (line, expected) in [
        ("12 setns(3, 0) = 0 <0.000500>", Some(("setns", 0.0005))),
        ("12 <... clone3 resumed> => {parent_tid=[0]}, 88) = 13 <0.001000>", Some(("clone3", 0.001))),
        ("12 clone3({flags=CLONE_NEWNS <unfinished ...>", None),
        ("12 wait4(-1, NULL, 0, NULL) = 13 <0.001000>", None),
        ("12 +++ exited with 0 +++", None),
        ("12 write(1, \"a <0.1\", 6) = 6 <0.000007>", Some(("write", 0.000_007))),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
}
