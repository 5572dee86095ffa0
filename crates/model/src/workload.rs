//! A workload: one program from one image behind one wall, as its maker asked for it.

use std::collections::BTreeMap;

use atoll_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{HealthCheck, Log, Mount, Namespaces, PortBinding, Resources, Restart, Security, Timestamp, WorkloadId};

/// Everything that was asked for. It does not change while the workload exists, but for its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Which one.
    pub id: WorkloadId,
    /// What people call it; unique on its host.
    pub name: String,
    /// When it was defined.
    pub created: Timestamp,
    /// The wall.
    pub isolation: Isolation,
    /// What it runs from.
    pub image: ImageRef,
    /// What it runs.
    pub command: Command,
    /// How it sees its machine.
    pub host: Host,
    /// How far it is trusted.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// What it sees of other folders.
    pub mounts: Vec<Mount>,
    /// What happens when it ends.
    pub life: LifeCycle,
    /// What its maker (and its image) wrote on it.
    pub labels: BTreeMap<String, String>,
}

/// What somebody asks for when they define a workload, before the image's defaults are filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    /// What to call it; none is a name of ours.
    pub name: Option<String>,
    /// A reference, or an image id or its beginning.
    pub image: String,
    /// The wall.
    pub isolation: Isolation,
    /// As [`Workload::command`], but empty lists and texts take the image's values, and environment and labels are
    /// added to the image's.
    pub command: Command,
    /// Whether `command.entrypoint` is the whole entry point even when it is empty, so that the image's is not used.
    pub replace_entrypoint: bool,
    /// How it sees its machine.
    pub host: Host,
    /// How far it is trusted.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// What it sees of other folders.
    pub mounts: Vec<Mount>,
    /// What happens when it ends.
    pub life: LifeCycle,
    /// What its maker writes on it.
    pub labels: BTreeMap<String, String>,
}

/// The wall between a workload and its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, cgroups, capabilities, seccomp and its own root file system on the host's kernel.
    #[default]
    Container,
}

/// The image as it was when the workload was defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// What the caller wrote.
    pub name: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its configuration: Docker's image id.
    pub id: Digest,
    /// Digests of its unpacked layers, bottom first.
    pub layers: Vec<Digest>,
}

/// The program, with everything that the image left to its defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// The words after them.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; empty is `/`.
    pub working_dir: String,
    /// `name`, `uid`, each with `:group` or `:gid`; empty is root.
    pub user: String,
    /// Further groups that it is in, as names of its `/etc/group` or numbers.
    pub groups: Vec<String>,
    /// Whether its streams are a terminal.
    pub terminal: bool,
    /// What its standard input is.
    pub stdin: Stdin,
    /// Ports that the image or the caller names, as `80/tcp`: documentation, not publishing.
    pub exposed_ports: Vec<String>,
    /// Which streams its maker attaches to: written back by `inspect`, used by no one else.
    pub attached: [bool; 3],
    /// Where what it writes is kept.
    pub log: Log,
}

impl Command {
    /// The whole command line.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// What a workload's standard input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Closed,
    /// Open until the first attached client is done.
    Once,
    /// Open for as long as the workload runs.
    Open,
}

/// How a workload sees its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its host name; empty is the short id.
    pub hostname: String,
    /// Its NIS domain name.
    pub domainname: String,
    /// What it sees of networks.
    pub network: Network,
    /// Its ports that answer on the host.
    pub ports: Vec<PortBinding>,
    /// Size of `/dev/shm` in bytes; none is 64 MiB.
    pub shm_size: Option<u64>,
    /// What it shares.
    pub namespaces: Namespaces,
    /// Kernel parameters of its namespaces, by name.
    pub sysctls: BTreeMap<String, String>,
    /// What hooks and other tools of the host are told of it.
    pub annotations: BTreeMap<String, String>,
    /// Workloads whose mounts it has too, as `NAME[:ro|rw]`: found when it was defined, and among its mounts since.
    pub volumes_from: Vec<String>,
    /// The project that it belongs to: members of others do not meet it.
    pub project: Option<String>,
}

/// What a workload sees of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Only its own loopback.
    #[default]
    None,
    /// The host's network, all of it.
    Host,
    /// A bridge of this name on this host.
    Bridge(String),
    /// That of the workload with this id; in a draft also its name.
    Workload(String),
}

/// What happens around a workload's run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifeCycle {
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// The signal that asks it to end, as a name or number; empty is SIGTERM.
    pub stop_signal: String,
    /// Seconds it has for that before SIGKILL; none is [`LifeCycle::STOP_TIMEOUT_S`].
    pub stop_timeout_s: Option<i64>,
    /// Whether a small init of ours is its first process and reaps orphans.
    pub init: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How to learn whether it is well.
    pub health: HealthCheck,
}

impl LifeCycle {
    /// Seconds between the stop signal and SIGKILL when nobody said otherwise.
    pub const STOP_TIMEOUT_S: i64 = 10;
}

impl Default for LifeCycle {
    fn default() -> Self {
        Self {
            auto_remove: false,
            stop_signal: String::new(),
            stop_timeout_s: None,
            init: false,
            restart: Restart::No,
            health: HealthCheck::default(),
        }
    }
}
