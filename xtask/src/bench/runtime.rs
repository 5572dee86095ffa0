//! `atoll-runtime run` of a bundle beside crun and runc, in one private mount namespace with cgroup v1 alone: crun takes no
//! hybrid layout.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use atoll_testkit::program;

use super::measure::{Candidate, Table, in_turn};
use super::peers::find;

/// Set in the process that is in the namespace already.
const INSIDE: &str = "ATOLL_BENCH_INSIDE";

pub(super) fn bench(rounds: u32) -> Result<Table> {
    if std::env::var_os(INSIDE).is_none() {
        return outside(rounds);
    }
    let bundle = tempfile::tempdir()?;
    prepare(bundle.path())?;
    let state = tempfile::tempdir()?;
    let one = |name: &str, path: std::path::PathBuf| {
        let (bundle, state) = (bundle.path().to_owned(), state.path().join(name));
        Candidate::new(name, move || {
            let mut command = Command::new(&path);
            command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle).arg("atoll-bench");
            command
        })
    };
    let mut candidates = vec![one("atoll-runtime", program("atoll-runtime"))];
    candidates.extend(["crun", "runc"].into_iter().filter_map(|name| Some(one(name, find(name)?))));
    in_turn("`run` of a bundle (busybox `true`), cgroup v1", &candidates, rounds)
}

/// The same program again, where `/sys/fs/cgroup/unified` is not.
fn outside(rounds: u32) -> Result<Table> {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" bench runtime --rounds \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .arg(rounds.to_string())
        .env(INSIDE, "1")
        .output()
        .context("unshare (package util-linux)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    read(&text).context("the benchmark inside printed no table")
}

/// The table that the inner process printed, as far as it is needed: its rows come back as they are.
fn read(text: &str) -> Option<Table> {
    let title = text.lines().find_map(|line| line.strip_prefix("### "))?.to_owned();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split('|').map(str::trim).collect();
        let values: Vec<f64> = cells.get(1..4)?.iter().filter_map(|cell| cell.parse().ok()).collect();
        (values.len() == 3).then(|| (cells[0].to_owned(), values))
    });
    let rows = rows.collect();
    let notes =
        text.lines().rev().find(|line| line.ends_with("in turn.")).map(|line| line.trim_end_matches('.').to_owned());
    Some(Table { title, unit: "ms", rows, notes: notes.into_iter().collect() })
}

fn prepare(bundle: &Path) -> Result<()> {
    let bin = bundle.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox"))?;
    symlink("busybox", bin.join("true"))?;
    for folder in ["proc", "sys", "dev"] {
        std::fs::create_dir(bundle.join("rootfs").join(folder))?;
    }
    let made = Command::new(program("atoll-runtime")).args(["spec", "--bundle"]).arg(bundle).output()?;
    ensure!(made.status.success(), "atoll-runtime spec: {}", String::from_utf8_lossy(&made.stderr));
    let file = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    // The newest that Debian's crun and runc know.
    spec["ociVersion"] = "1.0.2".into();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    std::fs::write(&file, serde_json::to_vec(&spec)?)?;
    Ok(())
}

#[cfg(test)]
#[test]
fn a_printed_table_is_read_back() {
    let table = Table {
        title: "t".to_owned(),
        unit: "ms",
        rows: vec![("a".to_owned(), vec![1.0, 2.0, 3.0]), ("b".to_owned(), vec![2.0, 4.0, 6.0])],
        notes: vec!["9 rounds, in turn".to_owned()],
    };
    let read = read(&format!("machine\n\n{table}")).expect("a table");
    assert_eq!((&read.title, &read.rows, &read.notes), (&table.title, &table.rows, &table.notes));
}
