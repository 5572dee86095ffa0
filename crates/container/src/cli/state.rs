//! The records of containers, one folder each below the root of the runtime.
//!
//! A folder is made first and under its lock (it reserves the name); the record in it is written to a temporary file and
//! renamed. A folder is used only when it is the caller's own and nobody else may write to it: a record names programs and
//! groups, and whoever wrote it decides what the caller runs and removes. A process is the recorded one only when its start time and the boot agree. The folder is on a file system
//! that a reboot empties, so nothing is synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use atoll_oci::runtime::{Hooks, OCI_VERSION, Spec, State, Status};
use atoll_sys::{cgroup::Cgroup, pidfd, proc};
use rustix::fs::{Mode, OFlags};
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
    pub(super) rootfs: PathBuf,
    /// Since 1970.
    pub(super) created: Duration,
    pub(super) cgroup: String,
    pub(super) spec: Spec,
}

/// What `state` and `list` print: the specification's state, and what runc adds to it.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) rootfs: PathBuf,
    /// RFC 3339.
    pub(super) created: String,
    /// Name of the user whose container it is.
    pub(super) owner: String,
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
        trust_root(root)?;
        let path = root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("container with given ID already exists: delete {id:?} first, or take another name")
            }
            other => other.with_context(|| format!("cannot make {}", path.display()))?,
        }
        Self::lock(path)
    }

    /// Opens that of an existing container.
    pub(super) fn open(root: &Path, id: &str) -> anyhow::Result<Self> {
        let path = root.join(id);
        if !path.is_dir() {
            bail!("container does not exist: {id:?}");
        }
        trust_root(root)?;
        Self::lock(path)
    }

    fn lock(path: PathBuf) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&path, flags, Mode::empty());
        let lock = File::from(lock.with_context(|| format!("cannot open {}", path.display()))?);
        let metadata = lock.metadata().with_context(|| format!("cannot open {}", path.display()))?;
        trust(&path, &metadata, 0o022)?;
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

/// The root of the records: with the sticky bit others may make their own folders in it, and not exchange ours.
fn trust_root(root: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(root).with_context(|| format!("cannot open {}", root.display()))?;
    trust(root, &metadata, if metadata.mode() & 0o1000 == 0 { 0o022 } else { 0 })
}

/// A folder of somebody else's, or one with a bit of `forbidden`, would make the caller run what others wrote.
fn trust(path: &Path, metadata: &fs::Metadata, forbidden: u32) -> anyhow::Result<()> {
    let (own, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    if (owner != own && owner != 0) || metadata.mode() & forbidden != 0 {
        bail!("{} belongs to another user or can be written to by others: it is not trusted", path.display());
    }
    Ok(())
}

impl Record {
    pub(super) fn new(
        id: &str,
        pid: i32,
        cgroup: &Cgroup,
        bundle: &Path,
        rootfs: &Path,
        spec: Spec,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            pid,
            start_time: proc::start_time(pid).context("cannot read the process's start time")?,
            boot_id: proc::boot_id().context("cannot read the boot id")?,
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
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

    pub(super) fn hooks(&self) -> Option<&Hooks> {
        self.spec.hooks.as_ref()
    }

    pub(super) fn listing(&self, folder: &Folder) -> anyhow::Result<Listing> {
        let owner = fs::metadata(&folder.path).map(|metadata| metadata.uid());
        Ok(Listing {
            state: self.state(folder)?,
            rootfs: self.rootfs.clone(),
            created: rfc3339(self.created),
            owner: owner.map(user_name).unwrap_or_default(),
        })
    }
}

/// The name of a user of the host, or the number where there is no entry.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = uid.to_string();
    let entry =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&&*uid));
    entry.and_then(|fields| fields.first().map(|name| (*name).to_owned())).unwrap_or(uid)
}

/// A time since 1970 as RFC 3339 in UTC, with nanoseconds.
fn rfc3339(since: Duration) -> String {
    format!("{}.{:09}Z", date_time(since), since.subsec_nanos())
}

/// Date and time of day of a time since 1970; the civil date by counting from 1 March of year 0.
pub(super) fn date_time(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year + era * 400, month + 3) } else { (year + era * 400 + 1, month - 9) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_795_536_591, "2026-11-24T16:09:51.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
    }
}
