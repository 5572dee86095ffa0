//! `restore`: what comes back, where criu brings it back, and what it may take of the host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use atoll_oci::runtime::{NamespaceType, Spec, State};
use atoll_sys::cgroup::Cgroup;
use atoll_sys::mount::attach;
use atoll_sys::pidfd;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::rpc::{Message, Request, Session};
use super::{CgroupsMode, Error, Images, NETWORK, Opened, STREAMS, STREAMS_MAX, Source, judge, system, verify};
use crate::error::{CreateError, PlanError};
use crate::groups::{GroupPolicy, Groups};
use crate::hooks;
use crate::init::{mask, root};
use crate::plan::{MountKind, Plan};

/// What is to come back.
#[derive(Debug, Clone, Copy)]
pub struct Restoration<'a> {
    /// The container's name.
    pub id: &'a str,
    /// Its configuration.
    pub spec: &'a Spec,
    /// The folder that relative paths of the configuration start from.
    pub bundle: &'a Path,
    /// Its root.
    pub rootfs: &'a Path,
    /// A folder of the caller's that criu does not need: the masks stand there meanwhile, seen by nobody else.
    pub scratch: &'a Path,
    /// How it gets its control groups.
    pub groups: GroupPolicy,
}

/// What came back.
#[derive(Debug)]
pub struct Restored {
    /// The first process, a child of the caller.
    pub pid: i32,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// Its control groups.
    pub cgroup: Cgroup,
}

/// Brings a container back from its images. The runtime's hooks run when there are its namespaces, before anything runs in
/// them. The caller has one thread; criu works in a mount namespace of its own.
///
/// # Errors
/// [`Error`]; nothing of it is left.
pub fn restore(images: &Images, what: &Restoration<'_>) -> Result<Restored, Error> {
    let mut plan = judge(images, what.spec, what.bundle)?;
    check_mode(images.cgroups)?;
    let groups = Groups::choose(what.groups, what.id, what.spec, &mut plan)?;
    if groups.cgroup.is_none() {
        // Nothing else tells the container's processes from others that the images may put beside them.
        return Err(PlanError::unsupported("a restore without control groups").into());
    }
    let made = groups.make(&plan.limits).map_err(Error::from).and_then(|_| restore_in(images, what, &plan, &groups));
    if made.is_err() {
        groups.undo();
    }
    made
}

/// The groups are made before criu starts, with the configuration's limits, which the images may not change.
fn check_mode(mode: CgroupsMode) -> Result<(), PlanError> {
    let refuse = |mode| Err(PlanError::unsupported(format!("a restore with --manage-cgroups-mode {mode}")));
    match mode {
        CgroupsMode::Ignore | CgroupsMode::Soft => Ok(()),
        CgroupsMode::Full => refuse("full"),
        CgroupsMode::Strict => refuse("strict"),
    }
}

fn restore_in(images: &Images, what: &Restoration<'_>, plan: &Plan, groups: &Groups) -> Result<Restored, Error> {
    let cgroup = &groups.cgroup;
    let stage = Stage::enter(plan, cgroup, what)?;
    // In the new namespace, since criu mounts below its working folder.
    let opened = images.open("restore.log")?;
    let mut options = images.options(&opened);
    options.bytes(13, what.rootfs.as_os_str().as_encoded_bytes()).flag(26, true);
    for source in &stage.sources {
        let mut external = Message::default();
        external.bytes(1, source.place.as_bytes()).bytes(2, source.path.as_os_str().as_encoded_bytes());
        options.message(23, &external);
    }
    let inherited = inherit(plan, &opened, &mut options)?;
    let session = begin(images, what.id, plan, groups, &opened)?;
    add_groups(session.pid(), &mut options).map_err(system("look at criu's control groups"))?;
    let state = hooks::creating(what.id, what.spec, what.bundle);
    let (mut stopped, mut first) = (None, 0);
    let outcome = session.carry_out(Request::Restore, &options, |script, pid| {
        first = if pid > 0 { pid } else { first };
        let step = match script {
            "setup-namespaces" => {
                let state = State { pid: first, ..state.clone() };
                hooks::run_creating(&plan.hooks, &state).map_err(|error| CreateError::from(error).into())
            }
            // All is restored, credentials and filters too, and every process still stopped.
            "pre-resume" => verify::check(plan, what.rootfs, &stage.sources, cgroup, first).map_err(Error::from),
            _ => Ok(()),
        };
        step.map_err(|error| {
            kill(first, cgroup);
            let text = error.to_string();
            stopped = Some(error);
            text
        })
    });
    drop(inherited);
    match (stopped, outcome) {
        (Some(error), _) => {
            // The caller is its parent; it has been killed.
            let _ = pidfd::open(first).and_then(pidfd::wait);
            Err(error)
        }
        (None, Err(error)) => Err(images.explain(&opened, error)),
        (None, Ok(pid)) => {
            let pidfd = pidfd::open(pid).map_err(system("open the restored process"))?;
            Ok(Restored { pid, pidfd, cgroup: cgroup.clone() })
        }
    }
}

/// Starts criu in the container's groups, where what it restores is born; the one of systemd's is made around it.
fn begin(images: &Images, id: &str, plan: &Plan, groups: &Groups, opened: &Opened) -> Result<Session, Error> {
    let own = (!groups.cgroup.is_in_systemd()).then(|| groups.cgroup.clone());
    let enter = move || own.as_ref().map_or(Ok(()), |group| group.enter(false).map_err(io::Error::other));
    let session = Session::start(&images.criu, enter).map_err(|error| images.explain(opened, error.to_string()))?;
    if groups.cgroup.is_in_systemd() {
        // It waits for its request.
        groups.adopt(id, session.pid().cast_signed(), &plan.limits)?;
    }
    Ok(session)
}

/// Kills whatever was restored, wherever its processes are: none runs another instruction.
fn kill(first: i32, cgroup: &Cgroup) {
    for process in verify::family(first).unwrap_or_else(|_| vec![first]) {
        let _ = pidfd::open(process).and_then(|process| pidfd::kill(process, libc::SIGKILL));
    }
    let _ = cgroup.kill();
}

/// The streams of the caller stand in for those that were outside, and a joined network for the one of then. The descriptors
/// are open until criu has them.
fn inherit(plan: &Plan, opened: &Opened, options: &mut Message) -> Result<Vec<OwnedFd>, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&opened.images, STREAMS, flags, Mode::empty());
    let file = File::from(file.map_err(|error| system(format!("read {STREAMS} of the images"))(error.into()))?);
    let mut text = Vec::new();
    file.take(STREAMS_MAX).read_to_end(&mut text).map_err(system("read the images"))?;
    let keys: Vec<String> = serde_json::from_slice(&text).map_err(|error| system("read the images")(error.into()))?;
    let mut fds = Vec::new();
    let mut add = |key: &str, fd: OwnedFd| {
        let mut one = Message::default();
        one.bytes(1, key.as_bytes()).number(2, u64::try_from(fd.as_raw_fd()).unwrap_or_default());
        options.message(27, &one);
        fds.push(fd);
    };
    let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let known = |key: &&String| key.starts_with("pipe:[") || key.starts_with("file[");
    let mut seen: Vec<&String> = Vec::new();
    for (key, fd) in keys.iter().zip(own).filter(|(key, _)| known(key)) {
        if !seen.contains(&key) {
            seen.push(key);
            add(key, rustix::io::dup(fd).map_err(|error| system("copy a stream")(error.into()))?);
        }
    }
    for join in plan.namespaces.joins.iter().filter(|join| join.typ == NamespaceType::Network) {
        let file = File::open(&join.path).map_err(system(format!("open the network namespace {}", join.path)))?;
        let fd = OwnedFd::from(file);
        atoll_sys::fd::keep_on_exec(&fd).map_err(system("keep a descriptor"))?;
        add(NETWORK, fd);
    }
    Ok(fds)
}

/// The container's groups stand in for those of the images: criu is in them.
fn add_groups(pid: u32, options: &mut Message) -> io::Result<()> {
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup"))?.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            let mut root = Message::default();
            if !controllers.is_empty() {
                root.bytes(1, controllers.as_bytes());
            }
            root.bytes(2, path.as_bytes());
            options.message(25, &root);
        }
    }
    Ok(())
}

/// A mount namespace of criu's own: the root on a mount of its own, as criu wants it, and the masks. The caller is back in its
/// own namespace when this is dropped, and the other one ends with criu.
struct Stage {
    home: OwnedFd,
    sources: Vec<Source>,
}

impl Stage {
    fn enter(plan: &Plan, cgroup: &Cgroup, what: &Restoration<'_>) -> Result<Self, Error> {
        let home = File::open("/proc/self/ns/mnt").map_err(system("open the own mount namespace"))?;
        let sources = sources(plan, cgroup, what)?;
        // SAFETY: the process has one thread; no descriptor or memory is unshared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
            .map_err(|error| system("make a mount namespace for criu")(error.into()))?;
        let stage = Self { home: home.into(), sources };
        let step = |stop: crate::init::Stop| {
            system(format!("mount for criu: {} {}", stop.0.step, stop.0.detail))(io::Error::from_raw_os_error(
                stop.0.errno,
            ))
        };
        root::make_private().map_err(step)?;
        let bound = root::clone_tree(what.rootfs, false).map_err(system("clone the root"))?;
        for (tree, place) in [(mask::tree(true).map_err(step)?, what.scratch), (bound, what.rootfs)] {
            let place = open_folder(place)?;
            attach(tree.as_fd(), place.as_fd()).map_err(system("mount for criu"))?;
        }
        Ok(stage)
    }
}

/// What of the host is bound into the container. Each place must be there, without a link on its way, before criu mounts on
/// it by its path.
fn sources(plan: &Plan, cgroup: &Cgroup, what: &Restoration<'_>) -> Result<Vec<Source>, Error> {
    let root = open_folder(what.rootfs)?;
    let mut sources = Vec::new();
    for mount in &plan.mounts {
        let place = mount.normal_destination();
        // Below a file system that criu makes first the root has no such place.
        if !mount.is_fixed() {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            rustix::fs::openat2(&root, &place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(
                |error| system(format!("find the mount point {place} (no link may lead to it)"))(error.into()),
            )?;
        }
        match &mount.kind {
            MountKind::Bind { source, .. } => sources.push(Source::bound(place, source)),
            MountKind::Cgroup { unified } if *unified || cgroup.is_unified() => {
                sources.extend(cgroup.unified().map(|folder| Source::bound(place, folder)));
            }
            MountKind::Cgroup { .. } => {
                let unified = cgroup.unified().map(|folder| ("unified", folder));
                let of = |(name, folder): (&str, &Path)| {
                    Source::bound(format!("{place}/{}", name.strip_prefix("name=").unwrap_or(name)), folder)
                };
                sources.extend(cgroup.hierarchies().chain(unified).map(of));
            }
            MountKind::Filesystem { .. } => {}
        }
    }
    // Which of the two a masked path needs is what it is in a procfs or sysfs like the container's.
    sources.extend(plan.masked.iter().map(|path| {
        let folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        Source::mask(path, what.scratch.join(if folder { mask::EMPTY } else { mask::NULL }))
    }));
    Ok(sources)
}

impl Drop for Stage {
    fn drop(&mut self) {
        let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
        // Left in the other namespace it still sees the same files.
        let _ = rustix::thread::move_into_link_name_space(self.home.as_fd(), kind);
    }
}

fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| system(format!("open {}", path.display()))(error.into()))
}
