//! What the first process of a container does to itself, from its clone to its `execve`.
//!
//! This is the assembly point: [`run`] is the list of steps in their order, each a function with its requirement. Every
//! step works on descriptors below the new root, never on paths that an image or a neighbour could redirect
//! (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579). A step that fails is reported by
//! name to the maker, and the process ends.

mod devices;
mod identity;
mod mask;
mod mounts;
mod resolve;
mod root;
mod terminal;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_oci::runtime::NamespaceType;
use atoll_sys::cgroup::Cgroup;
use atoll_sys::process::CloneFlags;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::channel::{Channel, Failure, FailureKind, FromInit, ToInit};
use crate::creation::{RootSource, Stdio};
use crate::plan::{Plan, ProcessPlan};

pub(crate) use identity::{Finish, finish, resolve as resolve_identity};
pub(crate) use terminal::{Streams, attach_existing_devpts};

/// Status of a process that could not go on; nobody sees it but in a debugger.
pub(crate) const FAILED: i32 = 125;

/// Where and why a step stopped.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Failure);

/// What a step gives.
pub(crate) type Step<T> = Result<T, Stop>;

impl Stop {
    pub(crate) fn new(step: &str, detail: impl Into<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self(Failure { kind: FailureKind::Step, step: step.into(), detail: detail.into(), errno })
    }

    pub(crate) fn of_kind(mut self, kind: FailureKind) -> Self {
        self.0.kind = kind;
        self
    }
}

/// Names the step and its object for whatever error the system gave.
pub(crate) trait At<T> {
    fn at(self, step: &str, detail: &str) -> Step<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &str, detail: &str) -> Step<T> {
        self.map_err(|error| Stop::new(step, detail, &error.into()))
    }
}

/// An error number of our own choice.
pub(crate) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// Everything the process needs.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) root: &'a RootSource,
    pub(crate) user: &'a str,
    pub(crate) stdio: &'a Stdio,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) joins: &'a [(NamespaceType, OwnedFd)],
    pub(crate) listener: Option<&'a OwnedFd>,
    pub(crate) preserve_fds: u32,
}

/// Builds the container around the calling process and executes its program; returns the status to end with.
pub(crate) fn run(init: &Init<'_>, channel: Channel) -> i32 {
    let mut channel = channel;
    let Err(stop) = steps(init, &mut channel);
    // The maker is gone when this fails: there is nobody to tell.
    let _ = channel.report(&FromInit::Failed(stop.0), None);
    FAILED
}

/// What the maker had open and the process does not need is closed here at once: a lock, a pipe or a socket of the maker
/// must not live on in a container that waits for its start (CVE-2024-21626 began with such a descriptor).
pub(crate) fn close_others(preserve: u32, stdio: &Stdio, own: &[BorrowedFd<'_>]) -> Step<()> {
    let mut keep = own.to_vec();
    if let Stdio::Fds { stdin, stdout, stderr } = stdio {
        keep.extend([stdin, stdout, stderr].map(AsFd::as_fd));
    }
    // SAFETY: this process was cloned and ends without returning to the maker's code or running its destructors.
    unsafe { atoll_sys::fd::close_all_but(3_u32.saturating_add(preserve), &keep) }.at("close descriptors", "")
}

fn steps(init: &Init<'_>, channel: &mut Channel) -> Step<std::convert::Infallible> {
    let plan = init.plan;
    harden()?;
    let own: Vec<BorrowedFd<'_>> = init
        .joins
        .iter()
        .map(|(_, fd)| fd.as_fd())
        .chain(init.listener.map(AsFd::as_fd))
        .chain([channel.as_fd()])
        .collect();
    close_others(init.preserve_fds, init.stdio, &own)?;
    join_namespaces(init.joins)?;
    leave_session()?;
    let sources = mounts::open_sources(&plan.mounts)?;
    root::make_private()?;
    let masks = mask::Masks::prepare(plan)?;
    let root = root::attach(init.root)?;
    let mut placement = Placement { channel, done: false, namespace: plan.cgroup_namespace, joins: init.joins };
    let made = mounts::mount_all(plan, &root, sources, init.cgroup, &mut placement)?;
    placement.wait()?;
    devices::populate(plan, &root, &made)?;
    let streams = terminal::open(init.stdio, &root, &made)?;
    resolve::working_folder(&root, &plan.process.cwd);
    let proc = mounts::own_proc(&made, plan)?;
    set_parameters(plan, proc.as_ref())?;
    mask::apply(plan, &root, masks.as_ref())?;
    set_names(plan)?;
    bring_loopback_up(plan)?;
    root::pivot(&root)?;
    root::seal(&root, plan.root)?;
    let identity = identity::resolve(&plan.process, init.user, &root)?;
    wait_for_start(init, channel, &root, &streams)?;
    let finish = Finish { process: &plan.process, identity, streams, preserve_fds: init.preserve_fds };
    Err(finish_with(finish, &root))
}

fn finish_with(finish: Finish<'_>, root: &OwnedFd) -> Stop {
    match identity::finish(finish, root) {
        Ok(never) => match never {},
        Err(stop) => stop,
    }
}

/// Nobody in the container may look into this process (ptrace, /proc/<pid>/exe, mem) while it still is our program; and
/// it does not outlive its maker. Files and nodes are made with exactly the mode that is asked for.
pub(crate) fn harden() -> Step<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).at("harden", "dumpable")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("harden", "parent death signal")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

/// Namespaces of others are entered before anything is mounted: sysfs shows the network namespace it is mounted from.
/// The cgroup namespace waits until the process is in its groups, the pid namespace was entered by the maker.
fn join_namespaces(joins: &[(NamespaceType, OwnedFd)]) -> Step<()> {
    for (typ, fd) in joins {
        let kind = match typ {
            NamespaceType::Network => LinkNameSpaceType::Network,
            NamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
            NamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            _ => continue,
        };
        rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).at("join namespace", &typ.to_string())?;
    }
    Ok(())
}

/// The process leads a session of its own, without the maker's terminal and keys.
pub(crate) fn leave_session() -> Step<()> {
    rustix::process::setsid().at("session", "setsid")?;
    match atoll_sys::keyring::join_session(c"_atoll") {
        // A kernel without keys has none to leak; one out of quota is refused.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.at("session", "keyring"),
    }
}

/// The word of the maker that the process is in all its control groups; then its cgroup namespace can begin there.
pub(crate) struct Placement<'a> {
    channel: &'a mut Channel,
    done: bool,
    namespace: bool,
    joins: &'a [(NamespaceType, OwnedFd)],
}

impl Placement<'_> {
    /// Waits once; later calls return at once.
    pub(crate) fn wait(&mut self) -> Step<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        match self.channel.receive().at("wait for control groups", "")? {
            Some(ToInit::Placed) => {}
            _ => return Err(Stop::new("wait for control groups", "the maker is gone", &errno(libc::EPIPE))),
        }
        if let Some((_, fd)) = self.joins.iter().find(|(typ, _)| *typ == NamespaceType::Cgroup) {
            let kind = LinkNameSpaceType::ControlGroup;
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).at("join namespace", "cgroup")?;
        }
        if self.namespace {
            // SAFETY: NEWCGROUP changes what this process sees of the hierarchies; no descriptor or memory is unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.at("cgroup namespace", "")?;
        }
        Ok(())
    }
}

/// Kernel parameters and the score for the out-of-memory killer go through a procfs of our own, not through /proc of the
/// container, which an image or a mount may have replaced (CVE-2019-16884, CVE-2025-52881).
fn set_parameters(plan: &Plan, proc: Option<&OwnedFd>) -> Step<()> {
    let Some(proc) = proc else { return Ok(()) };
    for (path, value) in &plan.sysctl {
        resolve::write_below(proc, &format!("sys/{path}"), value.as_bytes()).at("sysctl", path)?;
    }
    write_oom_score(&plan.process, proc)
}

fn write_oom_score(process: &ProcessPlan, proc: &OwnedFd) -> Step<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = format!("{}/oom_score_adj", rustix::process::getpid().as_raw_nonzero());
    resolve::write_below(proc, &path, score.to_string().as_bytes()).at("oom_score_adj", &score.to_string())
}

/// The score of a further process, through a procfs of its own.
pub(crate) fn set_oom_score(process: &ProcessPlan) -> Step<()> {
    if process.oom_score_adj.is_none() {
        return Ok(());
    }
    write_oom_score(process, &mounts::filesystem("proc", "proc", &[])?)
}

/// Names of the new UTS namespace.
fn set_names(plan: &Plan) -> Step<()> {
    let (host, domain) = &plan.names;
    if !host.is_empty() {
        rustix::system::sethostname(host.as_bytes()).at("hostname", host)?;
    }
    if !domain.is_empty() {
        rustix::system::setdomainname(domain.as_bytes()).at("domainname", domain)?;
    }
    Ok(())
}

/// A new network namespace has its loopback interface down.
fn bring_loopback_up(plan: &Plan) -> Step<()> {
    if plan.is_new(CloneFlags::NEWNET) { atoll_sys::loopback::up().at("loopback", "lo") } else { Ok(()) }
}

/// Says that all is made and waits for the word to go on: from the maker, or from whoever connects.
fn wait_for_start(init: &Init<'_>, channel: &mut Channel, root: &OwnedFd, streams: &Streams) -> Step<()> {
    let step = "wait for start";
    if let Some(master) = streams.master() {
        channel.report(&FromInit::Terminal, Some(master)).at(step, "terminal")?;
    }
    rustix::process::set_parent_process_death_signal(None).at(step, "parent death signal")?;
    channel.report(&FromInit::Ready, Some(root.as_fd())).at(step, "ready")?;
    let gone = || Stop::new(step, "the maker is gone", &errno(libc::EPIPE));
    if let Some(listener) = init.listener {
        loop {
            let accepted = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC).at(step, "accept")?;
            let connection = Channel::from_fd(accepted);
            if let Ok(Some(ToInit::Start)) = connection.receive() {
                *channel = connection;
                break;
            }
        }
    } else if channel.receive().at(step, "")? != Some(ToInit::Start) {
        return Err(gone());
    }
    channel.report(&FromInit::Executing, None).at(step, "executing")
}
