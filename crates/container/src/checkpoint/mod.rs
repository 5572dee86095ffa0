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

mod restore;
mod rpc;
mod verify;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use atoll_oci::runtime::{NamespaceType, Spec};
use atoll_sys::{pidfd, userns};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use self::rpc::{Message, Request, Session};
use crate::error::{CreateError, PlanError};
use crate::plan::{MountKind, Plan};

pub use restore::{Restoration, Restored, restore};

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
    /// What creating has too failed: control groups, hooks.
    #[error(transparent)]
    Create(#[from] CreateError),
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

/// What is not frozen or brought back yet, by name, nor by whom.
fn judge(images: &Images, spec: &Spec, bundle: &Path) -> Result<Plan, Error> {
    let plan = Plan::new(spec, bundle)?;
    if !userns::is_privileged().map_err(system("look at the own privileges"))? {
        return Err(Error::Criu("it needs the rights of the host's root".into()));
    }
    let what = if plan.process.terminal {
        "of a terminal"
    } else if plan.namespaces.has_user_namespace() {
        "of a user namespace"
    } else if plan.namespaces.joins.iter().any(|join| join.typ != NamespaceType::Network) {
        "of a namespace of others"
    } else if plan.mounts.iter().any(|mount| mount.idmap.is_some()) {
        "of id-mapped mounts"
    } else if plan.namespaces.cgroup && images.cgroups == CgroupsMode::Ignore {
        "of a cgroup namespace with --manage-cgroups-mode ignore"
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
    let plan = judge(images, spec, bundle)?;
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
