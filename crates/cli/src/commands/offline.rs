//! `system reset` and `system fsck`: the daemon's program does them, without a daemon.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};

use crate::args::{FsckArgs, Global, ResetArgs};
use crate::{ERROR, connect};

/// Asks, then has everything ended and deleted.
pub(crate) fn reset(global: &Global, args: &ResetArgs) -> Result<u8> {
    if !args.force && !agreed(args.keep_state)? {
        return Ok(ERROR);
    }
    let words: &[&str] = if args.keep_state { &["reset", "--keep-state"] } else { &["reset"] };
    run(global, words)
}

/// Has what is kept checked.
pub(crate) fn fsck(global: &Global, args: &FsckArgs) -> Result<u8> {
    let words: &[&str] = if args.repair { &["fsck", "--repair"] } else { &["fsck"] };
    run(global, words)
}

/// Runs the daemon's program; its exit code.
fn run(global: &Global, words: &[&str]) -> Result<u8> {
    let mut command = connect::daemon_command(global)?;
    command.args(words);
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(ERROR))
}

fn agreed(keep_state: bool) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("reset asks before it deletes, and there is nobody to ask: -f does it without");
    }
    let what = if keep_state {
        "This ends all containers. Images, volumes and stopped containers are kept."
    } else {
        "This ends all containers and deletes them, all images, all volumes and all networks."
    };
    let mut output = std::io::stdout();
    write!(output, "{what}\nGo on? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
