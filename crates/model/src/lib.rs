//! Atoll's nouns: what a workload is, which wall separates it, what it may use, and where it stands in its life.
//!
//! Everything here is a plain value. An API request becomes a [`Workload`]; the engine persists it; a driver turns it
//! into something that runs; what happens to it comes back as a [`Transition`] that [`next`] applies to its [`Phase`].
//! Left out on purpose: clocks, files, sockets and wire formats.

#![forbid(unsafe_code)]

mod event;
mod health;
mod life;
mod log;
mod names;
mod namespaces;
mod port;
mod resources;
mod restart;
mod sample;
mod security;
mod sentence;
mod signal;
mod size;
mod time;
mod volume;
mod workload;

pub use event::{Actor, Event, EventKind};
pub use health::{Checked, Health, HealthCheck, HealthStatus, InvalidHealthCheck, Probe};
pub use life::{Exit, Phase, Refused, Transition, next};
pub use log::{
    BUFFER_BYTES, BadLog, BadSyslog, Log, LogDriver, LogRules, Syslog, SyslogAddress, SyslogFormat, expand_tag,
};
pub use names::{ID_HEX_LENGTH, InvalidName, ShortId, WorkloadId, check_name, suggest_name};
pub use namespaces::{Ipc, Namespaces, Share};
pub use port::{PortBinding, Protocol};
pub use resources::{BlockIo, Device, DeviceRate, Oom, Rate, Realtime, Resources, Ulimit};
pub use restart::{History, Restart, RunEnd, Verdict};
pub use sample::{DeviceUse, InterfaceUse, MemoryUse, ProcessorUse, Sample};
pub use security::{DeviceKind, DeviceRule, Seccomp, Security};
pub use sentence::sentence;
pub use signal::signal_number;
pub use size::size;
pub use time::Timestamp;
pub use volume::{Mount, MountSource, Propagation, Volume};
pub use workload::{Command, Draft, Host, ImageRef, Isolation, LifeCycle, Network, Stdin, Workload};
