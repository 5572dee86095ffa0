//! One host's truth: its images, workloads, volumes and events, kept across crashes of everything but the disk.
//!
//! Whoever asks, asks here. The engine validates, records what is intended in one transactional file, then asks the
//! store for a root file system and a driver to make it run, each step handing a value to the next. What happens later
//! comes back from the driver as an event and becomes the workload's next phase. The durable record is made before
//! anything else exists and removed before anything else goes, so that [`Engine::open`] can always finish or undo what
//! a killed daemon began.
//!
//! Left out on purpose: HTTP, clusters, builds. Nothing here knows how a caller's request was spelled.

#![forbid(unsafe_code)]

mod attach;
mod bootstrap;
mod bytes;
mod commit;
mod db;
mod entry;
mod error;
mod events;
mod exec;
mod failpoints;
mod fsck;
mod health;
mod host;
mod image;
mod import;
mod inside;
mod instruction;
mod leftovers;
mod life;
mod limits;
mod log;
mod manifests;
mod merge;
mod mounts;
mod network;
mod pattern;
mod prune;
mod pull;
mod push;
mod recover;
mod remove;
mod reset;
mod restart;
mod room;
mod save;
mod settings;
mod share;
mod stats;
mod step;
mod top;
mod traces;
mod usage;
mod volume;
mod workload;

pub use attach::{Attach, AttachInput, AttachOutput, Attachment, Begin, Origin};
pub use bootstrap::BootstrapRequest;
pub use bytes::ByteStream;
pub use commit::CommitRequest;
pub use engine::{Engine, Info};
pub use entry::{WaitCondition, Waiter, WorkloadView};
pub use error::{Error, Kind};
pub use events::EventStream;
pub use exec::{ExecClaim, ExecDraft, ExecView};
pub use failpoints::{FAILPOINTS, RESET_FAILPOINTS};
pub use fsck::{Report, fsck};
pub use image::{ImageView, Progress, ProgressEvent, Removal};
pub use import::ImportRequest;
pub use inside::CopyIn;
pub use leftovers::Leftover;
pub use log::{LogLine, LogQuery, LogStream};
pub use manifests::{ManifestKind, ManifestView};
pub use network::{Endpoint, NetworkView};
pub use pattern::matches_reference;
pub use prune::Pruned;
pub use pull::{PullRequest, PulledImage};
pub use push::{PushRequest, PushedImage};
pub use recover::live_processes;
pub use reset::{Depth, reset};
pub use runtime::{Chunk, ProcessRecord, Size, Stream, missing};
pub use settings::{LogSettings, Mark, Settings, Watermark};
pub use top::Processes;
pub use usage::{ImageUsage, ImagesUsage, RestUsage};
pub use volume::VolumeView;
pub use workload::Created;

pub use atoll_debian::UnknownVariant;
pub use atoll_net::foreign_drops;
pub use atoll_registry::{Credentials, Described, LoginError, Registries};
pub use atoll_store::{Change, ChangeKind, PathStat};

use atoll_runtime_drivers as runtime;

mod engine;
