//! A program that is run for what it leaves behind in a root file system: the second half of a base image.
//!
//! It is no workload: it has no record, no name and no events, and when the daemon is killed its successor deletes it.

use std::path::PathBuf;
use std::sync::Arc;

use atoll_model::{Command, Draft, ImageRef, Isolation, Workload, WorkloadId};
use atoll_oci::Digest;

use crate::runtime::log::{Reader, Tail};
use crate::runtime::{Driver, Event, LogFormat, Plan, ResolvedMount, Streams};
use crate::{Engine, Error, host};

/// Lines of a failed step's output that its error shows.
const SHOWN: usize = 20;

/// What to run.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it is, for the error when it fails.
    pub(crate) what: String,
    /// Layers of its root file system, bottom first.
    pub(crate) layers: Vec<Digest>,
    /// The program and its environment.
    pub(crate) command: Command,
    /// What it sees of the host.
    pub(crate) mounts: Vec<ResolvedMount>,
}

/// A step that was run: what it wrote, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ran {
    engine: Engine,
    id: WorkloadId,
    /// The writable layer.
    pub(crate) upper: PathBuf,
}

impl Drop for Ran {
    fn drop(&mut self) {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        // Deleting takes a while, and the daemon that is killed meanwhile has a successor that does it.
        tokio::task::spawn_blocking(move || engine.delete_files(id.as_str()));
    }
}

impl Engine {
    /// Runs a step to its end, without a network.
    ///
    /// # Errors
    /// When its program fails: with the end of its output.
    pub(crate) async fn run_step(&self, step: Step) -> Result<Ran, Error> {
        let id = host::new_id()?;
        let (folder, run) = (self.folder(&id), self.run_folder(&id));
        host::make_folder(&folder)?;
        host::make_folder(&run)?;
        let root = self.shared.store.create_root(id.as_str(), &step.layers, None)?;
        let ran = Ran { engine: self.clone(), id: id.clone(), upper: root.upper.clone() };
        let workload = throwaway(id, step.command, step.layers)?;
        let plan = Plan {
            root: crate::mounts::overlay(root, true)?,
            mounts: step.mounts,
            network: None,
            helper: None,
            joins: Vec::new(),
            streams: Streams { terminal: None, stdin: false, stdin_once: false },
            log: crate::log::plan(&workload, folder.clone(), &self.shared.settings.log)?,
            restarts: 0,
            run,
            workload: Arc::new(workload),
        };
        let handle = self.shared.driver.create(plan).await?;
        let mut events = handle.events();
        handle.start().await?;
        loop {
            match events.recv().await {
                Some(Event::Exited { exit, .. }) if exit.code == 0 => return Ok(ran),
                Some(Event::Exited { exit, .. }) => {
                    let said = last_lines(&folder);
                    return Err(Error::StepFailed { what: step.what, code: exit.code, said });
                }
                Some(_) => {}
                None => return Err(Error::StepFailed { what: step.what, code: 137, said: String::new() }),
            }
        }
    }
}

fn throwaway(id: WorkloadId, command: Command, layers: Vec<Digest>) -> Result<Workload, Error> {
    let none = layers.first().cloned().ok_or_else(|| Error::Invalid("a step needs a root file system".to_owned()))?;
    let Draft { mut host, security, resources, life, labels, .. } = Draft::default();
    // What it writes must not tell where it ran.
    "localhost".clone_into(&mut host.hostname);
    Ok(Workload {
        name: format!("step_{}", id.short()),
        id,
        created: host::now(),
        isolation: Isolation::Container,
        image: ImageRef { name: String::new(), manifest: none.clone(), id: none, layers },
        command,
        host,
        security,
        resources,
        mounts: Vec::new(),
        life,
        labels,
    })
}

fn last_lines(folder: &std::path::Path) -> String {
    let mut text = String::new();
    let tail = Tail { lines: SHOWN, stdout: true, stderr: true };
    if let Ok(mut reader) = Reader::open(folder, &LogFormat::Records, Some(tail)) {
        while let Ok(Some(record)) = reader.next_record() {
            text.push_str(&String::from_utf8_lossy(&record.bytes));
        }
    }
    text
}
