//! The contract between an engine and whatever makes a workload run.
//!
//! ```text
//!   Plan ──create──► Handle ──start──► runs ──► Event::Exited
//!                      ▲
//!   run folder ─recover┘      (after the daemon that created it died)
//! ```
//!
//! A driver makes, finds again and takes away; what happens to a workload in between is in its [`Handle`], which is the
//! same for all walls.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_model::{Propagation, Workload};
use atoll_sys::cgroup::Support;
use atoll_wall::launch::{Join, LogPlan, NetworkHelper, Root, Size, Streams};
use atoll_wall::message::{Attach, State};
use atoll_wall::record::Ended;

use crate::{Error, Handle};

/// Makes workloads run behind one kind of wall.
pub trait Driver: Send + Sync {
    /// What this wall can do at all. What it cannot is refused as unsupported, never pretended.
    fn capabilities(&self) -> Capabilities;

    /// Whether this host can do it now, and if not, what is missing. Reads files and tries to make a control group; quick.
    fn fingerprint(&self) -> Fingerprint;

    /// Makes a workload ready: everything but its program runs.
    ///
    /// # Errors
    /// When the plan asks for what this wall or host has not, or the host fails; nothing is left behind then.
    fn create(&self, plan: Plan) -> impl Future<Output = Result<Handle, Error>> + Send;

    /// Finds out what became of the workload that was created with this run folder. Where its supervisor died without a
    /// word, everything left of it is killed and removed before this returns.
    ///
    /// # Errors
    /// When the run folder cannot be read or what is left cannot be removed.
    fn recover(&self, run: &Path) -> impl Future<Output = Result<Recovered, Error>> + Send;

    /// Lends the root file system of a workload that was created with this run folder and has not ended, by descriptor: none
    /// of its programs is asked. Blocks for a moment.
    ///
    /// # Errors
    /// When it has ended, or this wall keeps no files where the host sees them.
    fn root(&self, run: &Path, view: View) -> Result<OwnedFd, Error>;

    /// Ends whatever was created with this run folder, without ceremony: for folders that no workload claims.
    ///
    /// # Errors
    /// As [`Driver::recover`].
    fn destroy(&self, run: &Path) -> impl Future<Output = Result<(), Error>> + Send;
}

/// How much of a root file system is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// With everything that is mounted in it: volumes, `/proc` …
    Whole,
    /// Only itself.
    Bare,
}

/// What a wall can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Run further programs inside.
    pub exec: bool,
    /// Freeze and thaw.
    pub pause: bool,
    /// A terminal for the program.
    pub terminal: bool,
    /// Devices of the host.
    pub devices: bool,
    /// All privileges of the host.
    pub privileged: bool,
    /// The host's network.
    pub host_network: bool,
    /// Keep the state of memory and devices, and come back from it.
    pub snapshot: bool,
}

/// What a host lacks for a wall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// What runs less well than it could, and why: sentences that say what to do.
    pub warnings: Vec<String>,
    /// Whether workloads get control groups: without, nothing is limited, counted or paused.
    pub control_groups: bool,
    /// Which limits those have, beyond the common ones.
    pub limits: Support,
}

/// Everything a driver needs to know about one run of a workload.
#[derive(Debug)]
pub struct Plan {
    /// What was asked for.
    pub workload: Arc<Workload>,
    /// Its root file system.
    pub root: Root,
    /// What it sees of other folders, files like `/etc/hosts` included; made in this order.
    pub mounts: Vec<ResolvedMount>,
    /// The network namespace that it joins, when its network is a bridge.
    pub network: Option<OwnedFd>,
    /// Who connects that namespace, where it is not connected already.
    pub helper: Option<NetworkHelper>,
    /// The namespaces of other workloads that it is made in.
    pub joins: Vec<Join>,
    /// Its standard streams.
    pub streams: Streams,
    /// Where its output is kept; the folder exists.
    pub log: LogPlan,
    /// Restarts by its policy that were before.
    pub restarts: u32,
    /// The run folder, which exists and is empty of earlier runs' records.
    pub run: PathBuf,
}

/// One mount, with its source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMount {
    /// Where it comes from.
    pub source: ResolvedSource,
    /// Absolute path inside.
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// Where a resolved mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedSource {
    /// A folder or file that exists on the host.
    Bind {
        /// Its absolute path.
        path: PathBuf,
        /// How later mounts on either side show on the other.
        propagation: Propagation,
        /// Whether the mounts below the path come along.
        recursive: bool,
    },
    /// Memory.
    Tmpfs {
        /// In bytes; none is half of the host's memory.
        size: Option<u64>,
        /// Permission bits of its root; none is 1777.
        mode: Option<u32>,
        /// Further options of tmpfs, as `-o` of mount(8) has them.
        options: Vec<String>,
    },
}

/// A further program to run inside a workload.
#[derive(Clone, Debug)]
pub struct ExecPlan {
    /// The session's identifier.
    pub id: String,
    /// The workload: its environment, limits and trust are the program's too.
    pub workload: Arc<Workload>,
    /// The command line.
    pub args: Vec<String>,
    /// `NAME=value`, added to the workload's.
    pub env: Vec<String>,
    /// Where it starts; empty is where the workload did.
    pub working_dir: String,
    /// As in `Command::user`; empty is the workload's.
    pub user: String,
    /// Whether it has all capabilities.
    pub privileged: bool,
    /// A terminal of this size instead of three pipes.
    pub terminal: Option<Size>,
    /// Which streams the caller is coupled to.
    pub attach: Attach,
}

/// What became of a workload while nobody looked.
#[derive(Debug)]
pub enum Recovered {
    /// Its supervisor is there.
    Live(Handle, State),
    /// It ended, and its supervisor wrote down how.
    Ended(Ended),
    /// Its supervisor died without a word; what was left of it has been killed. Docker reports such an exit as 137.
    Lost {
        /// Restarts until then.
        restarts: u32,
        /// Whether somebody wanted its end.
        asked: bool,
    },
    /// It was never let go: there is nothing to find.
    NotStarted,
}
