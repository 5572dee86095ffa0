//! The command line of an OCI runtime, as runc's: `run create start state kill delete list exec ps pause resume spec`.
//!
//! Arguments become a [`Call`](args::Call) (pure), which one function of `commands` carries out on the records that
//! `state` keeps below `--root`. Checkpoints, updates, events and systemd's cgroup driver are left out and refused.

mod args;
mod commands;
mod console;
mod state;

use std::io::Write;
use std::process::ExitCode;

/// Exit code of a runtime's own failure.
const FAILED: u8 = 1;
/// What a start says that failed for neither of the reasons that shells tell apart.
const UNCLEAR: u8 = 128;

/// The program: seals itself, reads the command line, carries it out.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let call = match args::parse(&arguments) {
        Ok(call) => call,
        Err(error) => return fail(&args::Log::default(), &error.into()),
    };
    match commands::carry_out(&call) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&call.global.log, &error),
    }
}

/// Tells a failure on standard error and in the log that the caller named.
fn fail(log: &args::Log, error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    // With standard error closed nobody reads this.
    let _ = writeln!(std::io::stderr(), "atoll-runtime: {text}");
    if let Some(path) = &log.path
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let line = if log.json {
            serde_json::json!({"level": "error", "msg": text}).to_string()
        } else {
            format!("level=error msg={text:?}")
        };
        let _ = writeln!(file, "{line}");
    }
    let start = match error.downcast_ref::<crate::ExecError>() {
        Some(crate::ExecError::Start(error)) => Some(error),
        _ => error.downcast_ref::<crate::StartError>(),
    };
    let code = start.map(crate::StartError::exit_code).filter(|code| *code != UNCLEAR);
    ExitCode::from(code.unwrap_or(FAILED))
}
