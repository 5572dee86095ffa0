//! The repository's own tool: `cargo xtask tidy`, `fuzz`, `leftovers`, `bench` and `release`.
//!
//! `tidy` holds the tree against docs/ARCHITECTURE.md's rules (crate edges, budgets, opening comments) and prints what
//! breaks them; `fuzz` builds the targets of `fuzz/` with coverage on stable Rust and runs each for a while;
//! `leftovers` runs a command and names what it leaves on the machine; `bench` measures against peers; `release` makes
//! packages of the programs that are built.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

mod bench;
mod fuzz;
mod leftovers;
mod release;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The repository's own tool.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Hold the tree against the rules of the design.
    Tidy,
    /// Measure against the programs people use today.
    Bench {
        /// Which: run, runtime, exec, trace, peak, memory, load; all unless named.
        names: Vec<String>,
        /// How often each candidate has its turn.
        #[arg(long, default_value_t = 30)]
        rounds: u32,
    },
    /// Run a command and name what it leaves on this machine.
    Leftovers {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run every fuzz target from its corpus.
    Fuzz {
        /// How long each target runs, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Only this target.
        #[arg(long)]
        target: Option<String>,
    },
    /// Make a Debian package and an archive of the programs that are built.
    Release {
        /// Folder for both.
        #[arg(long, default_value = "target/packages")]
        out: PathBuf,
        /// Which package of this version it is.
        #[arg(long, default_value_t = 1)]
        revision: u32,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let root = root();
    match Cli::parse().task {
        Task::Tidy => tidy::run(&root),
        Task::Bench { names, rounds } => bench::run(&names, rounds).map(|()| ExitCode::SUCCESS),
        Task::Leftovers { command } => leftovers::run(&root, &command),
        Task::Fuzz { seconds, target } => fuzz::run(&root, seconds, target.as_deref()).map(|()| ExitCode::SUCCESS),
        Task::Release { out, revision } => release::run(&root, &out, revision).map(|()| ExitCode::SUCCESS),
    }
}

/// The repository's root, above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}
