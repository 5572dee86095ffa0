//! The drivers: what makes a workload run behind its wall, and what is left of it after the daemon that did so died.
//!
//! A [`Driver`] turns a [`Plan`] into a [`Handle`]: it builds what the wall needs to know, starts a supervisor
//! (`atoll-shim`) and talks to it in the messages of `atoll_wall`. Everything after that (start, signals, streams, exec,
//! events) is the same for every wall, because the same supervisor holds each workload: it is in [`Handle`].
//! Left out on purpose: images, networks' addresses, durable state. A driver is told paths.

#![forbid(unsafe_code)]

mod container;
mod control;
mod driver;
mod error;
mod events;
mod handle;
pub mod log;
pub mod spec;
mod stream;

pub use atoll_sys::cgroup::Support;
pub use atoll_wall::launch::{Join, Joined, LogFormat, LogPlan, NetworkHelper, Root, Size, Streams};
pub use atoll_wall::log::Stream;
pub use atoll_wall::message::{Attach, Event, State, Target};
pub use atoll_wall::record::{Ended, ProcessRecord};

pub use container::{ContainerDriver, first_process, live_process, missing, sample};
pub use driver::{Capabilities, Driver, ExecPlan, Fingerprint, Plan, Recovered, ResolvedMount, ResolvedSource, View};
pub use error::{Error, ErrorKind};
pub use events::Events;
pub use handle::{Connection, Handle};
pub use stream::{Chunk, StreamReader, StreamWriter};
