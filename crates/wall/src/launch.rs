//! What a supervisor is told once: everything it needs to make one workload, and nothing about images or APIs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use atoll_model::{HealthCheck, Restart};
use atoll_oci::runtime::{NamespaceType, Process, Spec};
use serde::{Deserialize, Serialize};

use crate::record::ProcessRecord;

/// One workload to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// Its identifier.
    pub id: String,
    /// What to run behind which walls; the root's path is ignored in favour of `root`.
    pub spec: Spec,
    /// Who runs it: see [`User`].
    pub user: User,
    /// Further groups that it is in, by name or number, looked up in the same way.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Where its root file system comes from.
    pub root: Root,
    /// Its standard streams.
    pub streams: Streams,
    /// Where its output is kept.
    pub log: LogPlan,
    /// The run folder: socket, records. The daemon made it.
    pub run: PathBuf,
    /// Who connects it to the network, where the host's kernel does not.
    #[serde(default)]
    pub helper: Option<NetworkHelper>,
    /// Namespaces of other workloads that it is made in; the specification has their kinds.
    #[serde(default)]
    pub joins: Vec<Join>,
    /// What happens when a run of it ends.
    #[serde(default)]
    pub life: LifePlan,
}

/// What happens when a run of a workload ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifePlan {
    /// When it is started again.
    pub restart: Restart,
    /// Restarts that were before, by an earlier supervisor.
    pub restarts: u32,
    /// How it is ended when it is unhealthy and that is what its policy is for.
    pub stop: StopPlan,
    /// How to learn whether it is well.
    pub health: Option<HealthPlan>,
}

/// How a workload is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPlan {
    /// The signal that its first process gets.
    pub signal: i32,
    /// How long it has until it is killed; none is for ever.
    pub timeout: Option<Duration>,
}

impl Default for StopPlan {
    fn default() -> Self {
        Self { signal: 15, timeout: Some(Duration::from_secs(10)) }
    }
}

/// How to learn whether a workload is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthPlan {
    /// When it is checked, and what the results come to.
    pub check: HealthCheck,
    /// What is run for that, inside.
    pub process: Process,
    /// Who runs it.
    pub user: User,
}

/// A namespace of another workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which of its namespaces.
    pub kind: Joined,
    /// The other's first process.
    pub of: ProcessRecord,
}

/// What is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// Its processes.
    Pid,
    /// Its System V objects and message queues, and its `/dev/shm` with them.
    Ipc,
}

impl Joined {
    /// Its name below `/proc/PID/ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Ipc => "ipc",
        }
    }

    /// Its kind in a specification.
    #[must_use]
    pub const fn kind(self) -> NamespaceType {
        match self {
            Self::Pid => NamespaceType::Pid,
            Self::Ipc => NamespaceType::Ipc,
        }
    }
}

impl Launch {
    /// Says by which path the namespace of a kind is reached.
    pub fn join(&mut self, kind: Joined, path: &str) {
        let namespaces = self.spec.linux.iter_mut().flat_map(|linux| &mut linux.namespaces);
        for namespace in namespaces.filter(|namespace| namespace.typ == kind.kind()) {
            path.clone_into(&mut namespace.path);
        }
    }

    /// Says by which path the mount is reached that is bound at `destination`.
    pub fn bind(&mut self, destination: &str, path: &str) {
        for mount in self.spec.mounts.iter_mut().filter(|mount| mount.is_bind() && mount.destination == destination) {
            path.clone_into(&mut mount.source);
        }
    }
}

/// A program of the host that carries a workload's packets for as long as the workload is there. It finds the workload's
/// network namespace on descriptor 0 and starts in the run folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkHelper {
    /// Its path on the host.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it says on descriptor 1 once the workload is connected.
    pub ready: String,
    /// Its socket for requests, relative to the run folder.
    pub socket: Option<String>,
    /// Requests in JSON, one on each connection, which are answered with an `error` where they cannot be done.
    pub requests: Vec<String>,
}

/// `name`, `uid`, each with `:group` or `:gid`, as in an image's configuration; empty is root. Names are looked up in
/// the `/etc/passwd` and `/etc/group` that the workload itself sees, by its supervisor, inside its root; so are the
/// supplementary groups and the home folder that becomes `HOME` where the environment has none. The `user` of the
/// process in the specification is what is left when the text is empty.
pub type User = String;

/// Where a root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Root {
    /// An overlay, mounted inside the workload's own mount namespace.
    Overlay {
        /// The folder that `lower` is relative to: short names keep 127 of them within one page of mount options.
        base: PathBuf,
        /// The layers, top first.
        lower: Vec<String>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs's own folder beside it.
        work: PathBuf,
        /// Whether writes may be lost with the host: for workloads that are removed when they end.
        volatile: bool,
    },
    /// A folder.
    Folder {
        /// Its path.
        path: PathBuf,
    },
}

/// How a program's standard streams are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// One terminal instead of three pipes, of this size.
    pub terminal: Option<Size>,
    /// Whether standard input stays open for attached clients; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Whether it closes when the first attached client that had it leaves.
    pub stdin_once: bool,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Where output is kept, in a format of [`crate::log`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// The folder of the log files; the daemon made it.
    pub folder: PathBuf,
    /// Bytes after which a file is closed and the next begun.
    pub file_bytes: u64,
    /// Files that are kept, the current one included.
    pub files: u32,
    /// How they are written.
    #[serde(default)]
    pub format: LogFormat,
    /// Bytes that may wait to be written while the workload goes on, more are dropped and counted; none: it waits.
    #[serde(default)]
    pub buffer: Option<u64>,
}

/// How log files are written, and what they are called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// The records of [`crate::log`], in `log.0`.
    #[default]
    Records,
    /// The lines of [`crate::log::json`].
    Json {
        /// The current file's name.
        name: String,
        /// What stands beside each line.
        attributes: BTreeMap<String, String>,
    },
    /// Not at all: there is no file.
    Nothing,
}

impl LogFormat {
    /// The name of the file that is `age` rotations old; 0 is written to.
    #[must_use]
    pub fn file_name(&self, age: u32) -> String {
        match self {
            Self::Json { name, .. } if age == 0 => name.clone(),
            Self::Json { name, .. } => format!("{name}.{age}"),
            Self::Records | Self::Nothing => format!("log.{age}"),
        }
    }

    /// The same, once it was compressed.
    #[must_use]
    pub fn packed_name(&self, age: u32) -> String {
        format!("{}.gz", self.file_name(age))
    }

    /// Of which age a file of this name is, compressed or not.
    #[must_use]
    pub fn age(&self, name: &str) -> Option<u32> {
        let plain = name.strip_suffix(".gz").unwrap_or(name);
        let age = match self {
            Self::Json { name, .. } if plain == name => Some(0),
            Self::Json { name, .. } => plain.strip_prefix(name.as_str())?.strip_prefix('.')?.parse().ok(),
            Self::Records | Self::Nothing => plain.strip_prefix("log.")?.parse().ok(),
        };
        age.filter(|age| self.file_name(*age) == plain)
    }
}

impl LogPlan {
    /// Bytes in one file unless configured.
    pub const FILE_BYTES: u64 = 10 << 20;
    /// Files unless configured.
    pub const FILES: u32 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_and_names_have_ages() {
        let json = LogFormat::Json { name: "ab-json.log".to_owned(), attributes: BTreeMap::new() };
        let check = |format: &LogFormat, age: u32, name: &str| {
            assert_eq!((format.file_name(age).as_str(), format.age(name)), (name, Some(age)));
            assert_eq!(format.age(&format.packed_name(age)), Some(age));
        };
        check(&LogFormat::Records, 0, "log.0");
        check(&LogFormat::Records, 12, "log.12");
        check(&json, 0, "ab-json.log");
        check(&json, 3, "ab-json.log.3");
        for name in ["log.", "log.01", "log.new", "log.-1", "hosts", "log.1.gz.new"] {
            assert_eq!(LogFormat::Records.age(name), None, "{name}");
        }
        assert_eq!(json.age("ab-json.log.0"), None);
    }

    #[test]
    fn plans_of_earlier_daemons_are_read() {
        let plan: LogPlan = serde_json::from_str(r#"{"folder": "/l", "file_bytes": 1, "files": 2}"#).expect("a plan");
        assert_eq!((plan.format, plan.buffer), (LogFormat::Records, None));
    }
}
