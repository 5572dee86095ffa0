//! One more process in a running container (`exec`).
//!
//! A helper child joins the container's control groups and then all its namespaces by the descriptor of its first
//! process (setns(2) with a pidfd), and clones the process as the caller's own child (`CLONE_PARENT`): it is born inside
//! all of them. The process then does the same last steps as the first one did. The helper is collected before `exec`
//! returns.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_oci::runtime::{NamespaceType, Process, Spec, State};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::pidfd;
use atoll_sys::process::{self, CloneFlags, CloneOptions};
use rustix::fs::{Mode, OFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::channel::{Channel, FromInit, ToInit};
use crate::creation::{Stdio, guard};
use crate::error::{CreateError, ExecError, PlanError, StartError};
use crate::init::{self, At, FAILED, Finish, Notify, Step, Stop, errno};
use crate::plan::ProcessPlan;
use crate::seccomp::Listener;

/// The container to enter.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// Its control groups.
    pub cgroup: &'a Cgroup,
    /// Its configuration: the system call filter and what else holds for every process of it are taken from here.
    pub spec: &'a Spec,
    /// Its state, for the listener of a filter that notifies; not needed otherwise.
    pub state: Option<&'a State>,
}

/// What to execute there.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The process, whole: nothing is inherited from the first one's.
    pub process: &'a Process,
    /// As [`Creation::user`](crate::Creation::user).
    pub user: &'a str,
    /// As [`Creation::more_groups`](crate::Creation::more_groups).
    pub more_groups: &'a [String],
    /// Its standard streams.
    pub stdio: Stdio,
    /// How many descriptors from 3 upward it inherits.
    pub preserve_fds: u32,
}

/// A process that was brought into a container and executes its program.
#[derive(Debug)]
pub struct Execed {
    /// Its number; it is a child of the caller.
    pub pid: i32,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// Master of its terminal, with [`Stdio::Terminal`].
    pub master: Option<OwnedFd>,
}

/// Executes a program in a running container, and waits until it does. The caller is as for [`create`](crate::create).
///
/// # Errors
/// [`ExecError`]; no process is left then.
#[expect(clippy::needless_pass_by_value, reason = "the streams end here with the caller's copies")]
pub fn exec(target: &Target<'_>, execution: Execution<'_>) -> Result<Execed, ExecError> {
    guard().map_err(|error| match error {
        CreateError::Threads => ExecError::Threads,
        CreateError::System { what, source } => ExecError::System { what, source },
        _ => ExecError::Unsealed,
    })?;
    let plan = ProcessPlan::new(execution.process, target.spec.linux.as_ref())?;
    if matches!(execution.stdio, Stdio::Terminal { .. }) != plan.terminal {
        return Err(PlanError::invalid("process.terminal and the given streams contradict each other").into());
    }
    match pidfd::poll(target.pidfd, Some(std::time::Duration::ZERO)) {
        Ok(false) => {}
        Ok(true) => return Err(ExecError::Gone),
        Err(source) => return Err(ExecError::System { what: "look at the container's process".into(), source }),
    }
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| ExecError::System { what, source }
    };
    let notify = Listener::connect(target.spec).map_err(system("reach the listener of the system call filter"))?;
    if notify.is_some() && target.state.is_none() {
        return Err(PlanError::unsupported("a further process in a container whose filter notifies").into());
    }
    let (ours, theirs) = Channel::pair().map_err(system("make a channel"))?;
    let entry = Entry {
        target,
        execution: &execution,
        plan: &plan,
        notify: notify.as_ref(),
        channel: &theirs,
        namespaces: namespaces(target).map_err(system("look at the container's namespaces"))?,
    };
    let helper = process::clone(CloneOptions::default(), || entry.help());
    let helper = helper.map_err(system("clone a helper"))?;
    // The last copy of this end is the new process's then.
    drop(theirs);
    let outcome = follow(&ours, notify.is_some());
    // It ends by itself as soon as it has reported.
    let _ = pidfd::wait(&helper.pidfd);
    outcome
}

fn follow(channel: &Channel, notifies: bool) -> Result<Execed, ExecError> {
    let (mut made, mut master): (Option<(i32, OwnedFd)>, _) = (None, None);
    let failed = |made: Option<(i32, OwnedFd)>, error: StartError| {
        if let Some((_, process)) = made {
            let _ = pidfd::kill(&process, libc::SIGKILL);
            let _ = pidfd::wait(&process);
        }
        Err(ExecError::Start(error))
    };
    loop {
        match channel.receive_report() {
            Ok(Some((FromInit::Made(pid), Some(fd)))) => {
                made = Some((pid, fd));
                if notifies && let Err(error) = channel.send(&ToInit::Placed(pid)) {
                    return failed(made, StartError::Channel(error));
                }
            }
            Ok(Some((FromInit::Terminal, Some(fd)))) => master = Some(fd),
            Ok(Some((FromInit::Executing, _))) => {}
            Ok(Some((FromInit::Failed(failure), _))) => {
                // The process may report before its helper does: the number still comes.
                if made.is_none()
                    && let Ok(Some((FromInit::Made(pid), Some(fd)))) = channel.receive_report()
                {
                    made = Some((pid, fd));
                }
                return failed(made, failure.into_start_error());
            }
            Ok(Some(_)) => return failed(made, StartError::Channel(std::io::ErrorKind::InvalidData.into())),
            Ok(None) => break,
            Err(error) => return failed(made, StartError::Channel(error)),
        }
    }
    match made {
        Some((pid, pidfd)) => Ok(Execed { pid, pidfd, master }),
        None => Err(ExecError::Gone),
    }
}

/// The namespaces that the container's first process is in. What the configuration does not name is most likely the caller's own:
/// it is entered only where it is another, since an ordinary user has no right to enter the host's. A process in its own user
/// or time namespace cannot enter it at all (setns(2), `EINVAL`).
fn namespaces(target: &Target<'_>) -> std::io::Result<ThreadNameSpaceType> {
    let mut all = ThreadNameSpaceType::empty();
    for (typ, file, flag) in [
        (NamespaceType::Mount, "mnt", ThreadNameSpaceType::MOUNT),
        (NamespaceType::Pid, "pid", ThreadNameSpaceType::PROCESS_ID),
        (NamespaceType::Network, "net", ThreadNameSpaceType::NETWORK),
        (NamespaceType::Ipc, "ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (NamespaceType::Uts, "uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (NamespaceType::Cgroup, "cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        (NamespaceType::User, "user", ThreadNameSpaceType::USER),
        (NamespaceType::Time, "time", ThreadNameSpaceType::TIME),
    ] {
        let listed = target.spec.linux.as_ref().is_some_and(|linux| linux.namespace(typ).is_some());
        let enters = match (typ, listed) {
            (NamespaceType::User | NamespaceType::Time, false) => false,
            (NamespaceType::User | NamespaceType::Time, true) | (_, false) => !is_own(target, file)?,
            (_, true) => true,
        };
        if enters {
            all |= flag;
        }
    }
    Ok(all)
}

/// Whether the container's first process is in the caller's namespace of this kind.
fn is_own(target: &Target<'_>, file: &str) -> std::io::Result<bool> {
    let pid = pidfd::number(target.pidfd)?;
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{file}"));
    Ok(of(&pid.to_string())? == of("self")?)
}

/// What the helper and the process need.
struct Entry<'a> {
    target: &'a Target<'a>,
    execution: &'a Execution<'a>,
    plan: &'a ProcessPlan,
    notify: Option<&'a Listener>,
    channel: &'a Channel,
    namespaces: ThreadNameSpaceType,
}

impl Entry<'_> {
    /// The helper: into the groups, into the namespaces, then one clone.
    fn help(&self) -> i32 {
        let made = self.enter().and_then(|proc| {
            let options = CloneOptions { flags: CloneFlags::PARENT, cgroup: None };
            // SAFETY: this process was made by `clone` a moment ago and has started no thread.
            let made = unsafe { process::clone_unchecked(options, || self.become_process(&proc)) };
            made.at("clone", "")
        });
        let report = match made {
            Ok(made) => self.channel.report(&FromInit::Made(made.pid), Some(made.pidfd.as_fd())),
            Err(Stop(failure)) => self.channel.report(&FromInit::Failed(failure), None),
        };
        if report.is_ok() { 0 } else { FAILED }
    }

    /// Gives the host's procfs.
    fn enter(&self) -> Step<OwnedFd> {
        let Self { target, execution, plan, .. } = self;
        let proc = init::procfs::open()?;
        init::procfs::write_oom_score(plan, &proc)?;
        init::harden()?;
        let own = [Some(target.pidfd), Some(self.channel.as_fd()), Some(proc.as_fd()), self.notify.map(AsFd::as_fd)];
        let own: Vec<BorrowedFd<'_>> = own.into_iter().flatten().collect();
        init::close_others(execution.preserve_fds, &execution.stdio, &own)?;
        if !plan.schedule.initial_processors.is_empty() {
            atoll_sys::schedule::set_affinity(&plan.schedule.initial_processors).at("CPU affinity", "initial")?;
        }
        init::enter_groups(target.cgroup, false)?;
        rustix::thread::move_into_thread_name_spaces(target.pidfd, self.namespaces).at("join namespaces", "")?;
        Ok(proc)
    }

    fn become_process(&self, proc: &OwnedFd) -> i32 {
        let Err(Stop(failure)) = self.process_steps(proc);
        // The caller is gone when this fails: there is nobody to tell.
        let _ = self.channel.report(&FromInit::Failed(failure), None);
        FAILED
    }

    fn process_steps(&self, proc: &OwnedFd) -> Step<std::convert::Infallible> {
        let Self { execution, plan, channel, .. } = self;
        if self.namespaces.contains(ThreadNameSpaceType::USER) {
            init::become_root()?;
        }
        // Anew: a clone inherits no death signal, and a new user makes it dumpable.
        init::harden()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).at("root", "/")?;
        init::leave_session(true)?;
        let streams = init::attach_existing_devpts(&execution.stdio, &root)?;
        if let Some(master) = streams.master() {
            channel.report(&FromInit::Terminal, Some(master)).at("terminal", "master")?;
        }
        let identity = init::resolve_identity(plan, (execution.user, execution.more_groups), &root, proc)?;
        streams.install(identity.uid)?;
        let notify = match (self.notify, self.target.state) {
            (Some(listener), Some(state)) => {
                let Some(ToInit::Placed(pid)) = channel.receive().at("wait for the own number", "")? else {
                    return Err(Stop::new("wait for the own number", "the maker is gone", &errno(libc::EPIPE)));
                };
                Some(Notify { listener, state, pid })
            }
            _ => None,
        };
        let preserve_fds = execution.preserve_fds;
        init::finish(&Finish { process: plan, identity, preserve_fds, proc, notify, hooks: None, channel }, &root)
    }
}
