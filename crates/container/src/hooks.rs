//! Hooks: programs of the configuration that run at points of a container's life (runtime-spec config.md, "POSIX-platform
//! Hooks"; runtime.md, "Lifecycle").
//!
//! Each gets the container's state as JSON on its standard input, its own environment only, and as long as its `timeout`.
//! Input and output are anonymous files, so that neither side can block on the other; the end of what a failed hook said
//! becomes part of the error.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atoll_oci::runtime::{Hook, Hooks, OCI_VERSION, Spec, State, Status};
use atoll_sys::pidfd;
use rustix::fs::MemfdFlags;

/// Bytes of a failed hook's output that are shown.
const SAID_MAX: u64 = 1024;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the runtime's namespaces while the container is created, before its root is entered; deprecated.
    Prestart,
    /// The same.
    CreateRuntime,
    /// In the container's namespaces, before its root is entered.
    CreateContainer,
    /// In the container, before its program is executed.
    StartContainer,
    /// In the runtime's namespaces, after the program was executed.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

/// A hook that could not be run or did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{stage} hook {index} ({path:?}) {what}")]
pub struct HookError {
    /// When.
    pub stage: Stage,
    /// Which one, from 0.
    pub index: usize,
    /// Its program.
    pub path: String,
    /// What went wrong.
    pub what: String,
}

/// The state that hooks and listeners are told of a container that is being created (runtime.md, "State"); its `pid` is to come.
pub(crate) fn creating(id: &str, spec: &Spec, bundle: &Path) -> State {
    State {
        oci_version: OCI_VERSION.to_owned(),
        id: id.to_owned(),
        status: Status::Creating,
        pid: 0,
        bundle: bundle.to_string_lossy().into_owned(),
        annotations: spec.annotations.clone(),
    }
}

/// Runs the hooks of the runtime's namespaces, when the container has its own and nothing runs in it yet.
pub(crate) fn run_creating(hooks: &Hooks, state: &State) -> Result<(), HookError> {
    let folder = Path::new(&state.bundle);
    run(Stage::Prestart, &hooks.prestart, state, folder)?;
    run(Stage::CreateRuntime, &hooks.create_runtime, state, folder)
}

/// Runs the hooks of a stage in their order, in `folder`, until one fails.
///
/// # Errors
/// [`HookError`] of that one.
pub fn run(stage: Stage, hooks: &[Hook], state: &State, folder: &Path) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, folder).map_err(|what| HookError { stage, index, path: hook.path.clone(), what })?;
    }
    Ok(())
}

/// Runs all hooks of a stage, whatever becomes of each; gives what failed.
#[must_use]
pub fn run_all(stage: Stage, hooks: &[Hook], state: &State, folder: &Path) -> Vec<HookError> {
    let each = |(index, hook): (usize, &Hook)| {
        let what = run_one(hook, state, folder).err()?;
        Some(HookError { stage, index, path: hook.path.clone(), what })
    };
    hooks.iter().enumerate().filter_map(each).collect()
}

fn anonymous(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn run_one(hook: &Hook, state: &State, folder: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot be run: {error}");
    let input = anonymous(&serde_json::to_vec(state).map_err(|error| failed(error.into()))?).map_err(failed)?;
    let output = anonymous(b"").map_err(failed)?;
    let (stdout, stderr) = (output.try_clone().map_err(failed)?, output.try_clone().map_err(failed)?);
    let mut command = Command::new(&hook.path);
    command.env_clear().current_dir(folder).stdin(input).stdout(stdout).stderr(stderr);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    for variable in &hook.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    let child = command.spawn().map_err(failed)?;
    let id = i32::try_from(child.id()).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    let process = pidfd::open(id).map_err(failed)?;
    let patience = hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let ended = pidfd::poll(&process, patience).map_err(failed)?;
    if !ended {
        // It may have ended just now; either way it is collected.
        let _ = pidfd::kill(&process, libc::SIGKILL);
    }
    let exit = pidfd::wait(&process).map_err(failed)?;
    let end = match exit {
        _ if !ended => format!("did not end within {} s and was killed", hook.timeout.unwrap_or_default()),
        pidfd::Exit::Code(0) => return Ok(()),
        pidfd::Exit::Code(code) => format!("ended with status {code}"),
        pidfd::Exit::Signal(signal) => format!("was ended by signal {signal}"),
    };
    Err(end + &last_words(output))
}

fn last_words(mut output: File) -> String {
    let start = output.metadata().map_or(0, |metadata| metadata.len().saturating_sub(SAID_MAX));
    let mut said = Vec::new();
    // What it said is an addition: without it the error still tells what happened.
    let _ = output.seek(SeekFrom::Start(start)).and_then(|_| output.take(SAID_MAX).read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) }
}
