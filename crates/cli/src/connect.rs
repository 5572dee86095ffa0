//! Which daemon to talk to, and how to start ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use atoll_client::{Client, Launch};

use crate::args::Global;

/// Where the socket is when nobody said otherwise.
const RUN: &str = "/run/atoll";
/// Its name in the run folder.
const SOCKET: &str = "atoll.sock";
/// The daemon's program, which lies beside this one.
const DAEMON: &str = "atolld";

/// A client of the daemon that the flags and the environment name. One that was named by its address is somebody's own
/// business; ours is started when it does not answer.
pub(crate) fn client(global: &Global) -> Result<Client> {
    let (address, launch) = daemon(global)?;
    Ok(Client::new(&address, launch)?)
}

/// The same, which starts none, and how ours would be started.
pub(crate) fn idle_client(global: &Global) -> Result<(Client, Option<Launch>)> {
    let (address, launch) = daemon(global)?;
    Ok((Client::new(&address, None)?, launch))
}

/// Where the daemon is, and how it is started if it is ours.
fn daemon(global: &Global) -> Result<(String, Option<Launch>)> {
    let named = global.host.clone().or_else(|| {
        if global.run.is_some() || global.root.is_some() {
            return None;
        }
        let from = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        from("ATOLL_HOST").or_else(|| from("DOCKER_HOST"))
    });
    if let Some(address) = named {
        return Ok((address, None));
    }
    let run = absolute(&global.run.clone().unwrap_or_else(default_run))?;
    let launch = launch(global, &run)?;
    Ok((format!("unix://{}", run.join(SOCKET).display()), Some(launch)))
}

/// The daemon's program with the flags of this one, for what it does without a socket on this host.
pub(crate) fn daemon_command(global: &Global) -> Result<Command> {
    if global.host.is_some() {
        bail!("this works on the host itself: use --root and --run in place of --host");
    }
    let launch = launch(global, &absolute(&global.run.clone().unwrap_or_else(default_run))?)?;
    let mut command = Command::new(launch.program);
    command.args(launch.arguments);
    Ok(command)
}

fn launch(global: &Global, run: &Path) -> Result<Launch> {
    let program = std::env::current_exe().context("finding this program")?.with_file_name(DAEMON);
    let mut arguments = vec!["--run".to_owned(), text(run)?];
    if let Some(root) = &global.root {
        arguments.extend(["--root".to_owned(), text(&absolute(root)?)?]);
    }
    if let Some(config) = &global.config {
        arguments.extend(["--config".to_owned(), text(&absolute(config)?)?]);
    }
    Ok(Launch { program, arguments, log: run.join("atolld.log") })
}

/// The run folder of root, or of an ordinary user (XDG base directories), as `atolld` chooses it.
fn default_run() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(RUN);
    }
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let data = || folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    match folder("XDG_RUNTIME_DIR") {
        Some(session) => session.join("atoll"),
        None => data().unwrap_or_else(|| PathBuf::from(".")).join("atoll/run"),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("finding {}", path.display()))
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(ToOwned::to_owned).with_context(|| format!("{} is no text", path.display()))
}
