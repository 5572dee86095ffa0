//! Control groups, version 1, version 2 and both at once (cgroups(7)).
//!
//! [`Layout`] reads which hierarchies the host has from `/proc/self/mountinfo` and where the caller is in them from
//! `/proc/self/cgroup`; [`Cgroup`] is one group in all of them: made, limited, filled, frozen, killed and removed as one.
//! In version 1 the first write to a `cgroup.procs` after a pause waits for an RCU grace period (about 11 ms measured on
//! 6.18): processes enter their groups themselves, which needs none. Where systemd keeps the groups of a host, a group may be
//! a unit of its (module `systemd`): it is made around its first process then, and stopped before it is removed.

mod device;
mod layout;
mod limits;
mod stats;
mod support;
mod systemd;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(test)]
pub(crate) use device::device_rule;
pub use device::{DeviceAccess, DeviceAccessBits, DeviceKind};
pub use layout::Layout;
use limits::Write;
pub use limits::{CpuLimits, Device, IoLimits, Limits, MemoryLimits, Rate};
pub use stats::{BlockIo, CpuUsage, MemoryUsage, Stats};
pub use support::Support;
use systemd::Unit;
pub use systemd::{Error as SystemdError, Owner};

use crate::dbus::Value;

/// How long the removal of a group waits for its last processes to leave.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to remove a group.
const REMOVE_PAUSE: Duration = Duration::from_millis(1);
/// How long a group may take to freeze.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);
/// Rounds of signals that a group is given to die in.
const KILL_ROUNDS: u32 = 100;

/// Why something about a group failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no control groups mounted.
    #[error("no control groups are mounted: mount cgroup2 at /sys/fs/cgroup")]
    NotMounted,
    /// The path of the group has `..`, is too long, or is in systemd's notation.
    #[error("the cgroup path {path:?} cannot be used: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A limit needs a controller or a file that the host lacks.
    #[error("the host cannot limit {what}: there is no {file}")]
    Missing {
        /// What was to be limited.
        what: &'static str,
        /// The file of the controller.
        file: String,
    },
    /// This kind of limit is not done here.
    #[error("{what} is not supported on this host's control groups")]
    Unsupported {
        /// The limit.
        what: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// systemd, which keeps the group, did not do it.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The text is no group that [`Cgroup`] wrote.
    #[error("{0:?} describes no control group")]
    Parse(String),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// One group, in every hierarchy of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Version 1: controllers (comma-separated, or `name=…`) and folder.
    v1: Vec<(String, PathBuf)>,
    /// Version 2: folder.
    v2: Option<PathBuf>,
    /// The unit of systemd's whose group it is.
    unit: Option<Unit>,
}

/// What systemd is told of a group that it makes.
#[derive(Debug)]
pub struct Scope<'a> {
    /// Its first process.
    pub pid: i32,
    /// What it is, for people.
    pub description: &'a str,
    /// Its limits.
    pub limits: &'a Limits,
    /// Further properties of the unit.
    pub properties: Vec<(String, Value)>,
}

impl Cgroup {
    /// The group at `path` of the host's hierarchies, which may not exist yet: absolute paths start at each
    /// hierarchy's mount point, others (and the empty one's `default`) below the caller's own group, beside it where
    /// version 2 is alone.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::NotMounted`].
    pub fn at(layout: &Layout, path: &str, default: &str) -> Result<Self, Error> {
        let path = if path.is_empty() { default } else { path };
        let refuse = |reason| Err(Error::Path { path: path.to_owned(), reason });
        if path.contains(':') {
            return refuse("the notation slice:prefix:name is for groups that systemd keeps");
        }
        if path.split('/').any(|part| part == ".." || part == ".") {
            return refuse("it may not have . or .. in it");
        }
        if path.contains('\0') || path.len() > 2048 {
            return refuse("it is too long or has a null byte");
        }
        if path.trim_matches('/').is_empty() {
            return refuse("it is the root group");
        }
        let below = path.trim_start_matches('/');
        let folder = |hierarchy: &layout::Hierarchy| {
            if path.starts_with('/') { hierarchy.mount.join(below) } else { hierarchy.own.join(below) }
        };
        let group = Self {
            v1: layout.v1.iter().map(|hierarchy| (hierarchy.controllers.clone(), folder(hierarchy))).collect(),
            v2: layout.v2.as_ref().map(|hierarchy| {
                // A group with processes cannot hand controllers on (cgroups(7), "no internal processes"): beside it.
                let beside = hierarchy.own.parent().filter(|_| hierarchy.own != hierarchy.mount);
                match beside.filter(|_| layout.is_unified() && !path.starts_with('/')) {
                    Some(parent) => parent.join(below),
                    None => folder(hierarchy),
                }
            }),
            unit: None,
        };
        if group.v1.is_empty() && group.v2.is_none() { Err(Error::NotMounted) } else { Ok(group) }
    }

    /// The group of a scope unit of systemd's, which [`Self::adopt`] makes: `path` is `slice:prefix:name`, or empty for
    /// `atoll-id.scope` in the owner's default slice.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::Systemd`] when it is not running; [`Error::Unsupported`] for an ordinary user's where version 1
    /// is in use, whose groups are delegated to nobody.
    pub fn in_systemd(layout: &Layout, path: &str, id: &str, owner: Owner) -> Result<Self, Error> {
        let unit = Unit::parse(path, id, owner).map_err(|reason| Error::Path { path: path.to_owned(), reason })?;
        let above = systemd::manager_folder(owner)?;
        if owner == Owner::User && !layout.is_unified() {
            return Err(Error::Unsupported { what: "a group that an ordinary user's systemd keeps" });
        }
        let group = Self::at(layout, &format!("{above}{}", unit.folder()), "")?;
        Ok(Self { unit: Some(unit), ..group })
    }

    /// The group at `path` below this one, which is relative and has no `..` (the caller's to check): in version 1's hierarchies
    /// of `controllers`, or in all when there are none given.
    ///
    /// # Errors
    /// [`Error::Missing`] for a controller that has no such hierarchy.
    pub fn below(&self, controllers: &[String], path: &str) -> Result<Self, Error> {
        let holds = |names: &str, wanted: &String| names.split(',').any(|name| name == wanted);
        if let Some(other) = controllers.iter().find(|wanted| !self.v1.iter().any(|(names, _)| holds(names, wanted))) {
            let file = format!("hierarchy of controller {other:?} in version 1");
            return Err(Error::Missing { what: "one process of a container", file });
        }
        let join = |(names, folder): &(String, PathBuf)| {
            let chosen = controllers.is_empty() || controllers.iter().any(|wanted| holds(names, wanted));
            (names.clone(), if chosen { folder.join(path) } else { folder.clone() })
        };
        let v2 = |folder: &PathBuf| if controllers.is_empty() { folder.join(path) } else { folder.clone() };
        Ok(Self { v1: self.v1.iter().map(join).collect(), v2: self.v2.as_ref().map(v2), unit: None })
    }

    /// Whether systemd keeps it.
    #[must_use]
    pub fn is_in_systemd(&self) -> bool {
        self.unit.is_some()
    }

    /// No group at all, for who may make none: nothing of it is limited, counted or frozen.
    #[must_use]
    pub fn none() -> Self {
        Self { v1: Vec::new(), v2: None, unit: None }
    }

    /// Whether this is [`Self::none`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.v1.is_empty() && self.v2.is_none()
    }

    /// Makes the group's v2 folder and opens it, for `clone3` with `CLONE_INTO_CGROUP`; `None` without version 2.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_v2(&self, layout: &Layout) -> Result<Option<OwnedFd>, Error> {
        let (Some(folder), Some(hierarchy)) = (&self.v2, &layout.v2) else { return Ok(None) };
        make_below(&hierarchy.mount, folder, &mut |parent| limits::enable_controllers(parent))?;
        let file = fs::File::open(folder).map_err(failed("open", folder))?;
        Ok(Some(file.into()))
    }

    /// Makes the group's v1 folders; new `cpuset` folders start with their parent's processors and memory nodes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_v1(&self, layout: &Layout) -> Result<(), Error> {
        for ((controllers, folder), hierarchy) in self.v1.iter().zip(&layout.v1) {
            let cpuset = controllers.split(',').any(|name| name == "cpuset");
            make_below(&hierarchy.mount, folder, &mut |_| Ok(()))?;
            if cpuset {
                limits::inherit_cpuset(&hierarchy.mount, folder)?;
            }
        }
        Ok(())
    }

    /// Makes all of the group's folders, when the caller may; false when it may not.
    ///
    /// # Errors
    /// [`Error::Io`] for any other reason.
    pub fn try_create(&self, layout: &Layout) -> Result<bool, Error> {
        match self.create_v2(layout).and_then(|_| self.create_v1(layout)) {
            Ok(()) => Ok(true),
            Err(Error::Io { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) =>
            {
                // What was made goes again.
                let _ = self.remove();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Has systemd make the group, with its limits, around a process, and makes those folders and hands on those controllers
    /// that systemd does not know. The process is in what systemd made; [`Self::enter`] is for the rest.
    ///
    /// # Errors
    /// [`Error::Systemd`], and as [`Self::create_v1`] and [`Self::limit`].
    pub fn adopt(&self, layout: &Layout, scope: Scope<'_>) -> Result<(), Error> {
        let unit = self.unit.as_ref().ok_or(Error::Unsupported { what: "a process to be adopted" })?;
        let writes = self.plan(scope.limits)?;
        let properties = self.properties(&writes, scope.limits)?.into_iter().chain(scope.properties).collect();
        unit.start(scope.pid, scope.description, properties)?;
        self.create_v2(layout)?;
        self.create_v1(layout)?;
        self.write_limits(&writes, scope.limits)
    }

    /// Sets limits. Those that are absent stay as they are; without a group there are none.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unsupported`], [`Error::Io`] when the kernel refuses a value, [`Error::Systemd`].
    pub fn limit(&self, limits: &Limits) -> Result<(), Error> {
        if self.is_none() {
            return Ok(());
        }
        let writes = self.plan(limits)?;
        if limits.memory.check_use {
            self.check_use(limits.memory.limit)?;
        }
        if let Some(unit) = &self.unit {
            unit.set(self.properties(&writes, limits)?)?;
        }
        self.write_limits(&writes, limits)
    }

    fn plan(&self, limits: &Limits) -> Result<Vec<Write>, Error> {
        limits.plan(|controller| self.v1_folder(controller).is_some())
    }

    /// The properties of a unit with these limits.
    fn properties(&self, writes: &[Write], limits: &Limits) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = systemd::of_writes(writes, self.v1_folder("cpu"));
        if self.v1_folder("devices").is_some() {
            let unkept =
                Error::Unsupported { what: "a rule over some of many allowed devices, which systemd cannot keep," };
            properties.extend(systemd::of_devices(&limits.devices).ok_or(unkept)?);
        }
        Ok(properties)
    }

    fn write_limits(&self, writes: &[Write], limits: &Limits) -> Result<(), Error> {
        // One limit may stand in the way of another that is changed too: what the kernel finds invalid comes again.
        let mut again = Vec::new();
        for write in writes {
            match self.apply(write) {
                Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => again.push(write),
                other => other?,
            }
        }
        again.into_iter().try_for_each(|write| self.apply(write))?;
        if !limits.devices.is_empty() && self.v1_folder("devices").is_none() {
            let folder = self.v2.as_deref().ok_or(Error::Unsupported { what: "a device rule" })?;
            let group = fs::File::open(folder).map_err(failed("open", folder))?;
            let program = crate::bpf::assemble(&limits.devices);
            crate::bpf::attach(group.as_fd(), &program).map_err(failed("put a device filter on", folder))?;
        }
        Ok(())
    }

    fn check_use(&self, limit: Option<i64>) -> Result<(), Error> {
        let usage = self.stats().memory.usage;
        match limit.and_then(|limit| u64::try_from(limit).ok()) {
            Some(limit) if limit < usage => {
                let path = self.folder("memory").unwrap_or(Path::new("")).to_owned();
                let source = io::Error::from_raw_os_error(libc::EBUSY);
                Err(Error::Io { action: "limit memory below its present use in", path, source })
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, write: &Write) -> Result<(), Error> {
        let missing = |file: &str| Error::Missing { what: write.controller, file: file.to_owned() };
        let folder = if write.controller == "unified" { self.v2.as_deref() } else { self.folder(write.controller) };
        let folder = folder.ok_or_else(|| missing(&format!("controller {}", write.controller)))?;
        let other = write.or.iter().map(|(file, value)| (*file, value));
        for (file, value) in std::iter::once((write.file.as_str(), &write.value)).chain(other) {
            let path = folder.join(file);
            match fs::OpenOptions::new().write(true).open(&path) {
                Ok(mut opened) => {
                    return io::Write::write_all(&mut opened, value.as_bytes()).map_err(failed("write to", &path));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed("open", &path)(source)),
            }
        }
        if write.optional { Ok(()) } else { Err(missing(&write.file)) }
    }

    /// Puts the calling process, which has one thread, into the group, in every hierarchy but version 2 when `born_in_v2`.
    /// In version 1 it moves its thread: a process that moves itself so needs no lock over all groups, and with it no RCU
    /// grace period.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn enter(&self, born_in_v2: bool) -> Result<(), Error> {
        for (_, folder) in &self.v1 {
            write_file(&folder.join("tasks"), "0")?;
        }
        let Some(folder) = self.v2.as_ref().filter(|_| !born_in_v2) else { return Ok(()) };
        match (write_file(&folder.join("cgroup.procs"), "0"), &self.unit) {
            // An ordinary user may move no process from outside the own session: systemd does.
            (Err(Error::Io { source, .. }), Some(unit)) if source.kind() == io::ErrorKind::PermissionDenied => {
                Ok(unit.attach(std::process::id())?)
            }
            (entered, _) => entered,
        }
    }

    /// Whether version 2 alone is in use.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    /// The group's folder for a controller (`memory`, `cpu`…): version 1's where that has it, else version 2's.
    #[must_use]
    pub fn folder(&self, controller: &str) -> Option<&Path> {
        self.v1_folder(controller).or(self.v2.as_deref())
    }

    /// The v1 hierarchies: their controllers and the group's folder in each.
    pub fn hierarchies(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1.iter().map(|(names, folder)| (names.as_str(), folder.as_path()))
    }

    /// The group's folder in version 2.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    fn any_folder(&self) -> Option<&Path> {
        self.v2
            .as_deref()
            .or_else(|| self.folder("freezer"))
            .or_else(|| self.v1.first().map(|(_, path)| path.as_path()))
    }

    /// The processes in the group and the groups below it.
    ///
    /// # Errors
    /// [`Error::Io`]; a group that is gone has none.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        let Some(top) = self.any_folder() else { return Ok(pids) };
        for folder in tree(top) {
            let file = folder.join("cgroup.procs");
            match fs::read_to_string(&file) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(error) if is_gone(&error) => {}
                Err(source) => return Err(failed("read", &file)(source)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether any process is in the group itself, in any hierarchy.
    #[must_use]
    pub fn is_occupied(&self) -> bool {
        let mut folders = self.v1.iter().map(|(_, folder)| folder).chain(&self.v2);
        folders.any(|folder| fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()))
    }

    /// Stops all processes of the group, or lets them go on. With version 1's freezer it waits until they have stopped.
    ///
    /// # Errors
    /// [`Error::Missing`] without a freezer, [`Error::Io`].
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        if let Some(folder) = self.v1_folder("freezer") {
            return freeze_v1(folder, frozen);
        }
        let folder = self.v2.as_deref().ok_or(Error::Missing { what: "freezing", file: "freezer.state".into() })?;
        write_file(&folder.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        while self.is_frozen() != frozen && folder.exists() {
            if Instant::now() > deadline {
                // Half-frozen is worse than not frozen.
                write_file(&folder.join("cgroup.freeze"), "0")?;
                return Err(failed("freeze", folder)(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        Ok(())
    }

    /// Whether the group is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let read = |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        match (self.v1_folder("freezer"), self.v2.as_deref()) {
            (Some(folder), _) => read(folder, "freezer.state").trim() != "THAWED" && folder.exists(),
            (None, Some(folder)) => read(folder, "cgroup.events").lines().any(|line| line == "frozen 1"),
            (None, None) => false,
        }
    }

    fn v1_folder(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(names, _)| names.split(',').any(|name| name == controller))
            .map(|(_, folder)| folder.as_path())
    }

    /// Kills every process of the group: by `cgroup.kill` where a v2 hierarchy has it, else frozen, signalled and thawed,
    /// until none is left to signal.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn kill(&self) -> Result<(), Error> {
        let killed = match self.v2.as_deref().map(|folder| fs::write(folder.join("cgroup.kill"), "1")) {
            Some(Ok(())) => true,
            Some(Err(error)) if is_gone(&error) => false,
            Some(Err(_)) | None => false,
        };
        if killed {
            // Killed tasks of a v1 freezer do not run, and so do not end, until they are thawed.
            if let Some(folder) = self.v1_folder("freezer").filter(|folder| folder.exists()) {
                write_file(&folder.join("freezer.state"), "THAWED")?;
            }
            return Ok(());
        }
        self.kill_by_signals()
    }

    fn kill_by_signals(&self) -> Result<(), Error> {
        let mut freezer = self.v1_folder("freezer").filter(|folder| folder.exists());
        for _ in 0..KILL_ROUNDS {
            // Processes that cannot be frozen are killed all the same: several rounds outrun a fork.
            freezer = freezer.filter(|folder| freeze_v1(folder, true).is_ok());
            let pids = self.pids()?;
            for pid in &pids {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    // ESRCH: it has just ended.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if let Some(folder) = freezer {
                freeze_v1(folder, false)?;
            }
            if pids.is_empty() {
                return Ok(());
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        Ok(())
    }

    /// Removes the group and those below it in every hierarchy, once its last process has left. A unit of systemd's is
    /// stopped before.
    ///
    /// # Errors
    /// [`Error::Io`] with `EBUSY` when processes are still in it after five seconds; [`Error::Systemd`].
    pub fn remove(&self) -> Result<(), Error> {
        // systemd takes the group of a unit away that has ended, and forgets the unit.
        if let Some(unit) = self.unit.as_ref().filter(|_| self.any_folder().is_some_and(Path::exists)) {
            unit.stop()?;
        }
        let deadline = Instant::now() + REMOVE_PATIENCE;
        for folder in self.v1.iter().map(|(_, folder)| folder).chain(&self.v2) {
            loop {
                match remove_tree(folder) {
                    Ok(()) => break,
                    Err(error) if is_gone(&error) => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        std::thread::sleep(REMOVE_PAUSE);
                    }
                    Err(source) => return Err(failed("remove", folder)(source)),
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cgroup {
    /// One line per hierarchy: its controllers (`-` for version 2), a blank, the folder; then the unit, where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str(NONE);
        }
        for (controllers, folder) in &self.v1 {
            writeln!(f, "{controllers} {}", folder.display())?;
        }
        self.v2.iter().try_for_each(|folder| writeln!(f, "- {}", folder.display()))?;
        self.unit.iter().try_for_each(|unit| writeln!(f, "{UNIT} {unit}"))
    }
}

impl std::str::FromStr for Cgroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut group = Self::none();
        if text == NONE {
            return Ok(group);
        }
        for line in text.lines() {
            match line.split_once(' ') {
                Some((UNIT, unit)) if group.unit.is_none() => {
                    group.unit = Some(unit.parse().map_err(|()| Error::Parse(text.to_owned()))?);
                }
                Some(("-", folder)) if folder.starts_with('/') => group.v2 = Some(folder.into()),
                Some((controllers, folder)) if folder.starts_with('/') => {
                    group.v1.push((controllers.to_owned(), folder.into()));
                }
                _ => return Err(Error::Parse(text.to_owned())),
            }
        }
        if group.v1.is_empty() && group.v2.is_none() { Err(Error::Parse(text.to_owned())) } else { Ok(group) }
    }
}

/// How [`Cgroup::none`] is written.
const NONE: &str = "none\n";
/// Begins the line of the unit.
const UNIT: &str = "unit";

/// The group is gone: its folder, or (for an open file) the group behind it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn write_file(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(failed("write to", path))
}

/// Makes `folder` and its missing parents below `mount`; `enter` is called with each parent before.
fn make_below(mount: &Path, folder: &Path, enter: &mut dyn FnMut(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let below = folder.strip_prefix(mount).unwrap_or(folder);
    let mut at = mount.to_owned();
    for part in below {
        enter(&at)?;
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed("make", &at)(source)),
        }
    }
    Ok(())
}

fn freeze_v1(folder: &Path, frozen: bool) -> Result<(), Error> {
    let file = folder.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + FREEZE_PATIENCE;
    loop {
        write_file(&file, wanted)?;
        let state = fs::read_to_string(&file).map_err(failed("read", &file))?;
        if state.trim() == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            // Half-frozen is worse than not frozen.
            write_file(&file, "THAWED")?;
            return Err(failed("freeze", folder)(io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(REMOVE_PAUSE);
    }
}

/// The folder and those below it, parents first.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        next += 1;
        let children = fs::read_dir(&folder).into_iter().flatten().flatten();
        found.extend(children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    found
}

fn remove_tree(top: &Path) -> io::Result<()> {
    match fs::remove_dir(top) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        done => return done,
    }
    for folder in tree(top).iter().rev() {
        fs::remove_dir(folder)?;
    }
    Ok(())
}
