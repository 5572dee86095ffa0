//! `create` of the OCI runtime-spec's life cycle (runtime.md, "Lifecycle", steps 1 to 5), and `start`.
//!
//! ```text
//!   caller                               container's first process (clone3: new namespaces, v2 cgroup)
//!   plan (pure), cgroups and limits
//!   clone3 ───────────────────────────►  enters its v1 groups; where systemd keeps them it waits for "grouped"
//!   map ids, move interfaces             …a user namespace waits for its mapping
//!   "placed" ─────────────────────────►  root, mounts, devices
//!   hooks of the runtime ◄─────────────  "mounted", where there are hooks
//!   "continue" ───────────────────────►  hooks of the container, masks, pivot_root
//!   ◄───────── terminal, root, "ready"   waits for "start"
//!   StartHandle::start ───────────────►  limits, user, capabilities, seccomp, execve (closes the channel) or a report
//! ```
//!
//! One socket pair carries both directions; it is closed on exec, so that its end is the proof of a successful `execve`.
//! When the caller dies before `start`, the process sees the end of the channel and ends too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use atoll_oci::runtime::{NamespaceType, Spec, State};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::overlay::Overlay;
use atoll_sys::process::Cloned;
use atoll_sys::{exe, pidfd, userns};

use crate::birth;
use crate::channel::{Channel, FromInit, ToInit};
use crate::error::{CreateError, StartError};
use crate::groups::{GroupPolicy, Groups};
use crate::hooks;
use crate::init::{Init, Sources};
use crate::netdev;
use crate::plan::Plan;
use crate::seccomp::Listener;

/// What to create.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The container's name: letters, digits, `_`, `+`, `-`, `.`; the last part of its cgroup's path by default.
    pub id: &'a str,
    /// Its configuration.
    pub spec: &'a Spec,
    /// The folder that relative paths of the configuration start from.
    pub bundle: &'a Path,
    /// Its root file system; `spec.root.path` is not looked at, `spec.root.readonly` is.
    pub root: RootSource,
    /// Name or number of the user, with `:group` or without, looked up inside the root; empty takes the numbers of
    /// `spec.process.user`.
    pub user: &'a str,
    /// Further groups, by names of its `/etc/group` or numbers.
    pub more_groups: &'a [String],
    /// Its standard streams.
    pub stdio: Stdio,
    /// Who will start it.
    pub start: StartMode,
    /// How many descriptors from 3 upward it inherits.
    pub preserve_fds: u32,
    /// Whether it gets a session keyring of its own; without, it shares the caller's (keyrings(7)).
    pub keyring: bool,
    /// Whether its root becomes the root by pivot_root(2); else by moving and chroot(2), where the host's root is an initramfs.
    pub pivot: bool,
    /// How it gets its control groups.
    pub groups: GroupPolicy,
}

/// Where the root file system comes from.
#[derive(Debug, Clone)]
pub enum RootSource {
    /// A folder, with what is mounted below it.
    Path(PathBuf),
    /// An overlay of layers, mounted inside the container's own mount namespace.
    Overlay(Overlay),
    /// Nothing: a small tmpfs that holds the places of the configuration's mounts, and no /dev of its own.
    Empty,
}

/// Standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new pseudo-terminal of the container's own devpts; the caller gets its master.
    Terminal {
        /// Lines; 0 leaves the size unset.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
}

/// Who lets a created container run.
#[derive(Debug)]
pub enum StartMode {
    /// The caller, by [`Created::start`]; when the caller dies first, so does the container.
    Caller,
    /// Whoever connects to this listening unix socket (`SOCK_SEQPACKET`), by [`StartHandle::connect`]; the container
    /// outlives its creator.
    Listener(OwnedFd),
}

/// A created container: everything is made, its program has not been executed.
#[derive(Debug)]
pub struct Created {
    /// Its first process, a child of the caller.
    pub pid: i32,
    /// The same as a descriptor: readable when it has ended.
    pub pidfd: OwnedFd,
    /// Master of its terminal, with [`Stdio::Terminal`].
    pub master: Option<OwnedFd>,
    /// Lets it run; `None` with [`StartMode::Listener`].
    pub start: Option<StartHandle>,
    /// Its control groups; `to_string` and `parse` carry them across processes.
    pub cgroup: Cgroup,
    /// Its root folder (`O_PATH`), for work below it with `openat2` and `RESOLVE_IN_ROOT` from outside.
    pub root: OwnedFd,
}

/// Lets a created container run. One descriptor, which may be carried through an `execve` of the caller.
#[derive(Debug)]
pub struct StartHandle {
    channel: OwnedFd,
}

impl StartHandle {
    /// The descriptor, close-on-exec; clear that flag to carry it through an `execve`.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.channel
    }

    /// Takes back what [`Self::into_fd`] gave.
    #[must_use]
    pub fn from_fd(channel: OwnedFd) -> Self {
        Self { channel }
    }

    /// Waits on this for the end of the container before it is started.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Reaches a container that was created with [`StartMode::Listener`]. `socket` is its path.
    ///
    /// # Errors
    /// [`StartError::Gone`] when nobody waits there.
    pub fn connect(socket: &Path) -> Result<Self, StartError> {
        match atoll_sys::fd::connect_seqpacket(socket) {
            Ok(channel) => Ok(Self { channel }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT)) => {
                Err(StartError::Gone)
            }
            Err(error) => Err(StartError::Channel(error)),
        }
    }

    /// Lets the container execute its program, and waits until it has.
    ///
    /// # Errors
    /// What kept it from executing; the process has then ended or is about to.
    pub fn start(self) -> Result<(), StartError> {
        let channel = Channel::from_fd(self.channel);
        channel.send(&ToInit::Start).map_err(|error| match error.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => StartError::Gone,
            _ => StartError::Channel(error),
        })?;
        let mut accepted = false;
        loop {
            match channel.receive_report() {
                Ok(Some((FromInit::Executing, _))) => accepted = true,
                Ok(Some((FromInit::Failed(failure), _))) => return Err(failure.into_start_error()),
                Ok(Some(_)) => return Err(StartError::Channel(io::ErrorKind::InvalidData.into())),
                Ok(None) if accepted => return Ok(()),
                Ok(None) => return Err(StartError::Gone),
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => return Err(StartError::Gone),
                Err(error) => return Err(StartError::Channel(error)),
            }
        }
    }
}

/// Creates a container: everything but the execution of its program.
///
/// The caller has one thread and runs from a sealed image. The process is a child of the caller, who collects it by
/// [`Created::pidfd`] and removes [`Created::cgroup`] after its end.
///
/// # Errors
/// [`CreateError`]; the process and the groups are gone then.
#[expect(clippy::needless_pass_by_value, reason = "the streams end here with the caller's copies")]
pub fn create(creation: Creation<'_>) -> Result<Created, CreateError> {
    guard()?;
    let mut plan = Plan::new(creation.spec, creation.bundle)?;
    if !creation.pivot && plan.namespaces.has_user_namespace() {
        // The mounts that such a namespace got from the host's are locked in it (mount_namespaces(7)).
        return Err(crate::PlanError::unsupported("a user namespace without pivot_root").into());
    }
    if plan.namespaces.joins(NamespaceType::Mount)
        && !matches!(&creation.root, RootSource::Path(path) if path.as_path() == Path::new("/"))
    {
        return Err(crate::PlanError::unsupported("a root of its own in a mount namespace that is joined").into());
    }
    let terminal = matches!(creation.stdio, Stdio::Terminal { .. });
    if terminal != plan.process.terminal {
        return Err(crate::PlanError::invalid("process.terminal and the given streams contradict each other").into());
    }
    let groups = Groups::choose(creation.groups, creation.id, creation.spec, &mut plan)?;
    let made = build(&creation, &plan, &groups);
    if made.is_err() {
        groups.undo();
    }
    made
}

/// What every maker of processes must be.
pub(crate) fn guard() -> Result<(), CreateError> {
    if !atoll_sys::proc::is_single_threaded().map_err(system("count threads"))? {
        return Err(CreateError::Threads);
    }
    if !exe::is_sealed().map_err(system("look at /proc/self/exe"))? {
        return Err(CreateError::Unsealed);
    }
    Ok(())
}

pub(crate) fn system(what: &str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::System { what: what.to_owned(), source }
}

fn build(creation: &Creation<'_>, plan: &Plan, groups: &Groups) -> Result<Created, CreateError> {
    let cgroup = &groups.cgroup;
    let joins = birth::open_namespaces(plan)?;
    let sources = birth::needs_sources_from_maker(plan)?.then(|| Sources::open(plan, &creation.root));
    let sources = sources.transpose().map_err(|stop| stop.0.into_create_error())?;
    let notify = Listener::connect(creation.spec).map_err(system("reach the listener of the system call filter"))?;
    let born_in = groups.make(&plan.limits)?;
    let (ours, theirs) = Channel::pair().map_err(system("make a channel"))?;
    let start = match &creation.start {
        StartMode::Caller => None,
        StartMode::Listener(listener) => Some(listener),
    };
    let state = hooks::creating(creation.id, creation.spec, creation.bundle);
    let init = Init {
        plan,
        creation,
        cgroup,
        joins: &joins,
        foreign: plan.namespaces.has_user_namespace() || !userns::is_initial(),
        // A helper's clone is made where it may have no right to the group any more.
        born_in_v2: cgroup.is_in_systemd() || (born_in.is_some() && !birth::joins_before_clone(plan)),
        joined: birth::joins_before_clone(plan),
        sources: sources.as_ref(),
        notify: notify.as_ref(),
        state: &state,
    };
    let process = birth::clone_first(&init, born_in.as_ref().map(AsFd::as_fd), theirs)?;
    let made =
        settle(creation.id, plan, groups, &process, &ours).and_then(|()| wait_ready(&ours, plan, &state, process.pid));
    match made {
        Ok((master, root)) => {
            let start = start.is_none().then(|| StartHandle { channel: ours.into_fd() });
            let Cloned { pid, pidfd } = process;
            Ok(Created { pid, pidfd, master, start, cgroup: cgroup.clone(), root })
        }
        Err(error) => {
            // It may have ended by itself; either way it is collected.
            let _ = pidfd::kill(&process.pidfd, libc::SIGKILL);
            let _ = pidfd::wait(&process.pidfd);
            // A failure of the process explains why placing it failed.
            Err(match ours.receive_report() {
                Ok(Some((FromInit::Failed(failure), _))) => failure.into_create_error(),
                _ => error,
            })
        }
    }
}

/// What the process cannot do for itself: a group that systemd keeps, its ids and its interfaces. It builds its root
/// meanwhile.
fn settle(id: &str, plan: &Plan, groups: &Groups, process: &Cloned, channel: &Channel) -> Result<(), CreateError> {
    if groups.cgroup.is_in_systemd() {
        groups.adopt(id, process.pid, &plan.limits)?;
        channel.send(&ToInit::Grouped).map_err(system("release the first process"))?;
    }
    if let Some(mapping) = &plan.namespaces.mapping {
        userns::write_mapping(process.pid, mapping).map_err(system("map the ids of the user namespace"))?;
        channel.send(&ToInit::Mapped).map_err(system("release the first process"))?;
    }
    netdev::hand_over(&plan.net_devices, process.pid)?;
    channel.send(&ToInit::Placed(process.pid)).map_err(system("release the first process"))
}

fn wait_ready(
    channel: &Channel,
    plan: &Plan,
    state: &State,
    pid: i32,
) -> Result<(Option<OwnedFd>, OwnedFd), CreateError> {
    let mut master = None;
    loop {
        match channel.receive_report().map_err(system("hear from the first process"))? {
            Some((FromInit::Terminal, Some(fd))) => master = Some(fd),
            Some((FromInit::Mounted, _)) => {
                hooks::run_creating(&plan.hooks, &State { pid, ..state.clone() })?;
                channel.send(&ToInit::Continue).map_err(system("release the first process"))?;
            }
            Some((FromInit::Ready, Some(root))) => return Ok((master, root)),
            Some((FromInit::Failed(failure), _)) => return Err(failure.into_create_error()),
            Some(_) => return Err(system("understand the first process")(io::ErrorKind::InvalidData.into())),
            None => return Err(CreateError::Died),
        }
    }
}
