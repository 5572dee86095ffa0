//! The first process inside a workload that asked for one (`--init`): it starts the program, passes signals on to it,
//! and collects every process that lost its parent. It ends as the program did.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};

const SIGCHLD: i32 = 17;

/// Runs `-- PROGRAM ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let [separator, program, arguments @ ..] = arguments else { bail!("name a program: atoll-shim init -- PROGRAM") };
    if separator != "--" {
        bail!("name a program after --");
    }
    let signals = atoll_sys::signal::block_all()?;
    // The standard library gives children an empty signal mask.
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            crate::complain(&anyhow::Error::from(error).context(program.clone()));
            return Ok(ExitCode::from(127));
        }
    };
    let child = Pid::from_child(&child);
    loop {
        let number = atoll_sys::signal::next(&signals)?;
        if number != SIGCHLD {
            if let Some(signal) = Signal::from_named_raw(number) {
                // It may have ended a moment ago; then its end is the next thing to be seen.
                let _ = rustix::process::kill_process(child, signal);
            }
            continue;
        }
        while let Some((ended, status)) = rustix::process::wait(WaitOptions::NOHANG).unwrap_or(None) {
            if ended == child {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                let code = code.context("it ended neither by itself nor by a signal")?;
                return Ok(ExitCode::from(u8::try_from(code & 0xff)?));
            }
        }
    }
}
