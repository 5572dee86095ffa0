//! The Docker Engine API, versions 1.24 to 1.50: the part of it that Atoll speaks.
//!
//! Requests are parsed tolerantly where that is harmless (`null` is absent, unknown fields are kept) and strictly where
//! it matters: an option that asks for something Atoll does not do is refused by name ([`BadRequest::Unsupported`]),
//! never accepted and ignored. Answers carry the names and formats of the API reference (`docs/api/v1.50.yaml` of moby).
//!
//! Accepted without effect, because they say what is so anyway or only advise: `ConsoleSize` of a creation (the client
//! resizes after the start), `ContainerIDFile` (the client writes it), `KernelMemory` (which Linux no longer limits: Docker
//! ignores it since version 1.42), SELinux labels `z` and `Z`, the consistency modes of mounts, `apparmor=unconfined`,
//! `label=disable`.

mod archive;
mod auth;
mod bad;
mod config;
mod container;
mod create;
#[cfg(test)]
mod create_tests;
mod describe;
mod detach;
mod devices;
mod exec;
mod filters;
mod frame;
mod human;
mod image;
mod limits;
mod mounts;
mod namespaces;
mod older;
mod ports;
mod refuse;
mod restart;
mod security;
mod stats;
mod system;
mod time;
mod version;
mod volume;

pub use archive::{PATH_STAT, PathStat, go_mode};
pub use auth::{AuthAnswer, REGISTRY_AUTH, RegistryAuth, registry_key, registry_of};
pub use bad::{BadRequest, ErrorBody, parse};
pub use config::{
    BindOptions, BlkioConfig, CreateRequest, CreateResponse, DeviceMapping, DeviceRequest, HostConfig, MountRequest,
    RestartPolicy, StrSlice, ThrottleDevice, TmpfsOptions, UlimitRequest, VolumeOptions, WeightDevice,
};
pub use container::{
    ContainerConfig, ContainerInspect, ContainerSummary, EndpointSettings, GraphDriver, HealthLog, HealthState,
    HostConfigSummary, MountPoint, NetworkSettings, NetworkSettingsSummary, RenameQuery, State, TopResponse, WaitError,
    WaitResponse,
};
pub use create::{DEFAULT_NETWORK, draft, parse_create};
pub use describe::{Extras, command_line, inspect, network_mode, status, summary};
pub use detach::{DEFAULT_DETACH_KEYS, DetachKeys, Detacher, InvalidKey, Scanned};
pub use exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcess, ExecStartRequest};
pub use filters::{Filters, InvalidFilter, check_pattern};
pub use frame::{FrameDecoder, FrameError, HEADER_LENGTH, STDERR, STDIN, STDOUT, header};
pub use human::{duration, size};
pub use image::{
    ChangeItem, CommitResponse, DeleteItem, DistributionDescriptor, DistributionInspect, DistributionPlatform,
    HistoryItem, ImageConfigView, ImageInspect, ImagePruned, ImageSummary, ManifestAttestation, ManifestImage,
    ManifestSize, ManifestSummary, Metadata, RootFs, UnpackedSize,
};
pub use limits::{BadUpdate, UpdateRequest, UpdateResponse};
pub use namespaces::NamespaceConfig;
pub use older::Route;
pub use ports::PortMap;
pub use restart::restart;
pub use stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, ThrottlingData,
    container_stats,
};
pub use system::{
    Commit, Component, DiskUsage, EventActor, EventMessage, EventQuery, IndexConfig, Info, Ipam, NetworkInspect,
    Plugins, RegistryConfig, Runtime, Swarm, Version, event_message, matches_event,
};
pub use time::{InvalidTime, fixed_rfc3339, parse_past, parse_rfc3339, parse_time, rfc3339};
pub use version::{API_VERSION, ApiVersion, MIN_API_VERSION, strip_version};
pub use volume::{VolumeCreateRequest, VolumeList, VolumeUsage, VolumeView};

/// Media type of a hijacked stream that carries frames.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
/// Media type of a hijacked stream that carries a terminal's bytes.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";

/// The exit code that Docker's command line gives for a start that failed with this message.
#[must_use]
pub fn start_failure_code(message: &str) -> i32 {
    let has = |needle: &str| message.contains(needle);
    if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_have_a_shells_codes() {
        assert_eq!(start_failure_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(start_failure_code("exec: \"/etc\": permission denied"), 126);
        assert_eq!(start_failure_code("no space left on device"), 125);
    }
}
