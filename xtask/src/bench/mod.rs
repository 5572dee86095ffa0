//! `cargo xtask bench`: Atoll against the programs people use today, installed from Debian's packages.
//!
//! Candidates of one benchmark take turns, round by round, so that what else the machine does hits all of them; what counts
//! are medians and their ratios to the first candidate. The result is a table in Markdown, for `docs/BENCHMARKS.md`. Needs
//! root; a peer that is not installed is left out and named.

mod crowd;
mod load;
mod logs;
mod measure;
mod memory;
mod peers;
mod registry;
mod run;
mod runtime;
mod trace;

use anyhow::{Result, ensure};
use atoll_testkit::{Image, Layer};

use measure::Table;
use registry::Direction;

/// What can be measured.
const ALL: [&str; 11] = ["run", "runtime", "exec", "trace", "peak", "logs", "memory", "load", "push", "pull", "crowd"];

/// Runs the benchmarks named, or all, each for so many rounds.
pub(crate) fn run(names: &[String], rounds: u32) -> Result<()> {
    if runtime::take_part(rounds)? {
        return Ok(());
    }
    for name in names {
        ensure!(ALL.contains(&name.as_str()), "no benchmark {name:?}: there are {}", ALL.join(", "));
    }
    ensure!(atoll_testkit::require_root(), "benchmarks make containers: run them as root");
    println!("{}\n", measure::machine()?);
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if wanted("run") {
        print(&run::bench(rounds)?);
    }
    for name in ["runtime", "exec", "trace", "peak"].into_iter().filter(|name| wanted(name)) {
        print(&runtime::bench(name, rounds)?);
    }
    if wanted("logs") {
        print(&logs::bench(rounds.div_ceil(5))?);
    }
    if wanted("memory") {
        print(&memory::bench()?);
    }
    if wanted("load") {
        print(&load::bench(rounds.div_ceil(10))?);
    }
    if wanted("crowd") {
        crowd::bench(rounds)?.iter().for_each(print);
    }
    for (name, direction) in [("push", Direction::Push), ("pull", Direction::Pull)] {
        if wanted(name) {
            registry::bench(direction, rounds.div_ceil(10))?.iter().for_each(print);
        }
    }
    Ok(())
}

fn print(table: &Table) {
    println!("{table}");
}

/// The image that containers run in: busybox alone.
fn busybox() -> Result<Image> {
    let layer = Layer::new().folder("bin").file("bin/busybox", 0o755, std::fs::read("/bin/busybox")?);
    let layer = ["sh", "true", "sleep"]
        .into_iter()
        .fold(layer, |layer, applet| layer.symlink(&format!("bin/{applet}"), "busybox"));
    Ok(Image::new().layer(layer).config("Env", vec!["PATH=/bin"]))
}
