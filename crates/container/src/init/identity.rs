//! The last steps of every process of a container: limits, user, capabilities, filter, `execve`.
//!
//! The order matters and is the list in [`finish`]: what needs rights comes before they are dropped, and the system call
//! filter comes as late as the kernel allows (before the rights go, unless `no_new_privs` makes it possible without). Before
//! anything that an image named is executed, every descriptor of ours is closed: until `execve` has looked its path up,
//! close-on-exec hides none of them from a link to `/proc/self/fd`.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use atoll_oci::runtime::{Hook, State};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::process::Rlimit;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{At, FAILED, FailureKind, Step, Stop, close_others, errno, procfs, resolve, run_hooks};
use crate::channel::{Channel, FromInit};
use crate::creation::Stdio;
use crate::hooks::Stage;
use crate::plan::ProcessPlan;
use crate::seccomp::{Listener, Program};
use crate::users::{self, Account};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// File mode creation mask without another wish.
const DEFAULT_UMASK: u32 = 0o022;

/// What [`finish`] needs.
pub(crate) struct Finish<'a> {
    pub(crate) process: &'a ProcessPlan,
    pub(crate) identity: Account,
    pub(crate) preserve_fds: u32,
    /// The host's procfs.
    pub(crate) proc: &'a OwnedFd,
    /// Who hears of the filter's notifications.
    pub(crate) notify: Option<Notify<'a>>,
    /// Programs inside the container that come before its own, and what they are told.
    pub(crate) hooks: Option<(&'a [Hook], &'a State)>,
    /// Who hears of a failure.
    pub(crate) channel: &'a Channel,
}

/// The listener of a filter, and what it is told.
pub(crate) struct Notify<'a> {
    pub(crate) listener: &'a Listener,
    pub(crate) state: &'a State,
    pub(crate) pid: i32,
}

/// Who the process will be: `user` and the groups `more` looked up inside the root, or the numbers of the configuration.
pub(crate) fn resolve(
    process: &ProcessPlan,
    (user, more): (&str, &[String]),
    root: &OwnedFd,
    proc: &OwnedFd,
) -> Step<Account> {
    users::resolve(user, more, &process.user, |path| {
        let place = resolve::open(root, path, OFlags::PATH, false)?;
        // To open a device or a FIFO may do something: neither is a list of users.
        match FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) {
            FileType::RegularFile => procfs::reopen(proc, &place, OFlags::RDONLY).map(Some),
            _ => Ok(None),
        }
    })
    .map_err(|error| match error {
        users::Error::Unknown(name) => Stop::new(
            "user",
            format!("unable to find {name}: no matching entries in passwd or group file"),
            &errno(libc::ENOENT),
        ),
        users::Error::Io(path, error) => Stop::new("user", path, &error),
    })
}

/// Does the last steps and executes the program; returns only with what stopped it while it had all its descriptors.
pub(crate) fn finish(finish: &Finish<'_>, root: &OwnedFd) -> Step<Infallible> {
    let Finish { process, preserve_fds, proc, notify, channel, .. } = finish;
    enter_working_folder(root, &process.cwd)?;
    set_limits(process)?;
    schedule(process)?;
    procfs::write_labels(process, proc)?;
    let own = std::iter::once(channel.as_fd()).chain(notify.iter().map(|notify| notify.listener.as_fd()));
    close_others(*preserve_fds, &Stdio::Inherit, &own.collect::<Vec<_>>())?;
    let Err(stop) = become_program(finish);
    // The maker is gone when this fails: there is nobody to tell.
    let _ = channel.report(&FromInit::Failed(stop.0), None);
    // No destructor may run: their descriptors are closed.
    atoll_sys::process::exit_now(FAILED)
}

/// Drops the rights and executes the program. All that an image names is looked up with nothing of ours in reach.
fn become_program(finish: &Finish<'_>) -> Step<Infallible> {
    let Finish { process, identity, notify, hooks, .. } = finish;
    let mask = process.user.umask.unwrap_or(DEFAULT_UMASK);
    rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
    let filter = |when: bool| match &process.seccomp {
        Some(program) if when => install(program, notify.as_ref()).at("system call filter", ""),
        _ => Ok(()),
    };
    filter(!process.no_new_privileges)?;
    become_user(process, identity)?;
    let environment = environment(process, identity)?;
    let candidates = candidates(process, &environment);
    atoll_sys::process::reset_signals().at("signals", "")?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at("no_new_privs", "")?;
    }
    if let Some((hooks, state)) = hooks {
        run_hooks(Stage::StartContainer, hooks, state, Path::new("/"))?;
    }
    rustix::process::set_parent_process_death_signal(None).at("parent death signal", "")?;
    filter(process.no_new_privileges)?;
    Err(execute(process, &environment, &candidates))
}

fn install(program: &Program, notify: Option<&Notify<'_>>) -> io::Result<()> {
    match notify {
        Some(Notify { listener, state, pid }) if program.notifies() => {
            listener.hand_over(&program.install_with_listener()?, *pid, state)
        }
        _ => program.install(),
    }
}

fn schedule(process: &ProcessPlan) -> Step<()> {
    let plan = &process.schedule;
    if let Some((class, priority)) = plan.io_priority {
        atoll_sys::schedule::set_io_priority(class, priority).at("I/O priority", "")?;
    }
    if !plan.final_processors.is_empty() {
        atoll_sys::schedule::set_affinity(&plan.final_processors).at("CPU affinity", "")?;
    }
    if let Some(policy) = plan.policy {
        atoll_sys::schedule::set_policy(policy).at("scheduler", "")?;
    }
    if let Some((mode, nodes)) = &plan.memory {
        atoll_sys::schedule::set_memory_policy(*mode, nodes).at("memory policy", "")?;
    }
    if let Some(domain) = plan.personality {
        atoll_sys::schedule::set_personality(domain).at("personality", "")?;
    }
    Ok(())
}

/// Becomes root of the user namespace that the process is in, so that what it makes has an owner there.
pub(crate) fn become_root() -> Step<()> {
    let step = "user namespace";
    set_groups(&[]).at(step, "groups")?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(step, "group 0")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(step, "user 0")
}

/// Sets the supplementary groups. Where a user namespace has given setgroups(2) up, no groups can only be as they are.
fn set_groups(groups: &[Gid]) -> rustix::io::Result<()> {
    match rustix::thread::set_thread_groups(groups) {
        Err(rustix::io::Errno::PERM) if groups.is_empty() => Ok(()),
        other => other,
    }
}

/// The working folder is found inside the root without magic links, and must be there: a descriptor of the host that
/// leaked into the container cannot be entered (CVE-2024-21626).
fn enter_working_folder(root: &OwnedFd, path: &CStr) -> Step<()> {
    let folder = working_folder(root, path)?;
    rustix::process::fchdir(&folder).map_err(|error| no_working_folder(path, &error.into()))?;
    let inside = rustix::process::getcwd(Vec::new()).map_err(|error| no_working_folder(path, &error.into()))?;
    // The kernel writes "(unreachable)/…" for what is outside the root.
    if inside.to_bytes().first() == Some(&b'/') { Ok(()) } else { Err(no_working_folder(path, &errno(libc::ENOENT))) }
}

fn working_folder(root: &OwnedFd, path: &CStr) -> Step<OwnedFd> {
    resolve::open(root, &path.to_string_lossy(), OFlags::PATH | OFlags::DIRECTORY, false)
        .map_err(|error| no_working_folder(path, &error))
}

fn no_working_folder(path: &CStr, error: &io::Error) -> Stop {
    Stop::new("working folder", path.to_string_lossy(), error).of_kind(FailureKind::NotExecutable)
}

fn set_limits(process: &ProcessPlan) -> Step<()> {
    for (resource, soft, hard) in &process.rlimits {
        let limit = Rlimit { current: *soft, maximum: *hard };
        rustix::process::setrlimit(*resource, limit).at("resource limit", &format!("{resource:?}"))?;
    }
    Ok(())
}

/// User, groups and the five capability sets. Capabilities that this process does not have itself (the host's own
/// bounding set may be short of some) cannot be given and are left out, as by the specification's peers.
fn become_user(process: &ProcessPlan, identity: &Account) -> Step<()> {
    let step = "user";
    let caps = process.capabilities;
    let own = rustix::thread::capabilities(None).at(step, "own capabilities")?.permitted.bits();
    drop_bounding(caps.bounding)?;
    rustix::thread::set_keep_capabilities(true).at(step, "keep capabilities")?;
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_groups(&groups).at(step, "supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(step, &format!("group {}", identity.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(step, &format!("user {}", identity.uid))?;
    rustix::thread::set_keep_capabilities(false).at(step, "keep capabilities")?;
    rustix::thread::clear_ambient_capability_set().at("capabilities", "ambient")?;
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits & own);
    let permitted = caps.permitted & own;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(caps.effective & permitted),
        permitted: set(caps.permitted),
        inheritable: set(caps.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).at("capabilities", "effective, permitted, inheritable")?;
    for number in numbers(caps.ambient & permitted & caps.inheritable) {
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .at("capabilities", "ambient")?;
    }
    Ok(())
}

fn numbers(bits: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |number| bits >> number & 1 == 1)
}

fn drop_bounding(keep: u64) -> Step<()> {
    for number in numbers(!keep) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel has.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).at("capabilities", "bounding"),
        }
    }
    Ok(())
}

/// The environment, with `HOME` of the account where it has none.
fn environment(process: &ProcessPlan, identity: &Account) -> Step<Vec<CString>> {
    let mut environment = process.env.clone();
    if !environment.iter().any(|variable| variable.to_bytes().starts_with(b"HOME=")) {
        let home =
            CString::new(format!("HOME={}", identity.home)).map_err(|_| errno(libc::EINVAL)).at("user", "HOME")?;
        environment.push(home);
    }
    Ok(environment)
}

/// Where the program may be: its path when it has a slash, else its name in each folder of `PATH`.
fn candidates(process: &ProcessPlan, environment: &[CString]) -> Vec<CString> {
    let Some(program) = process.args.first() else { return Vec::new() };
    if program.to_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let path = environment.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|byte| *byte == b':');
    let join = |folder: &[u8]| {
        let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
        CString::new([folder, b"/", program.to_bytes()].concat()).ok()
    };
    folders.filter_map(join).collect()
}

/// Tries the candidates in order; of several errors the first that is not "not found" counts (execvp(3)).
fn execute(process: &ProcessPlan, environment: &[CString], candidates: &[CString]) -> Stop {
    let program = process.args.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let mut denied = None;
    for candidate in candidates {
        // A folder answers EACCES like a file without permission; it is no program to anybody.
        if let Ok(stat) = rustix::fs::statat(CWD, candidate.as_c_str(), AtFlags::empty())
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && candidates.len() > 1
        {
            continue;
        }
        let error = atoll_sys::process::execve(candidate, &process.args, environment);
        let number = error.raw_os_error();
        let interpreter_missing = number == Some(libc::ENOENT) && is_there(candidate);
        if interpreter_missing || !matches!(number, Some(libc::ENOENT | libc::ENOTDIR)) {
            denied.get_or_insert(error);
        }
    }
    match denied {
        Some(error) => Stop::new("exec", program, &error).of_kind(FailureKind::NotExecutable),
        None => not_found(process, candidates),
    }
}

fn not_found(process: &ProcessPlan, candidates: &[CString]) -> Stop {
    let program = process.args.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let searched = candidates.first().is_none_or(|first| first != process.args.first().unwrap_or(first));
    let reason = if searched { "executable file not found in $PATH" } else { "no such file or directory" };
    Stop::new(reason, program, &errno(libc::ENOENT)).of_kind(FailureKind::NotFound)
}

/// Looks for the program before the container is started: who creates it hears at once what cannot work. What only its user
/// may not do shows at the start.
pub(crate) fn find_program(process: &ProcessPlan, identity: &Account, root: &OwnedFd) -> Step<()> {
    let candidates = candidates(process, &environment(process, identity)?);
    let folder = working_folder(root, &process.cwd)?;
    let mut found = false;
    for candidate in &candidates {
        let Ok(stat) = rustix::fs::statat(&folder, candidate.as_c_str(), AtFlags::empty()) else { continue };
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if file && stat.st_mode & 0o111 != 0 {
            return Ok(());
        }
        // Of a name that is searched for, a folder is no program to anybody.
        found |= file || candidates.len() == 1;
    }
    if found {
        let program = process.args.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(Stop::new("exec", program, &errno(libc::EACCES)).of_kind(FailureKind::NotExecutable));
    }
    Err(not_found(process, &candidates))
}

fn is_there(path: &CStr) -> bool {
    std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())).exists()
}
