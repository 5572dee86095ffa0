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
    /// Devices by their names in specifications of the Container Device Interface, as `vendor.com/class=name`.
    pub cdi: Vec<String>,
    /// Further devices that may be used, without nodes of theirs inside.
    pub device_rules: Vec<DeviceRule>,
    /// `true` when the caller wants no masked and read-only paths (`systempaths=unconfined`).
    pub unmasked_paths: bool,
    /// Hidden paths instead of the default ones.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that can only be read instead of the default ones.
    pub readonly_paths: Option<Vec<String>>,
}

/// Devices that may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Their kind.
    pub kind: DeviceKind,
    /// Major number; none is any.
    pub major: Option<u32>,
    /// Minor number; none is any.
    pub minor: Option<u32>,
    /// Of `r`, `w` and `m` (mknod).
    pub permissions: String,
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Both.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
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
