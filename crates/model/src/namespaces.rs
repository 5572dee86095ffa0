//! What a workload shares with its host or with another workload, of what it could have for itself (namespaces(7)).

use serde::{Deserialize, Serialize};

/// Whose namespaces a workload is in; that of the network is in [`crate::Network`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Which processes it sees.
    pub pid: Share,
    /// Whose System V objects, message queues and `/dev/shm` it has.
    pub ipc: Ipc,
    /// Whether the host name is the host's.
    pub host_uts: bool,
    /// Whether it sees the host's tree of control groups.
    pub host_cgroup: bool,
    /// Whether its users are the host's, whatever the daemon's default is.
    pub host_users: bool,
}

/// Whose namespace of one kind a workload is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// One of its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of the workload with this id; in a draft also its name.
    Workload(String),
}

/// What a workload has of inter-process communication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipc {
    /// All of its own.
    #[default]
    Private,
    /// All of its own, without a `/dev/shm`.
    None,
    /// Its own, which other workloads may join.
    Shareable,
    /// The host's.
    Host,
    /// That of the workload with this id; in a draft also its name.
    Workload(String),
}

impl Namespaces {
    /// The workloads that it names.
    pub fn named(&mut self) -> impl Iterator<Item = &mut String> {
        let pid = match &mut self.pid {
            Share::Workload(name) => Some(name),
            Share::Own | Share::Host => None,
        };
        let ipc = match &mut self.ipc {
            Ipc::Workload(name) => Some(name),
            _ => None,
        };
        pid.into_iter().chain(ipc)
    }
}
