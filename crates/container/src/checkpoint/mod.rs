//! `checkpoint` and `restore`: criu freezes a container into files and brings it back (criu(8)); it is driven by its remote
//! procedure calls.
//!
//! What a container is stands in its `config.json` alone. The images are hostile when they come back: they may be another
//! container's, or made by hand. Bind mounts and masks are external to them, so that criu takes their sources from us, and
//! before anything that was restored runs on, [`verify`](self::verify) holds it against the configuration (the class of
//! CVE-2026-119101): mounts, namespaces, capabilities, filter, control groups. The images are opened as a folder that no
//! link leads to. criu itself, which parses them as root, has to be trusted.
//!
//! Left out: terminals, user namespaces, namespaces of others but the network's; memory in advance (`--pre-dump`,
//! `--parent-path`), page servers and lazy pages.

mod rpc;
mod verify;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use atoll_oci::runtime::{NamespaceType, Spec};
use atoll_sys::cgroup::{Cgroup, Layout};
use atoll_sys::mount::attach;
use atoll_sys::pidfd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use self::rpc::{Message, Request, Session};
use crate::error::PlanError;
use crate::init::{mask, root};
use crate::plan::{MountKind, Plan};

/// Names of the standard streams in the images; criu's own files end in `.img`.
const STREAMS: &str = "descriptors.json";
/// Most bytes of it.
const STREAMS_MAX: u64 = 4096;
/// How a joined network namespace is called in the images.
const NETWORK: &str = "extRootNetNS";
/// How much criu writes to its log: everything, since nothing else explains its failures.
const LOG_LEVEL: u64 = 4;

/// Why there is no checkpoint, or why it did not come back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be frozen or brought back.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no criu, or it cannot work on this host.
    #[error("criu cannot work here: {0}")]
    Criu(String),
    /// criu failed.
    #[error("criu failed: {why} (see {})", log.display())]
    Failed {
        /// The last error that it told.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// What came back is not what the configuration says; it has been killed.
    #[error("the images contradict the configuration: {0}")]
    Verify(#[from] verify::Contradiction),
    /// The control groups could not be made.
    #[error("cannot set up the control groups")]
    Cgroup(#[from] atoll_sys::cgroup::Error),
    /// The caller's own part failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::System { what, source }
}

/// Whether criu restores the groups' own settings (criu's `--manage-cgroups`), by the numbers of rpc.proto.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupsMode {
    /// Groups are left alone.
    Ignore = 0,
    /// Settings of groups that are made.
    #[default]
    Soft = 3,
    /// Settings of all.
    Full = 4,
    /// Groups must not be there.
    Strict = 5,
}

/// What both ways need.
#[derive(Debug, Clone)]
pub struct Images {
    /// criu's program.
    pub criu: PathBuf,
    /// Folder of the images.
    pub folder: PathBuf,
    /// Folder of logs; the images' by default.
    pub work: Option<PathBuf>,
    /// How control groups come back.
    pub cgroups: CgroupsMode,
    /// Whether the network namespace comes back empty.
    pub empty_network: bool,
    /// What else is frozen or brought back.
    pub extras: Extras,
}

/// What criu refuses unless it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// Connections by TCP.
    pub tcp: bool,
    /// Unix sockets whose other end is outside.
    pub unix: bool,
    /// A session or terminal of the host's.
    pub shell_job: bool,
    /// Locks on files.
    pub file_locks: bool,
    /// Whether images that are not needed any more shrink.
    pub auto_dedup: bool,
}

/// The folders, open.
struct Opened {
    images: OwnedFd,
    work: OwnedFd,
    log: PathBuf,
    log_name: &'static str,
}

impl Images {
    fn open(&self, log_name: &'static str) -> Result<Opened, Error> {
        let folder = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
            opened.map_err(|error| {
                system(format!("open the folder {} (no link may lead to it)", path.display()))(error.into())
            })
        };
        let work = self.work.as_deref().unwrap_or(&self.folder);
        Ok(Opened { images: folder(&self.folder)?, work: folder(work)?, log: work.join(log_name), log_name })
    }

    /// `criu_opts`, as far as both ways share them.
    fn options(&self, opened: &Opened) -> Message {
        let mut options = Message::default();
        let fd = |fd: &OwnedFd| u64::try_from(fd.as_raw_fd()).unwrap_or_default();
        let extras = self.extras;
        options.number(1, fd(&opened.images)).number(17, fd(&opened.work));
        options.number(9, LOG_LEVEL).bytes(10, opened.log_name.as_bytes());
        options.flag(4, extras.unix).flag(5, extras.tcp).flag(7, extras.shell_job).flag(8, extras.file_locks);
        options.flag(12, true).flag(16, extras.auto_dedup).flag(24, true).number(34, self.cgroups as u64);
        if self.empty_network {
            options.number(38, u64::from(libc::CLONE_NEWNET.cast_unsigned()));
        }
        options
    }

    /// A failure in words: what criu's log ends with, or why it works for nobody here.
    fn explain(&self, opened: &Opened, error: String) -> Error {
        let log = fs::read(&opened.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let said = log.lines().rev().find_map(|line| line.split_once("Error (").map(|(_, said)| format!("({said}")));
        match Command::new(&self.criu).arg("check").output() {
            Err(error) => Error::Criu(missing(&self.criu, &error)),
            Ok(check) if !check.status.success() => {
                let text = String::from_utf8_lossy(&check.stderr).into_owned();
                Error::Criu(format!("criu check: {}", text.lines().last().unwrap_or("failed").trim()))
            }
            Ok(_) => Error::Failed { why: said.unwrap_or(error), log: opened.log.clone() },
        }
    }
}

/// What is not frozen or brought back yet, by name.
fn judge(spec: &Spec, bundle: &Path) -> Result<Plan, Error> {
    let plan = Plan::new(spec, bundle)?;
    let what = if plan.process.terminal {
        "of a terminal"
    } else if plan.namespaces.has_user_namespace() {
        "of a user namespace"
    } else if plan.namespaces.joins.iter().any(|join| join.typ != NamespaceType::Network) {
        "of a namespace of others"
    } else if plan.mounts.iter().any(|mount| mount.idmap.is_some()) {
        "of id-mapped mounts"
    } else {
        return Ok(plan);
    };
    Err(PlanError::unsupported(format!("a checkpoint {what}")).into())
}

/// First criu that brings a process's `no_new_privs` back.
const KEEPS_NO_NEW_PRIVS: (u32, u32) = (3, 19);

/// What this criu would lose, the restored container must not gain: better told before the container is frozen.
fn keeps_privileges(images: &Images, plan: &Plan) -> Result<(), Error> {
    let output = Command::new(&images.criu).arg("--version").output();
    let output = output.map_err(|error| Error::Criu(missing(&images.criu, &error)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("Version:")).unwrap_or_default().trim();
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if plan.process.no_new_privileges && known < KEEPS_NO_NEW_PRIVS {
        let what = format!("criu {version} does not bring noNewPrivileges back: 3.19 and later do");
        return Err(Error::Criu(what));
    }
    Ok(())
}

fn missing(criu: &Path, error: &io::Error) -> String {
    format!("{}: {error}: install it, or name it with --criu", criu.display())
}

/// Freezes the container whose first process is `process` into images; unless it is `left_running`, its processes have
/// ended then.
///
/// # Errors
/// [`Error`]; the container runs on.
pub fn dump(
    images: &Images,
    spec: &Spec,
    process: BorrowedFd<'_>,
    bundle: &Path,
    left_running: bool,
) -> Result<(), Error> {
    let plan = judge(spec, bundle)?;
    keeps_privileges(images, &plan)?;
    let pid = pidfd::number(process).map_err(system("look at the container's process"))?;
    let opened = images.open("dump.log")?;
    let mut options = images.options(&opened);
    options.number(2, u64::try_from(pid).unwrap_or_default()).flag(3, left_running);
    for path in externals(&plan, pid)? {
        let mut external = Message::default();
        external.bytes(1, path.as_bytes()).bytes(2, path.as_bytes());
        options.message(23, &external);
    }
    if plan.namespaces.joins(NamespaceType::Network) {
        let inode = fs::metadata(format!("/proc/{pid}/ns/net")).map_err(system("look at the network namespace"))?.ino();
        options.bytes(37, format!("net[{inode}]:{NETWORK}").as_bytes());
    }
    let streams = streams(pid).map_err(system("look at the standard streams"))?;
    for key in streams.iter().filter(|key| key.starts_with("file[")) {
        options.bytes(37, key.as_bytes());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&opened.images, STREAMS, flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(file.map_err(|error| system("write into the images' folder")(error.into()))?);
    let json = serde_json::to_vec(&streams).map_err(|error| system("write the streams")(error.into()))?;
    file.write_all(&json).map_err(system("write into the images' folder"))?;
    let done = Session::start(&images.criu, || Ok(()))
        .map_err(|error| error.to_string())
        .and_then(|session| session.carry_out(Request::Dump, &options, |_, _| Ok(())));
    done.map(|_| ()).map_err(|error| images.explain(&opened, error))
}

/// The places of a container's mounts whose content is not criu's: of bind mounts, control groups, masks and the console.
/// Mounts that the configuration does not name are refused: they could not be told from another's later.
fn externals(plan: &Plan, pid: i32) -> Result<Vec<String>, Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(system("read the container's mounts"))?;
    let mounts = verify::mounts(&text);
    let masks: Vec<Source> = plan.masked.iter().map(|path| Source::mask(path, PathBuf::new())).collect();
    if let Err(verify::Contradiction::Mount(place, what)) = verify::check_mounts(plan, &masks, &mounts) {
        return Err(PlanError::unsupported(format!("a checkpoint with a mount at {place} that {what}")).into());
    }
    let outside = |mount: &&verify::Mounted| {
        let place = &mount.place;
        let bound = plan
            .mounts
            .iter()
            .any(|planned| matches!(planned.kind, MountKind::Bind { .. }) && planned.normal_destination() == *place);
        bound || mount.is_cgroup() || plan.masked.contains(place)
    };
    Ok(mounts.iter().filter(outside).map(|mount| mount.place.clone()).collect())
}

/// How criu calls the standard streams of a process: pipes by themselves, files that are not of its mount namespace as
/// external ones, others not at all.
fn streams(pid: i32) -> io::Result<Vec<String>> {
    let own = verify::mounts(&fs::read_to_string(format!("/proc/{pid}/mountinfo"))?);
    let one = |number: i32| {
        let path = format!("/proc/{pid}/fd/{number}");
        let target = match fs::read_link(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            other => other?.to_string_lossy().into_owned(),
        };
        if target.starts_with("pipe:") {
            return Ok(target);
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
        let id =
            info.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse::<u64>().ok());
        let inode = fs::metadata(&path)?.ino();
        Ok(match id {
            Some(id) if !own.iter().any(|mount| mount.id == id) => format!("file[{id:x}:{inode:x}]"),
            _ => String::new(),
        })
    };
    (0..3).map(one).collect()
}

/// A place in the container that shows something of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    place: String,
    path: PathBuf,
    /// Whether it hides what is there.
    mask: bool,
}

impl Source {
    fn mask(place: &str, path: PathBuf) -> Self {
        Self { place: place.to_owned(), path, mask: true }
    }

    fn bound(place: String, path: &Path) -> Self {
        Self { place, path: path.to_owned(), mask: false }
    }
}

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

/// Brings a container back from its images. `begun` is called with the first process's number when there are its
/// namespaces, before anything runs in them. The caller has one thread; criu works in a mount namespace of its own.
///
/// # Errors
/// [`Error`]; nothing of it is left.
pub fn restore(
    images: &Images,
    what: &Restoration<'_>,
    begun: impl FnMut(i32) -> Result<(), String>,
) -> Result<Restored, Error> {
    let plan = judge(what.spec, what.bundle)?;
    let layout = Layout::read().map_err(system("read the host's control groups"))?;
    let path = what.spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
    let cgroup = Cgroup::at(&layout, path, what.id)?;
    if cgroup.is_occupied() {
        return Err(PlanError::invalid(format!("the control group {path:?} has processes already")).into());
    }
    let made = || -> Result<Restored, Error> {
        cgroup.create_v2(&layout)?;
        cgroup.create_v1(&layout)?;
        cgroup.limit(&plan.limits)?;
        restore_in(images, what, &plan, &cgroup, begun)
    };
    let made = made();
    if made.is_err() {
        // What was made goes again; the error that stopped us is what the caller needs.
        let _ = cgroup.kill();
        let _ = cgroup.remove();
    }
    made
}

fn restore_in(
    images: &Images,
    what: &Restoration<'_>,
    plan: &Plan,
    cgroup: &Cgroup,
    mut begun: impl FnMut(i32) -> Result<(), String>,
) -> Result<Restored, Error> {
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
    let group = cgroup.clone();
    let session = Session::start(&images.criu, move || group.enter(false).map_err(io::Error::other));
    let session = session.map_err(|error| images.explain(&opened, error.to_string()))?;
    add_groups(session.pid(), &mut options).map_err(system("look at criu's control groups"))?;
    let (mut contradiction, mut first) = (None, 0);
    let outcome = session.carry_out(Request::Restore, &options, |script, pid| {
        first = if pid > 0 { pid } else { first };
        match script {
            "setup-namespaces" => begun(first),
            // All is restored, credentials and filters too, and every process still stopped.
            "pre-resume" => verify::check(plan, what.rootfs, &stage.sources, cgroup, first).map_err(|found| {
                kill(first, cgroup);
                let text = found.to_string();
                contradiction = Some(found);
                text
            }),
            _ => Ok(()),
        }
    });
    drop(inherited);
    match (contradiction, outcome) {
        (Some(found), _) => {
            // The caller is its parent; it has been killed.
            let _ = pidfd::open(first).and_then(pidfd::wait);
            Err(found.into())
        }
        (None, Err(error)) => Err(images.explain(&opened, error)),
        (None, Ok(pid)) => {
            let pidfd = pidfd::open(pid).map_err(system("open the restored process"))?;
            Ok(Restored { pid, pidfd, cgroup: cgroup.clone() })
        }
    }
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
