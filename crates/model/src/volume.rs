//! Folders that a workload sees from outside its image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A named folder that outlives the workloads that use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name: for an anonymous one 64 hexadecimal digits.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What its maker wrote on it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it came with a workload that named none, and goes with `rm -v`.
    #[serde(default)]
    pub anonymous: bool,
    /// The project that it belongs to: members of others do not meet it.
    #[serde(default)]
    pub project: Option<String>,
}

/// One mount of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it comes from.
    pub source: MountSource,
    /// Absolute path inside.
    pub target: String,
    /// Whether writing is refused.
    #[serde(default)]
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: String,
        /// How later mounts on either side show on the other.
        #[serde(default)]
        propagation: Propagation,
        /// Whether the mounts below the path come along.
        #[serde(default = "yes")]
        recursive: bool,
        /// Whether a folder is made where there is nothing (Docker's `-v`), or that is an error (`--mount`).
        #[serde(default)]
        create: bool,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Whether an empty volume is first filled with what the image has at the target.
        #[serde(default = "yes")]
        copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// In bytes; none is half of the host's memory.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
        /// Further options of tmpfs, as `-o` of mount(8) has them.
        #[serde(default)]
        options: Vec<String>,
    },
}

/// Mount propagation (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Nothing passes, and the mounts below come along.
    #[default]
    Private,
    /// From the host inwards.
    Slave,
    /// In both directions.
    Shared,
}

fn yes() -> bool {
    true
}
