//! The program `atoll`: flags become API requests, answers become text and exit codes.
//!
//! Exit codes are Docker's: 125 when Atoll itself failed, 126 and 127 when a program could not be run or found, the
//! program's own otherwise, 128 and the signal's number when a signal ended it.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod connect;
mod credentials;
mod output;
mod request;
mod session;
mod terminal;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;

/// The exit code of everything that is Atoll's own failure.
const FAILED: u8 = 125;
/// The exit code of commands that are not about a program's own code.
const ERROR: u8 = 1;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    trace(cli.global.verbose);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into(), FAILED),
    };
    let failed = commands::failure_code(&cli.command);
    let result = runtime.block_on(commands::run(cli));
    // A read of standard input that nobody waits for any more must not hold the program up.
    runtime.shutdown_background();
    terminal::restore();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => complain(&error, failed),
    }
}

#[allow(clippy::print_stderr, reason = "this is where errors are told")]
fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("atoll: {error:#}");
    ExitCode::from(code)
}

/// Whoever read our output has seen enough: `atoll ps | head -1`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &&(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().find(broken).is_some() && !error.chain().any(|cause| cause.is::<atoll_client::Error>())
}

fn trace(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
}
