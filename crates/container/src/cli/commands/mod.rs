//! Carrying out a call.
//!
//! Each function is one command on one container's folder, which it holds locked while it changes it. A container in the
//! foreground is removed at its end, also when making it failed half-way.

mod checkpoint;
mod control;
mod events;
mod features;
mod inspect;
mod life;
mod process;
mod signal;
mod spec;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use atoll_oci::runtime::OCI_VERSION;
use atoll_sys::userns;

use super::args::{Call, Command, HELP};

/// Most bytes of a `config.json` or `--process` file.
const CONFIG_MAX: u64 = 16 << 20;
/// Where the records are unless `--root` says otherwise.
const ROOT: &str = "/run/atoll-runtime";

/// Does what was asked; gives the exit code.
pub(super) fn carry_out(call: &Call) -> anyhow::Result<u8> {
    let root = call.global.root.clone().unwrap_or_else(default_root);
    let root = root.as_path();
    match &call.command {
        Command::Run(make) => life::run(root, make, call.global.groups),
        Command::Create(make) => life::create_only(root, make, call.global.groups),
        Command::Start(id) => life::start(root, id),
        Command::Delete { id, force } => life::delete(root, id, *force),
        Command::Exec(enter) => process::exec_in(root, enter),
        Command::Kill { id, signal, all } => control::kill(root, id, signal, *all),
        Command::Checkpoint(options) => checkpoint::checkpoint(root, options, &call.global.criu),
        Command::Restore(options) => checkpoint::restore(root, options, call.global.groups, &call.global.criu),
        Command::Pause(id) => control::freeze(root, id, true),
        Command::Resume(id) => control::freeze(root, id, false),
        Command::Update(update) => control::update(root, update),
        Command::State(id) => inspect::state(root, id),
        Command::List { quiet, json } => inspect::list(root, *quiet, *json),
        Command::Ps { id, json, options } => inspect::ps(root, id, *json, options),
        Command::Events { id, interval, once } => events::events(root, id, *interval, *once),
        Command::Features => features::features(),
        Command::Spec { bundle, rootless } => spec::spec(bundle, *rootless),
        Command::Help => print(HELP),
        Command::Version => {
            print(&format!("atoll-runtime version {}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION")))
        }
    }
}

/// An ordinary user's records are in the user's own folder of the session, also when an engine has made the user root of a
/// user namespace; who is called root there too has a system of their own.
fn default_root() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root()
        && (userns::is_privileged().unwrap_or(false) || std::env::var_os("USER").is_some_and(|name| name == "root"));
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !is_root => PathBuf::from(folder).join("atoll-runtime"),
        _ => ROOT.into(),
    }
}

fn print(text: &str) -> anyhow::Result<u8> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the answer")?;
    Ok(0)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let what = || format!("cannot read {}", path.display());
    let mut text = Vec::new();
    fs::File::open(path).and_then(|file| file.take(CONFIG_MAX + 1).read_to_end(&mut text)).with_context(what)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > CONFIG_MAX {
        bail!("{} has more than {CONFIG_MAX} bytes", path.display());
    }
    serde_json::from_slice(&text).with_context(what)
}
