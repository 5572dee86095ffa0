//! The command line of an OCI runtime, as runc's: `run create start state kill delete list exec ps pause
//! resume update events features spec checkpoint restore`.
//!
//! Arguments become a [`Call`](args::Call) (pure), which one function of `commands` carries out on the records that
//! `state` keeps below `--root`.

mod args;
mod commands;
mod console;
mod log;
mod state;

use std::io::Write;
use std::process::ExitCode;

/// Exit code of a runtime's own failure.
const FAILED: u8 = 1;
/// Exit code of `exec` when the process was not made: what the process itself returns stays below.
const EXEC_FAILED: u8 = 255;
/// Exit code for a command that is none.
const NO_COMMAND: u8 = 3;

/// The program: seals itself, reads the command line, carries it out.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let call = match args::parse(&arguments) {
        Ok(call) => call,
        Err(error) => {
            let code = if matches!(error, args::Error::Command(_)) { NO_COMMAND } else { FAILED };
            return fail(&log::Log::default(), &error.into(), code);
        }
    };
    let log = &call.global.log;
    let name = &call.name;
    log.debug(&format!("{name} begins: version {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    match commands::carry_out(&call) {
        Ok(code) => {
            log.debug(&format!("{name} ends with code {code}"));
            ExitCode::from(code)
        }
        Err(error) => {
            let exec = matches!(call.command, args::Command::Exec(_));
            fail(log, &error, if exec { EXEC_FAILED } else { FAILED })
        }
    }
}

/// Tells a failure on standard error and in the log that the caller named.
fn fail(log: &log::Log, error: &anyhow::Error, code: u8) -> ExitCode {
    log.failure(&error.chain().map(reason).collect::<Vec<_>>().join(": "));
    ExitCode::from(code)
}

/// One link of an error's chain; the system's reasons as the engines above know them: `permission denied`.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        Some(number) => text.trim_end_matches(&format!(" (os error {number})")).to_lowercase(),
        None => text,
    }
}

/// Tells on standard error what did not keep the command from being carried out.
fn warn(text: &str) {
    // With standard error closed nobody reads this.
    let _ = writeln!(std::io::stderr(), "atoll-runtime: warning: {text}");
}
