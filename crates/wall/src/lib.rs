//! The versioned messages between the daemon and the supervisors that outlive it.
//!
//! ```text
//!   daemon                                                     shim
//!     │ spawn, with one end of a socket pair as standard input   │
//!     ├── Launch ───────────────────────────────────────────────►│ makes the workload, not yet running
//!     │◄──────────────────────────────── Created, or Failed ─────┤ listens on its socket, becomes the monitor
//!     ├── Start ────────────────────────────────────────────────►│ lets it go
//!     │◄──────────────────────────────── Started, or Failed ─────┤
//!     │◄──── Event(Resting), later Event(Restarted) ─────────────┤ as often as the restart policy has it
//!     │◄──────────────────────────────────── Event(Exited) ──────┤ after the exit record is on disk
//! ```
//!
//! The supervisor holds the restart policy ([`launch::LifePlan`]) and starts the workload again by itself, whether or not there is
//! a daemon; [`message::Request::StayDown`] ends that. It checks the workload's health in the same
//! way. Peers of version 1 know neither: such a supervisor has none, and such a
//! daemon is told nothing of them.
//!
//! The inherited connection stays the daemon's control connection: it gets events without asking, and a workload that was
//! not started ends with it. A later daemon connects to the socket in the
//! workload's run folder, says [`message::Request::Hello`] with its version and goes on from there. Streams of attached clients and
//! exec sessions travel in the same [`frame`]s, each on a connection of its own.
//!
//! Everything here is a value: how it travels is the business of both ends. A field may be added with a default; what
//! an older peer would misread needs a new [`PROTOCOL`] number, and a supervisor of an older one is spoken to in its own.

#![forbid(unsafe_code)]

pub mod frame;
pub mod launch;
pub mod log;
pub mod message;
pub mod record;

/// Version of the messages. Peers that cannot speak the other's number say so and part.
pub const PROTOCOL: u32 = 2;

/// The oldest version that this code still speaks.
pub const PROTOCOL_OLDEST: u32 = 1;

/// The descriptor on which a supervisor finds the connection to the daemon that started it: its standard input, which is
/// what a program can be given without unsafe code.
pub const INHERITED_FD: i32 = 0;

/// The descriptor on which a supervisor finds the network namespace that its workload joins, where the specification says
/// so by [`NETWORK_PATH`]: its standard output, which it does not need. It is kept for the workload's further runs, and let
/// go before their end is told.
pub const NETWORK_FD: i32 = 1;

/// [`NETWORK_FD`] as the path of a namespace.
pub const NETWORK_PATH: &str = "/proc/self/fd/1";

/// Name of the socket in a workload's run folder.
pub const SOCKET: &str = "shim.sock";
