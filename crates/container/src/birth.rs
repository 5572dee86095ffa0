//! The clone of a container's first process, and what has to happen before it.
//!
//! Most containers are one `clone3` away. A process that joins a pid or user namespace of others has to be cloned by
//! somebody inside: a helper enters them and clones it as the caller's own child (`CLONE_PARENT`). With a new user
//! namespace the helper also enters what is joined, since from inside the new one nobody has a right to it any more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_oci::runtime::NamespaceType;
use atoll_sys::process::{self, CloneOptions, Cloned};
use atoll_sys::{pidfd, userns};
use rustix::thread::LinkNameSpaceType;

use crate::channel::{Channel, FromInit};
use crate::creation::{RootSource, system};
use crate::error::{CreateError, PlanError};
use crate::init::{self, At, FAILED, Init, Step, Stop};
use crate::plan::Plan;

/// Namespaces of others, by kind.
pub(crate) type Joins = [(NamespaceType, OwnedFd)];

/// Opens the namespaces to join.
pub(crate) fn open_namespaces(plan: &Plan) -> Result<Vec<(NamespaceType, OwnedFd)>, CreateError> {
    let open = |join: &crate::plan::Join| {
        let file = std::fs::File::open(&join.path);
        let file = file.map_err(system(&format!("open the {} namespace {}", join.typ, join.path)))?;
        Ok((join.typ, file.into()))
    };
    plan.namespaces.joins.iter().map(open).collect()
}

/// Whether a helper enters the joined namespaces before the clone.
pub(crate) fn joins_before_clone(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    let late = [NamespaceType::Cgroup, NamespaceType::Mount];
    let others = namespaces.joins.iter().any(|join| !late.contains(&join.typ));
    namespaces.joins(NamespaceType::Pid)
        || namespaces.joins(NamespaceType::User)
        || (namespaces.mapping.is_some() && others)
}

/// Whether the host's files are cloned by the maker: from inside another user namespace the process may neither reach them
/// all nor map their ids. An ordinary user's process is the user's own and does it itself.
pub(crate) fn needs_sources_from_maker(plan: &Plan) -> Result<bool, CreateError> {
    let mapped = plan.mounts.iter().any(|mount| mount.idmap.is_some());
    if !mapped && !plan.namespaces.has_user_namespace() {
        return Ok(false);
    }
    let privileged = userns::is_privileged().map_err(system("look at the own privileges"))?;
    if mapped && !privileged {
        return Err(PlanError::unsupported("an id-mapped mount for an ordinary user").into());
    }
    Ok(privileged)
}

/// Clones the first process; `cgroup` is the v2 group that it is born in.
pub(crate) fn clone_first(
    init: &Init<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    theirs: Channel,
) -> Result<Cloned, CreateError> {
    let flags = init.plan.namespaces.clone;
    if !init.joined {
        let options = CloneOptions { flags, cgroup };
        return process::clone(options, || init::run(init, theirs)).map_err(system("clone the first process"));
    }
    let (ours, helpers) = Channel::pair().map_err(system("make a channel"))?;
    let helper = process::clone(CloneOptions::default(), || help(init, theirs, &helpers));
    let helper = helper.map_err(system("clone a helper"))?;
    drop(helpers);
    let report = ours.receive_report().map_err(system("hear from the helper"));
    // It ends by itself as soon as it has reported.
    let _ = pidfd::wait(&helper.pidfd);
    match report? {
        Some((FromInit::Made(pid), Some(pidfd))) => Ok(Cloned { pid, pidfd }),
        Some((FromInit::Failed(failure), _)) => Err(failure.into_create_error()),
        _ => Err(CreateError::Died),
    }
}

fn help(init: &Init<'_>, theirs: Channel, channel: &Channel) -> i32 {
    let made = init::harden().and_then(|()| enter_all(init.joins)).and_then(|()| {
        let flags = init.plan.namespaces.clone | process::CloneFlags::PARENT;
        // SAFETY: this process was made by `clone` a moment ago and has started no thread.
        let made =
            unsafe { process::clone_unchecked(CloneOptions { flags, cgroup: None }, || init::run(init, theirs)) };
        made.at("clone", "")
    });
    let report = match made {
        Ok(made) => channel.report(&FromInit::Made(made.pid), Some(made.pidfd.as_fd())),
        Err(Stop(failure)) => channel.report(&FromInit::Failed(failure), None),
    };
    if report.is_ok() { 0 } else { FAILED }
}

/// Enters all but the cgroup namespace, which waits for the groups, and the mount namespace, which waits until nothing of the
/// host's is needed: first those that the present rights reach, then the user
/// namespace, then those that it has rights over.
fn enter_all(joins: &Joins) -> Step<()> {
    let mut later = Vec::new();
    for (typ, fd) in joins.iter().filter(|(typ, _)| *typ != NamespaceType::User) {
        match enter(*typ, fd) {
            Err(Stop(failure)) if failure.errno == libc::EPERM => later.push((*typ, fd)),
            other => other?,
        }
    }
    if let Some((typ, fd)) = joins.iter().find(|(typ, _)| *typ == NamespaceType::User) {
        enter(*typ, fd)?;
    }
    later.into_iter().try_for_each(|(typ, fd)| enter(typ, fd))
}

/// Enters one namespace; a cgroup or mount namespace is left to later.
pub(crate) fn enter(typ: NamespaceType, fd: &OwnedFd) -> Step<()> {
    let kind = match typ {
        NamespaceType::Network => LinkNameSpaceType::Network,
        NamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceType::Time => LinkNameSpaceType::Time,
        NamespaceType::Pid => LinkNameSpaceType::ProcessID,
        NamespaceType::User => LinkNameSpaceType::User,
        NamespaceType::Cgroup | NamespaceType::Mount => return Ok(()),
    };
    rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).at("join namespace", &typ.to_string())
}

/// The kind of a root, for messages.
pub(crate) fn root_name(root: &RootSource) -> std::borrow::Cow<'_, str> {
    match root {
        RootSource::Path(path) => path.to_string_lossy(),
        RootSource::Overlay(overlay) => overlay.base.to_string_lossy(),
        RootSource::Empty => "tmpfs".into(),
    }
}
