//! The program `atoll-shim`: one process for each workload, its parent, which outlives the daemon.
//!
//! ```text
//!   launch ── makes the workload, answers "created" ── execve of itself ──► monitor ── until the workload has ended
//!                                                                             ▲ │
//!                                                                             └─┘ execve of itself, for each restart
//!   log    ── writes the log of a workload that must not wait for the disk
//!   init   ── first process inside a workload that asked for one: starts its program, reaps, passes signals on
//! ```
//!
//! The two stages of a supervisor are two programs in one: what the first needed (the specification, the compiled
//! filter) is gone from memory when the second runs. A monitor whose workload is to run again makes it in the same way, and
//! becomes a fresh monitor. It has one thread; it wakes up when something happens, and by a timer only while the workload
//! waits for its next run. Left out on purpose: images, HTTP.

#![forbid(unsafe_code)]

mod failure;
mod handover;
mod init;
mod joins;
mod launch;
mod logfile;
mod monitor;
mod network;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "standard error is the supervisor's own log, which the daemon reads")]
fn complain(error: &anyhow::Error) {
    eprintln!("atoll-shim: {error:#}");
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    match arguments.get(1).map(String::as_str) {
        Some("launch") => {
            atoll_sys::exe::seal().context("making this program's file read-only for what it starts")?;
            launch::launch()?;
            Ok(ExitCode::SUCCESS)
        }
        Some("monitor") => {
            let state = arguments.get(3).and_then(|number| number.parse().ok()).context("no state was handed over")?;
            monitor::run(handover::take(state)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("log") => {
            logfile::run_writer()?;
            Ok(ExitCode::SUCCESS)
        }
        Some("init") => init::run(&arguments[2..]),
        Some("--version") => {
            say_version();
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("this program is started by atolld"),
    }
}

#[allow(clippy::print_stdout, reason = "the version is what was asked for")]
fn say_version() {
    println!("atoll-shim {} (protocol {})", env!("CARGO_PKG_VERSION"), atoll_wall::PROTOCOL);
}
