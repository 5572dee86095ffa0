//! One more process in a running container (`exec`).
//!
//! A helper child joins the container's control groups and then all its namespaces by the descriptor of its first
//! process (setns(2) with a pidfd), and clones the process as the caller's own child (`CLONE_PARENT`): it is born inside
//! all of them. The process then does the same last steps as the first one did. The helper is collected before `exec`
//! returns.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_oci::runtime::{Process, Spec};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::pidfd;
use atoll_sys::process::{self, CloneFlags, CloneOptions};
use rustix::fs::{Mode, OFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::channel::{Channel, FromInit};
use crate::creation::{Stdio, guard};
use crate::error::{CreateError, ExecError, PlanError, StartError};
use crate::init::{self, At, FAILED, Finish, Step, Stop, errno};
use crate::plan::ProcessPlan;

/// The container to enter.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// Its control groups.
    pub cgroup: &'a Cgroup,
    /// Its configuration: the system call filter is taken from here.
    pub spec: &'a Spec,
}

/// What to execute there.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The process, whole: nothing is inherited from the first one's.
    pub process: &'a Process,
    /// As [`Creation::user`](crate::Creation::user).
    pub user: &'a str,
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
    let filter = target.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let plan = ProcessPlan::new(execution.process, filter)?;
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
    let (ours, theirs) = Channel::pair().map_err(system("make a channel"))?;
    let options = CloneOptions::default();
    let helper = process::clone(options, || help(target, &execution, &plan, &theirs));
    let helper = helper.map_err(system("clone a helper"))?;
    // The last copy of this end is the new process's then.
    drop(theirs);
    let outcome = follow(&ours);
    // It ends by itself as soon as it has reported.
    let _ = pidfd::wait(&helper.pidfd);
    outcome
}

fn follow(channel: &Channel) -> Result<Execed, ExecError> {
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
            Ok(Some((FromInit::Made(pid), Some(fd)))) => made = Some((pid, fd)),
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

/// The helper: into the groups, into the namespaces, then one clone.
fn help(target: &Target<'_>, execution: &Execution<'_>, plan: &ProcessPlan, channel: &Channel) -> i32 {
    let made = enter(target, execution, channel).and_then(|()| {
        let options = CloneOptions { flags: CloneFlags::PARENT, cgroup: None };
        // SAFETY: this process was made by `clone` a moment ago and has started no thread.
        let made = unsafe { process::clone_unchecked(options, || become_process(execution, plan, channel)) };
        made.at("clone", "")
    });
    let report = match made {
        Ok(made) => channel.report(&FromInit::Made(made.pid), Some(made.pidfd.as_fd())),
        Err(Stop(failure)) => channel.report(&FromInit::Failed(failure), None),
    };
    if report.is_ok() { 0 } else { FAILED }
}

fn enter(target: &Target<'_>, execution: &Execution<'_>, channel: &Channel) -> Step<()> {
    init::harden()?;
    init::close_others(execution.preserve_fds, &execution.stdio, &[target.pidfd, channel.as_fd()])?;
    target.cgroup.place(0, false).map_err(|error| {
        let source = match &error {
            atoll_sys::cgroup::Error::Io { source, .. } => errno(source.raw_os_error().unwrap_or(libc::EIO)),
            _ => errno(libc::EIO),
        };
        Stop::new("control groups", error.to_string(), &source)
    })?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(target.pidfd, all).at("join namespaces", "")
}

fn become_process(execution: &Execution<'_>, plan: &ProcessPlan, channel: &Channel) -> i32 {
    let Err(Stop(failure)) = process_steps(execution, plan, channel);
    // The caller is gone when this fails: there is nobody to tell.
    let _ = channel.report(&FromInit::Failed(failure), None);
    FAILED
}

fn process_steps(execution: &Execution<'_>, plan: &ProcessPlan, channel: &Channel) -> Step<std::convert::Infallible> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).at("root", "/")?;
    init::leave_session()?;
    init::set_oom_score(plan)?;
    let streams = init::attach_existing_devpts(&execution.stdio, &root)?;
    if let Some(master) = streams.master() {
        channel.report(&FromInit::Terminal, Some(master)).at("terminal", "master")?;
    }
    let identity = init::resolve_identity(plan, execution.user, &root)?;
    init::finish(Finish { process: plan, identity, streams, preserve_fds: execution.preserve_fds }, &root)
}
