//! What the first process of a container does to itself, from its clone to its `execve`.
//!
//! This is the assembly point: [`run`] is the list of steps in their order, each a function with its requirement. Every
//! step works on descriptors below the new root, never on paths that an image or a neighbour could redirect
//! (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579). A step that fails is reported by
//! name to the maker, and the process ends.

mod copyup;
mod devices;
mod identity;
pub(crate) mod mask;
mod mounts;
pub(crate) mod procfs;
mod resolve;
pub(crate) mod root;
mod sources;
mod terminal;

use std::error::Error as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use atoll_oci::runtime::{NamespaceType, State, Status};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::process::CloneFlags;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::birth;
use crate::channel::{Channel, Failure, FailureKind, FromInit, ToInit};
use crate::creation::{Creation, StartMode, Stdio};
use crate::hooks::{self, Stage};
use crate::plan::Plan;
use crate::seccomp::Listener;

pub(crate) use identity::{Finish, Notify, become_root, find_program, finish, resolve as resolve_identity};
pub(crate) use sources::Sources;
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
    pub(crate) creation: &'a Creation<'a>,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) joins: &'a birth::Joins,
    /// Whether it is in a user namespace other than the host's first: its own, a joined one, or the maker's. Nobody may make
    /// device nodes there, or mount a sysfs without a network namespace.
    pub(crate) foreign: bool,
    /// Whether it was cloned into its v2 group.
    pub(crate) born_in_v2: bool,
    /// Whether a helper has entered the joined namespaces already.
    pub(crate) joined: bool,
    /// Clones of the host's files, where the maker made them.
    pub(crate) sources: Option<&'a Sources>,
    pub(crate) notify: Option<&'a Listener>,
    pub(crate) state: &'a State,
}

impl Init<'_> {
    fn start_listener(&self) -> Option<&OwnedFd> {
        match &self.creation.start {
            StartMode::Caller => None,
            StartMode::Listener(listener) => Some(listener),
        }
    }

    /// Descriptors of the maker's that are needed.
    fn own_fds<'b>(&'b self, proc: &'b OwnedFd, channel: &'b Channel) -> Vec<BorrowedFd<'b>> {
        let joins = self.joins.iter().map(|(_, fd)| fd.as_fd());
        let sources = self.sources.into_iter().flat_map(Sources::fds);
        let few = [Some(proc.as_fd()), Some(channel.as_fd()), self.notify.map(AsFd::as_fd)];
        joins.chain(sources).chain(self.start_listener().map(AsFd::as_fd)).chain(few.into_iter().flatten()).collect()
    }
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
    unsafe { atoll_sys::fd::close_all_but(preserve, &keep) }.at("close descriptors", "")
}

fn steps(init: &Init<'_>, channel: &mut Channel) -> Step<std::convert::Infallible> {
    let (plan, creation) = (init.plan, init.creation);
    let proc = procfs::open()?;
    procfs::write_oom_score(&plan.process, &proc)?;
    wait_for_systemd(init.cgroup, channel)?;
    enter_groups(init.cgroup, init.born_in_v2)?;
    enter_user_namespace(plan, channel, &proc)?;
    harden()?;
    close_others(creation.preserve_fds, &creation.stdio, &init.own_fds(&proc, channel))?;
    join_namespaces(init)?;
    leave_session(creation.keyring)?;
    let Built { root, streams, pid } = if plan.namespaces.joins(NamespaceType::Mount) {
        enter_root(init, channel)?
    } else {
        build_root(init, channel, &proc)?
    };
    begin_time_namespace(plan, &proc)?;
    let identity = identity::resolve(&plan.process, (creation.user, creation.more_groups), &root, &proc)?;
    find_program(&plan.process, &identity, &root)?;
    streams.install(identity.uid)?;
    wait_for_start(init, channel, &root, &streams)?;
    let state = State { pid, status: Status::Created, ..init.state.clone() };
    let last = Finish {
        process: &plan.process,
        identity,
        preserve_fds: creation.preserve_fds,
        proc: &proc,
        notify: init.notify.map(|listener| Notify { listener, state: &state, pid }),
        hooks: Some((&plan.hooks.start_container, &state)),
        channel,
    };
    finish(&last, &root)
}

/// A root that the process stands in.
struct Built<'a> {
    root: OwnedFd,
    streams: Streams<'a>,
    /// The process's number, as its maker sees it.
    pid: i32,
}

/// Builds the container's own root in its new mount namespace, and enters it.
fn build_root<'a>(init: &Init<'a>, channel: &Channel, proc: &OwnedFd) -> Step<Built<'a>> {
    let (plan, creation) = (init.plan, init.creation);
    let own_sources = if init.sources.is_none() { Some(Sources::open(plan, &creation.root)?) } else { None };
    let sources = init.sources.or(own_sources.as_ref()).ok_or_else(|| errno(libc::EINVAL)).at("sources", "")?;
    root::make_private()?;
    let masks = mask::Masks::prepare(plan, init.foreign)?;
    let root = &sources.root;
    root::attach(root, &creation.root)?;
    begin_cgroup_namespace(init)?;
    let made = mounts::mount_all(plan, init.foreign, sources, init.cgroup)?;
    let pid = wait_for_maker(channel)?;
    devices::populate(plan, init.foreign, root, &made)?;
    let streams = terminal::open(&creation.stdio, &made)?;
    resolve::working_folder(root, &plan.process.cwd);
    let own_proc = mounts::own_proc(&made, plan)?;
    set_parameters(plan, own_proc.as_ref())?;
    let state = State { pid, ..init.state.clone() };
    run_creation_hooks(plan, channel, &state)?;
    mask::apply(plan, root, masks.as_ref())?;
    set_names(plan)?;
    bring_loopback_up(plan)?;
    if creation.pivot {
        root::pivot(root)?;
    } else {
        root::move_over(root, proc)?;
    }
    root::seal(root, plan.root)?;
    let root = root.try_clone().at("root file system", "")?;
    Ok(Built { root, streams, pid })
}

/// Enters a mount namespace of others, whose root becomes the container's: nothing is mounted there. It comes after what
/// needs the host's files; kernel parameters go through a procfs that nobody else sees.
fn enter_root<'a>(init: &Init<'a>, channel: &Channel) -> Step<Built<'a>> {
    let plan = init.plan;
    let kind = Some(LinkNameSpaceType::Mount);
    for (_, fd) in init.joins.iter().filter(|(typ, _)| *typ == NamespaceType::Mount) {
        rustix::thread::move_into_link_name_space(fd.as_fd(), kind).at("join namespace", "mount")?;
    }
    begin_cgroup_namespace(init)?;
    let pid = wait_for_maker(channel)?;
    let root = root::host_root().at("root file system", "/")?;
    let streams = attach_existing_devpts(&init.creation.stdio, &root)?;
    set_parameters(plan, mounts::own_proc(&mounts::Made::default(), plan)?.as_ref())?;
    run_creation_hooks(plan, channel, &State { pid, ..init.state.clone() })?;
    set_names(plan)?;
    bring_loopback_up(plan)?;
    Ok(Built { root, streams, pid })
}

/// Until systemd, which keeps the group, has put the process into it.
fn wait_for_systemd(cgroup: &Cgroup, channel: &Channel) -> Step<()> {
    let step = "control groups";
    if cgroup.is_in_systemd() && channel.receive().at(step, "")? != Some(ToInit::Grouped) {
        return Err(Stop::new(step, "the maker is gone", &errno(libc::EPIPE)));
    }
    Ok(())
}

/// Enters the control groups, while the process still has the host's view of them.
pub(crate) fn enter_groups(cgroup: &Cgroup, born_in_v2: bool) -> Step<()> {
    cgroup.enter(born_in_v2).map_err(|error| {
        if let atoll_sys::cgroup::Error::Io { source, .. } = &error {
            return Stop::new("control groups", error.to_string(), source);
        }
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            detail += &format!(": {next}");
            cause = next.source();
        }
        Stop::new("control groups", detail, &errno(libc::EIO))
    })
}

/// In a user namespace of its own the process becomes that one's root, once its ids are mapped: what it makes belongs to
/// somebody then.
fn enter_user_namespace(plan: &Plan, channel: &Channel, proc: &OwnedFd) -> Step<()> {
    let step = "user namespace";
    if !plan.namespaces.has_user_namespace() {
        return Ok(());
    }
    if plan.namespaces.mapping.is_some() && channel.receive().at(step, "mapping")? != Some(ToInit::Mapped) {
        return Err(Stop::new(step, "the maker is gone", &errno(libc::EPIPE)));
    }
    if let Some(expected) = &plan.namespaces.expected
        && !expected.is(&procfs::read_own(proc, "uid_map")?, &procfs::read_own(proc, "gid_map")?)
    {
        let detail = "uidMappings and gidMappings are not those of the joined user namespace";
        return Err(Stop::new(step, detail, &errno(libc::EINVAL)));
    }
    become_root()
}

/// Hooks of the runtime's namespaces run while the process waits, then those of the container's (runtime.md, "Lifecycle").
/// The host's files are still there, the container's root stands on the folder that it comes from.
fn run_creation_hooks(plan: &Plan, channel: &Channel, state: &State) -> Step<()> {
    let hooks = &plan.hooks;
    if !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()) {
        channel.report(&FromInit::Mounted, None).at("hooks", "")?;
        if channel.receive().at("hooks", "")? != Some(ToInit::Continue) {
            return Err(Stop::new("hooks", "the maker is gone", &errno(libc::EPIPE)));
        }
    }
    run_hooks(Stage::CreateContainer, &hooks.create_container, state, Path::new(&state.bundle))
}

fn run_hooks(stage: Stage, hooks: &[atoll_oci::runtime::Hook], state: &State, folder: &Path) -> Step<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let run = hooks::run(stage, hooks, state, folder);
    rustix::process::umask(mask);
    run.map_err(|error| {
        Stop(Failure { kind: FailureKind::Step, step: "hooks".into(), detail: error.to_string(), errno: 0 })
    })
}

/// First kernel whose execve(2) enters the time namespace that a process has unshared.
const TIME_KERNEL: (u32, u32) = (6, 1);

/// A new time namespace begins with the program: the kernel moves a process into it at its `execve`
/// (time_namespaces(7)).
fn begin_time_namespace(plan: &Plan, proc: &OwnedFd) -> Step<()> {
    let Some(offsets) = &plan.namespaces.time else { return Ok(()) };
    let step = "time namespace";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < TIME_KERNEL {
        return Err(errno(libc::EOPNOTSUPP)).at(step, &format!("kernel {release} is older than 6.1"));
    }
    // SAFETY: NEWTIME is for processes and programs to come; no descriptor or memory is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWTIME) }.at(step, "")?;
    if offsets.is_empty() { Ok(()) } else { procfs::write_own(proc, "timens_offsets", &offsets.join("\n")) }
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
/// The cgroup namespace waits until the process is in its groups.
fn join_namespaces(init: &Init<'_>) -> Step<()> {
    if init.joined {
        return Ok(());
    }
    init.joins.iter().try_for_each(|(typ, fd)| birth::enter(*typ, fd))
}

/// The process leads a session of its own, without the maker's terminal and keys.
pub(crate) fn leave_session(keyring: bool) -> Step<()> {
    rustix::process::setsid().at("session", "setsid")?;
    if !keyring {
        return Ok(());
    }
    match atoll_sys::keyring::join_session(c"_atoll") {
        // A kernel without keys has none to leak; one out of quota is refused.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.at("session", "keyring"),
    }
}

/// The word of the maker that its part is done. It tells the process its number, as the maker sees it.
fn wait_for_maker(channel: &Channel) -> Step<i32> {
    match channel.receive().at("wait for the maker", "")? {
        Some(ToInit::Placed(pid)) => Ok(pid),
        _ => Err(Stop::new("wait for the maker", "it is gone", &errno(libc::EPIPE))),
    }
}

/// Its groups become the roots of the hierarchies that the container sees.
fn begin_cgroup_namespace(init: &Init<'_>) -> Step<()> {
    if let Some((_, fd)) = init.joins.iter().find(|(typ, _)| *typ == NamespaceType::Cgroup) {
        let kind = LinkNameSpaceType::ControlGroup;
        rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).at("join namespace", "cgroup")?;
    }
    if init.plan.namespaces.cgroup {
        // SAFETY: NEWCGROUP changes what this process sees of the hierarchies; no descriptor or memory is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.at("cgroup namespace", "")?;
    }
    Ok(())
}

/// Kernel parameters go through a procfs of our own, not through /proc of the container, which an image or a mount may
/// have replaced (CVE-2019-16884, CVE-2025-52881).
fn set_parameters(plan: &Plan, proc: Option<&OwnedFd>) -> Step<()> {
    let Some(proc) = proc else { return Ok(()) };
    for (path, value) in &plan.sysctl {
        resolve::write_below(proc, &format!("sys/{path}"), value.as_bytes()).at("sysctl", path)?;
    }
    Ok(())
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
    if plan.namespaces.is_new(CloneFlags::NEWNET) { atoll_sys::loopback::up().at("loopback", "lo") } else { Ok(()) }
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
    if let Some(listener) = init.start_listener() {
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
