//! What is inside a workload's root file system, taken out and put in as archives: `cp` and `export`.
//!
//! The root of one that runs is lent by its driver. For one that does not, the driver makes a workload ready that has the
//! same root and mounts, and nothing else of it; that is never started and taken away again. None of its programs is run, and
//! no mount ever stands on the host. Meanwhile the workload can be neither started nor removed.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use atoll_model::{Command, Draft, Security, Workload};
use atoll_store::{Found, Inside, InsideError, PathStat, Placement};
use tokio::sync::oneshot;

use crate::bytes::{ByteStream, pipe};
use crate::entry::Entry;
use crate::runtime::{Driver, Handle, LogFormat, LogPlan, Plan, Streams, View};
use crate::{Engine, Error, host};

/// The command line of a workload that is only made ready: a program that there is behind every wall of namespaces, whatever
/// the image has. It is looked for, and never run.
const NEVER_RUN: &str = "/proc/self/exe";

/// How an archive is put into a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyIn {
    /// Whether a folder may not become a file, nor a file a folder.
    pub keep_kinds: bool,
    /// Whether everything belongs to the workload's user, where it has one, instead of whom the archive says.
    pub to_user: bool,
}

impl Engine {
    /// What is at a path inside.
    ///
    /// # Errors
    /// When nothing is there.
    pub async fn stat_path(&self, name: &str, path: &str) -> Result<PathStat, Error> {
        let entry = self.find(name)?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let look = move |root| find(&Inside::new(root), &name, &path).map(|found| found.stat);
        self.with_root(&entry, View::Whole, look).await
    }

    /// What is at a path inside, as an archive.
    ///
    /// # Errors
    /// When nothing is there; what fails later ends the stream.
    pub async fn copy_out(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream), Error> {
        let entry = self.find(name)?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let (tell, told) = oneshot::channel();
        let (sink, stream) = pipe();
        let engine = self.clone();
        let packing = tokio::spawn(async move {
            let pack = move |root| {
                let found = find(&Inside::new(root), &name, &path)?;
                // Whoever asked may have left.
                drop(tell.send(found.stat.clone()));
                Ok(sink.fill(|writer| found.pack(writer))?)
            };
            engine.with_root(&entry, View::Whole, pack).await?;
            engine.say(&entry, "archive-path", &[]);
            Ok(())
        });
        begun(told, packing).await.map(|stat| (stat, stream))
    }

    /// Puts an archive into a folder inside.
    ///
    /// # Errors
    /// When there is no such folder, it cannot be written to, or the archive is not acceptable.
    pub async fn copy_in(
        &self,
        name: &str,
        path: &str,
        wanted: CopyIn,
        archive: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let entry = self.find(name)?;
        let user = entry.workload().command.user.clone();
        let (name, path) = (name.to_owned(), path.to_owned());
        let unpack = move |root| {
            let inside = Inside::new(root);
            let owner = if wanted.to_user && !user.is_empty() { Some(inside.user(&user)?) } else { None };
            let placement = Placement { keep_kinds: wanted.keep_kinds, owner, name: None };
            let plain = atoll_store::unpacked(archive).map_err(|error| Error::Invalid(error.to_string()))?;
            inside.unpack(&path, plain, placement).map_err(|error| missing(error, &name, &path))
        };
        self.with_root(&entry, View::Whole, unpack).await?;
        self.say(&entry, "extract-to-dir", &[]);
        Ok(())
    }

    /// A workload's root file system as an archive, without what is mounted in it.
    ///
    /// # Errors
    /// When there is no such workload; what fails later ends the stream.
    pub async fn export(&self, name: &str) -> Result<ByteStream, Error> {
        let entry = self.find(name)?;
        let (tell, told) = oneshot::channel();
        let (sink, stream) = pipe();
        let engine = self.clone();
        let packing = tokio::spawn(async move {
            let pack = move |root| {
                let _ = tell.send(());
                Ok(sink.fill(|writer| Inside::new(root).pack_all(writer))?)
            };
            engine.with_root(&entry, View::Bare, pack).await?;
            engine.say(&entry, "export", &[]);
            Ok(())
        });
        begun(told, packing).await.map(|()| stream)
    }

    /// Has `work` done on a workload's root file system.
    async fn with_root<T: Send + 'static>(
        &self,
        entry: &Arc<Entry>,
        view: View,
        work: impl FnOnce(OwnedFd) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if entry.running().is_ok() {
            return self.on_root(entry, view, work).await;
        }
        let _operation = entry.operation.lock().await;
        if entry.standing.borrow().removed {
            return Err(Error::no_workload(&entry.workload().name));
        }
        if entry.running().is_ok() {
            return self.on_root(entry, view, work).await;
        }
        let handle = self.make_ready(entry, view).await?;
        let result = self.on_root(entry, view, work).await;
        handle.abandon().await;
        self.clear_run_folder(&entry.id);
        result
    }

    async fn on_root<T: Send + 'static>(
        &self,
        entry: &Arc<Entry>,
        view: View,
        work: impl FnOnce(OwnedFd) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (driver, run) = (self.shared.driver.clone(), self.run_folder(&entry.id));
        host::blocking(move || work(driver.root(&run, view)?)).await
    }

    /// A workload with the root and the mounts of one that does not run, which is not started.
    async fn make_ready(&self, entry: &Arc<Entry>, view: View) -> Result<Handle, Error> {
        let engine = self.clone();
        let there = Arc::clone(entry);
        let plan = host::blocking(move || -> Result<Plan, Error> {
            let workload = there.workload();
            let (folder, run) = (engine.folder(&there.id), engine.run_folder(&there.id));
            host::make_folder(&folder)?;
            host::make_folder(&run)?;
            let limits = &engine.shared.settings.log;
            Ok(Plan {
                mounts: match view {
                    View::Whole => engine.mounts_that_stay(&workload, &folder)?,
                    View::Bare => Vec::new(),
                },
                root: crate::mounts::overlay(engine.root_of(&workload)?, false)?,
                workload: Arc::new(hollow(&workload)),
                network: None,
                helper: None,
                streams: Streams { terminal: None, stdin: false, stdin_once: false },
                joins: Vec::new(),
                log: LogPlan {
                    folder,
                    file_bytes: limits.file_bytes,
                    files: limits.files,
                    format: LogFormat::Nothing,
                    buffer: None,
                },
                restarts: 0,
                run,
            })
        })
        .await;
        let made = match plan {
            Ok(plan) => self.shared.driver.create(plan).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.clear_run_folder(&entry.id);
        }
        made
    }
}

/// What `tell` said, or why it did not come to that.
async fn begun<T>(told: oneshot::Receiver<T>, packing: tokio::task::JoinHandle<Result<(), Error>>) -> Result<T, Error> {
    match told.await {
        Ok(value) => Ok(value),
        Err(_) => match packing.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Err(Error::Invalid("the archive ended before it began".to_owned())),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
    }
}

fn find(inside: &Inside, name: &str, path: &str) -> Result<Found, Error> {
    inside.find(path).map_err(|error| missing(error, name, path))
}

fn missing(error: InsideError, name: &str, path: &str) -> Error {
    match error {
        InsideError::NotFound(_) => Error::NoSuch(format!("Could not find the file {path} in container {name}")),
        other => other.into(),
    }
}

impl From<InsideError> for Error {
    fn from(error: InsideError) -> Self {
        match error {
            InsideError::Archive(error) if !error.is_the_archives() => Self::Store(error),
            other => Self::Invalid(atoll_model::sentence(&other)),
        }
    }
}

/// A workload of which nothing is left but its root file system: no program, limits, network or devices.
fn hollow(workload: &Workload) -> Workload {
    let Draft { mut host, security, resources, life, .. } = Draft::default();
    "localhost".clone_into(&mut host.hostname);
    let read_only_root = workload.security.read_only_root;
    Workload {
        command: Command { cmd: vec![NEVER_RUN.to_owned()], ..Command::default() },
        host,
        security: Security { read_only_root, ..security },
        resources,
        life,
        mounts: Vec::new(),
        ..workload.clone()
    }
}
