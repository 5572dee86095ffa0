//! How far a workload is trusted.
//!
//! Only what a caller asked for is in here: nothing in an image's labels or annotations ever changes it.

use serde::{Deserialize, Serialize};

use crate::Device;

/// What a workload is allowed beyond, or short of, the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities and devices, no masks, no system call filter.
    pub privileged: bool,
    /// Capabilities added to the default set, as `NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from it.
    pub cap_drop: Vec<String>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Whether executables may raise privileges (setuid, file capabilities).
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// `true` when the caller wants no masked and read-only paths (`systempaths=unconfined`).
    pub unmasked_paths: bool,
}

/// Which system call filter a workload gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's default policy.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format, as the caller sent it.
    Profile(String),
}
