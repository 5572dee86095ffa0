//! Nothing of ours is left: runs a command, such as the tests, and names what stays on this machine after it.
//!
//! The machine is looked at before and after (module `traces`), and what is new and ours is left over. The command gets a
//! temporary folder of its own (`TMPDIR`): whatever lies there later is left over, and whoever knows its name (a process, a
//! mount) belongs to the command, whatever else happens on the machine meanwhile. What has only a name to be known by (control
//! groups, bridges, packet filters, users) is ours by its prefix, and not judged where others' daemons work at the same time.

mod traces;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use traces::{Marks, Trace};

/// How long what ends by itself, such as a process that has just been killed, may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(200);

/// Runs the command and says what it leaves; fails as it does, or when something is left.
pub(crate) fn run(root: &Path, command: &[String]) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("atoll-").tempdir()?;
    // Everybody may work there, as in the system's.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777))?;
    let marks = Marks { temporary: folder.path().to_owned(), programs: root.join("target") };
    let before = traces::look(&marks)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    // What cargo says here of the package xtask would have build scripts run again below another cargo.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    let status = command.args(arguments).env("TMPDIR", folder.path()).status().with_context(|| program.clone())?;
    let others_work = traces::others_work(&marks)?;
    let left = left_in_the_end(&marks, &before)?.into_iter();
    let (unclear, left): (Vec<_>, Vec<_>) = left.partition(|trace| others_work && trace.is_only_called_so());
    for trace in &unclear {
        println!("not judged, as daemons of others run here: {trace}");
    }
    for trace in &left {
        println!("left over: {trace}");
    }
    if !left.is_empty() {
        println!("left over: {} in all; the temporary folder is kept: {}", left.len(), folder.keep().display());
        return Ok(ExitCode::FAILURE);
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What is still there when time is up.
fn left_in_the_end(marks: &Marks, before: &BTreeSet<Trace>) -> Result<BTreeSet<Trace>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = &traces::look(marks)? - before;
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(POLL);
    }
}
