//! The records of containers, one folder each below the root of the runtime.
//!
//! A folder is made first and under its lock (it reserves the name); the record in it is written to a temporary file and
//! renamed. A process is the recorded one only when its start time and the boot agree. The folder is on a file system
//! that a reboot empties, so nothing is synced.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use atoll_oci::runtime::{OCI_VERSION, Spec, State, Status};
use atoll_sys::{cgroup::Cgroup, pidfd, proc};
use serde::{Deserialize, Serialize};

/// The record's name in the folder.
const RECORD: &str = "state.json";
/// The socket that a created container waits on.
const SOCKET: &str = "start.sock";

/// What is kept about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) boot_id: String,
    pub(super) bundle: PathBuf,
    pub(super) cgroup: String,
    pub(super) spec: Spec,
}

/// A container's folder, locked.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Reserves the name.
    pub(super) fn create(root: &Path, id: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(root).with_context(|| format!("cannot make {}", root.display()))?;
        let path = root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("container {id:?} exists: delete it first or take another name")
            }
            other => other.with_context(|| format!("cannot make {}", path.display()))?,
        }
        Self::lock(path)
    }

    /// Opens that of an existing container.
    pub(super) fn open(root: &Path, id: &str) -> anyhow::Result<Self> {
        let path = root.join(id);
        if !path.is_dir() {
            bail!("container {id:?} does not exist");
        }
        Self::lock(path)
    }

    fn lock(path: PathBuf) -> anyhow::Result<Self> {
        let lock = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).context("cannot lock the container")?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    pub(super) fn write(&self, record: &Record) -> anyhow::Result<()> {
        let temporary = self.path.join("state.json.new");
        fs::write(&temporary, serde_json::to_vec(record)?).context("cannot write the state")?;
        fs::rename(&temporary, self.path.join(RECORD)).context("cannot write the state")
    }

    pub(super) fn read(&self) -> anyhow::Result<Record> {
        let path = self.path.join(RECORD);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    pub(super) fn remove(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

impl Record {
    pub(super) fn new(id: &str, pid: i32, bundle: &Path, cgroup: &Cgroup, spec: Spec) -> anyhow::Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            pid,
            start_time: proc::start_time(pid).context("cannot read the process's start time")?,
            boot_id: proc::boot_id().context("cannot read the boot id")?,
            bundle: bundle.to_owned(),
            cgroup: cgroup.to_string(),
            spec,
        })
    }

    pub(super) fn cgroup(&self) -> anyhow::Result<Cgroup> {
        Ok(self.cgroup.parse()?)
    }

    /// The process, if it still is the recorded one and has not ended.
    pub(super) fn process(&self) -> Option<std::os::fd::OwnedFd> {
        // The descriptor first: what is read afterwards is true of it as long as it has not ended.
        let process = pidfd::open(self.pid).ok()?;
        let (state, start) = proc::state_and_start(self.pid).ok()?;
        let same = start == self.start_time && proc::boot_id().ok()? == self.boot_id;
        (same && !matches!(state, 'Z' | 'X')).then_some(process)
    }

    pub(super) fn status(&self, folder: &Folder) -> anyhow::Result<Status> {
        Ok(match self.process() {
            None => Status::Stopped,
            Some(_) if self.cgroup()?.is_frozen() => Status::Paused,
            Some(_) if folder.socket().exists() => Status::Created,
            Some(_) => Status::Running,
        })
    }

    pub(super) fn state(&self, folder: &Folder) -> anyhow::Result<State> {
        let status = self.status(folder)?;
        Ok(State {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.spec.annotations.clone(),
        })
    }
}
