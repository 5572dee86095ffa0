//! What an engine is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use atoll_model::{Log, LogDriver};
use atoll_registry::Registries;

use crate::runtime::LogPlan;

/// Where an engine keeps things and what it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Durable state: `/var/lib/atoll` unless configured.
    pub root: PathBuf,
    /// State that is gone at reboot: `/run/atoll` unless configured.
    pub run: PathBuf,
    /// The program `atoll-shim`.
    pub shim: PathBuf,
    /// The cgroup below which workloads get theirs; none is one of ours, chosen when the root is first used.
    pub cgroup_parent: Option<String>,
    /// Where workloads' output is kept that name no place, and how much of it.
    pub log: LogSettings,
    /// Bytes that the writable layer of a workload takes at most that does not say so itself.
    pub storage: Option<u64>,
    /// Where specifications of devices lie (Container Device Interface), the last counts most.
    pub cdi_folders: Vec<PathBuf>,
    /// How registries are spoken to.
    pub registries: Registries,
    /// When images go because the disk fills up; never, where there is none.
    pub watermark: Option<Watermark>,
    /// Whether an ordinary user runs the engine, as root of a user namespace: its networks and control groups are those that
    /// such a user can have.
    pub rootless: bool,
}

/// Where systemd's journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// When images that nothing uses are taken away, and which stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Above this, images go …
    pub high: Mark,
    /// … until this is reached.
    pub low: Mark,
    /// What was used within this time stays.
    pub grace: Duration,
    /// Names that stay, as patterns (see [`crate::matches_reference`]).
    pub keep: Vec<String>,
}

/// How much of the root's file system is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Of what it can hold.
    Percent(u8),
    /// That many bytes.
    Bytes(u64),
}

impl Mark {
    /// In bytes, of a file system that can hold `size`.
    #[must_use]
    pub fn of(self, size: u64) -> u64 {
        match self {
            Self::Percent(percent) => (size / 100).saturating_mul(percent.into()),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Where workloads' output is kept, unless they say so themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// For those that name no driver; its options for those that name the same one.
    pub default: Log,
    /// Bytes in one file.
    pub file_bytes: u64,
    /// Files, the current one included.
    pub files: u32,
    /// The socket of the journal (`JOURNAL_NATIVE_PROTOCOL`), for those whose driver is `journald`.
    pub journal: PathBuf,
}

impl Default for LogSettings {
    fn default() -> Self {
        // There are clients (the SDK for Python) that ask for logs only where the driver is this one.
        let default = Log { driver: Some(LogDriver::JsonFile), ..Log::default() };
        Self { default, file_bytes: LogPlan::FILE_BYTES, files: LogPlan::FILES, journal: PathBuf::from(JOURNAL) }
    }
}
