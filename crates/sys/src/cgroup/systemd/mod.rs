//! systemd as the keeper of a group: one transient scope unit (systemd.scope(5), org.freedesktop.systemd1(5)).
//!
//! A path in the notation `slice:prefix:name` names a scope `prefix-name.scope` in a slice. The unit is made around a first
//! process, which systemd puts into the group; it owns the group from then on and hands all below it over (`Delegate`).
//! Limits are properties of the unit, so that a reload of systemd's does not undo them, and written to the files too.
//!
//! Device rules are a program of ours in version 2, and systemd puts none beside it (`DevicePolicy=auto`). In version 1 they are
//! a list of the group's, which a reload writes anew: there systemd knows it too (`strict`), or allows all as we do.
//!
//! Left out: slices as groups of their own, an ordinary user's units where controllers are in version 1.

mod properties;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::dbus::{self, Call, Connection, Value};

pub(super) use properties::{of_devices, of_writes};

/// Where a running systemd says that it is.
const RUNNING: &str = "/run/systemd/system";
/// The system's manager, without a bus in front of it.
const SYSTEM_PRIVATE: &str = "/run/systemd/private";
/// The system's bus.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Longest name of a unit.
const NAME_MAX: usize = 255;
/// First part of a scope's name when the configuration gives none.
const PREFIX: &str = "atoll";

/// The manager on a bus.
const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("systemd is not running: there is no {0}")]
    NotRunning(PathBuf),
    /// The address of the session's bus is of another kind.
    #[error("the address {0:?} of the session's bus does not begin with unix:path=")]
    Address(String),
    /// It cannot be spoken to.
    #[error("systemd cannot be reached at {}", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What became of the connection.
        source: dbus::Error,
    },
    /// It refused.
    #[error("systemd cannot {action} {unit}")]
    Call {
        /// What was asked for.
        action: &'static str,
        /// For which unit.
        unit: String,
        /// Its answer.
        source: dbus::Error,
    },
    /// It tried in vain.
    #[error("systemd did not {action} {unit}: its job ended as {result:?}")]
    Job {
        /// What was asked for.
        action: &'static str,
        /// For which unit.
        unit: String,
        /// How the job ended.
        result: String,
    },
}

/// Whose manager keeps the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The host's.
    System,
    /// That of an ordinary user's session.
    User,
}

/// A scope unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) owner: Owner,
    pub(super) slice: String,
    pub(super) name: String,
}

impl Unit {
    /// From `slice:prefix:name`; an empty text stands for `:atoll:id`. An empty slice is the default one, an empty prefix
    /// leaves the name alone. What is wrong comes back as text.
    pub(super) fn parse(path: &str, id: &str, owner: Owner) -> Result<Self, &'static str> {
        let parts: Vec<&str> = if path.is_empty() { vec!["", PREFIX, id] } else { path.split(':').collect() };
        let [slice, prefix, name] = parts[..] else { return Err("with systemd it is to be slice:prefix:name") };
        let slice = match (slice, owner) {
            ("", Owner::System) => "system.slice",
            ("", Owner::User) => "user.slice",
            (given, _) => given,
        };
        if name.is_empty() {
            return Err("the name of the scope is empty");
        }
        if name.ends_with(".slice") {
            return Err("a slice as the group of a container is not supported");
        }
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if !is_unit_name(&name) {
            return Err("the name of the scope is too long or has other signs than letters, digits and _.-\\@");
        }
        if slice_folder(slice).is_none() {
            return Err("the slice is none");
        }
        Ok(Self { owner, slice: slice.to_owned(), name })
    }

    /// The group's path below the manager's own.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", slice_folder(&self.slice).unwrap_or_default(), self.name)
    }

    /// Makes the unit around a process, and waits until that is in the group. One that failed before and has the name goes.
    pub(super) fn start(&self, pid: i32, description: &str, more: Vec<(String, Value)>) -> Result<(), Error> {
        let mut manager = Manager::reach(self.owner)?;
        let properties = Value::properties(self.base(pid, description).into_iter().chain(more));
        let none = Value::Array("(sa(sv))".into(), Vec::new());
        let arguments = [Value::text(&self.name), Value::text("fail"), properties, none];
        let started = match manager.job("StartTransientUnit", &arguments) {
            Err(JobError::Call(dbus::Error::Answer { name, .. })) if name == UNIT_EXISTS => {
                manager.call("ResetFailedUnit", &[Value::text(&self.name)]).map_err(self.failed("reset"))?;
                manager.job("StartTransientUnit", &arguments)
            }
            other => other,
        };
        started.map_err(|error| error.about("make", &self.name))
    }

    /// What every scope of ours is.
    fn base(&self, pid: i32, description: &str) -> Vec<(String, Value)> {
        let pids = Value::Array("u".into(), vec![Value::Uint32(pid.unsigned_abs())]);
        let mut properties = vec![
            ("Description", Value::text(description)),
            ("Slice", Value::text(&self.slice)),
            ("Delegate", Value::Bool(true)),
            ("PIDs", pids),
            ("DevicePolicy", Value::text("auto")),
            ("DefaultDependencies", Value::Bool(false)),
            // It is gone when it has ended, however it did.
            ("CollectMode", Value::text("inactive-or-failed")),
        ];
        let accounting = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"];
        properties.extend(accounting.map(|name| (name, Value::Bool(true))));
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Changes properties for as long as the unit lives.
    pub(super) fn set(&self, properties: Vec<(String, Value)>) -> Result<(), Error> {
        let arguments = [Value::text(&self.name), Value::Bool(true), Value::properties(properties)];
        let mut manager = Manager::reach(self.owner)?;
        manager.call("SetUnitProperties", &arguments).map(drop).map_err(self.failed("change"))
    }

    /// Has systemd move a process into the unit's group, for who may not.
    pub(super) fn attach(&self, pid: u32) -> Result<(), Error> {
        let pids = Value::Array("u".into(), vec![Value::Uint32(pid)]);
        let arguments = [Value::text(&self.name), Value::text(""), pids];
        let mut manager = Manager::reach(self.owner)?;
        manager.call("AttachProcessesToUnit", &arguments).map(drop).map_err(self.failed("put a process into"))
    }

    /// Stops the unit, and waits until it has stopped; one that is gone is fine.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let mut manager = Manager::reach(self.owner)?;
        match manager.job("StopUnit", &[Value::text(&self.name), Value::text("replace")]) {
            // Whatever else becomes of the job: the group that is left will say it.
            Ok(()) | Err(JobError::Ended(_)) => {}
            Err(JobError::Call(dbus::Error::Answer { name, .. })) if name == NO_SUCH_UNIT => return Ok(()),
            Err(error) => return Err(error.about("stop", &self.name)),
        }
        match manager.call("ResetFailedUnit", &[Value::text(&self.name)]) {
            Err(dbus::Error::Answer { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            other => other.map(drop).map_err(self.failed("reset")),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(dbus::Error) -> Error {
        let unit = self.name.clone();
        move |source| Error::Call { action, unit, source }
    }
}

impl fmt::Display for Unit {
    /// `system` or `user`, the slice, the name, with blanks between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::System => "system",
            Owner::User => "user",
        };
        write!(f, "{owner} {} {}", self.slice, self.name)
    }
}

impl std::str::FromStr for Unit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split(' ').collect();
        let (owner, slice, name) = match parts[..] {
            ["system", slice, name] => (Owner::System, slice, name),
            ["user", slice, name] => (Owner::User, slice, name),
            _ => return Err(()),
        };
        let good = slice_folder(slice).is_some() && is_unit_name(name) && name.ends_with(".scope");
        good.then(|| Self { owner, slice: slice.to_owned(), name: name.to_owned() }).ok_or(())
    }
}

/// The cgroup of an owner's manager, below which all its units are.
pub(super) fn manager_folder(owner: Owner) -> Result<String, Error> {
    let get = [Value::text(MANAGER), Value::text("ControlGroup")];
    let mut manager = Manager::reach(owner)?;
    let answer = manager.call_on("org.freedesktop.DBus.Properties", "Get", &get);
    let answer = answer.and_then(|values| match values.as_slice() {
        [Value::Variant(value)] => value.as_text().map(str::to_owned).ok_or(dbus::Error::Malformed),
        _ => Err(dbus::Error::Malformed),
    });
    let failed = |source| Error::Call { action: "tell the group of", unit: "its manager".into(), source };
    answer.map(|folder| folder.trim_end_matches('/').to_owned()).map_err(failed)
}

fn is_unit_name(name: &str) -> bool {
    name.len() <= NAME_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-\\@".contains(c))
}

/// Where a slice is: `a-b.slice` is inside `a.slice` (systemd.slice(5)), `-.slice` is the root.
fn slice_folder(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice").filter(|_| is_unit_name(slice))?;
    if name == "-" {
        return Some(String::new());
    }
    let mut folder = String::new();
    let mut end = 0;
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        end += part.len();
        folder += &format!("/{}.slice", &name[..end]);
        end += 1;
    }
    Some(folder)
}

/// A job that was not done.
enum JobError {
    Call(dbus::Error),
    Ended(String),
}

impl JobError {
    fn about(self, action: &'static str, unit: &str) -> Error {
        let unit = unit.to_owned();
        match self {
            Self::Call(source) => Error::Call { action, unit, source },
            Self::Ended(result) => Error::Job { action, unit, result },
        }
    }
}

/// A connection to a manager.
struct Manager(Connection);

impl Manager {
    /// The manager itself where its socket is, else through its bus.
    fn reach(owner: Owner) -> Result<Self, Error> {
        let (private, bus) = match owner {
            Owner::System if !Path::new(RUNNING).is_dir() => return Err(Error::NotRunning(RUNNING.into())),
            Owner::System => (SYSTEM_PRIVATE.into(), SYSTEM_BUS.into()),
            Owner::User => user_sockets()?,
        };
        if let Ok(connection) = Connection::to_peer(&private) {
            return Ok(Self(connection));
        }
        match Connection::to_bus(&bus) {
            Ok(connection) => Ok(Self(connection)),
            Err(dbus::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NotRunning(bus)),
            Err(source) => Err(Error::Unreachable { path: bus, source }),
        }
    }

    fn call(&mut self, member: &str, arguments: &[Value]) -> Result<Vec<Value>, dbus::Error> {
        self.call_on(MANAGER, member, arguments)
    }

    fn call_on(&mut self, interface: &str, member: &str, arguments: &[Value]) -> Result<Vec<Value>, dbus::Error> {
        self.0.call(&Call { destination: DESTINATION, path: MANAGER_PATH, interface, member, arguments })
    }

    /// Calls a method that gives a job, and waits for the job's end.
    fn job(&mut self, member: &str, arguments: &[Value]) -> Result<(), JobError> {
        if !self.0.is_direct() {
            // On a bus the manager tells of jobs only while somebody asks for it.
            self.call("Subscribe", &[])
                .or_else(|error| match error {
                    dbus::Error::Answer { name, .. } if name == "org.freedesktop.systemd1.AlreadySubscribed" => {
                        Ok(vec![])
                    }
                    error => Err(error),
                })
                .map_err(JobError::Call)?;
            self.0.listen(DESTINATION, MANAGER).map_err(JobError::Call)?;
        }
        let answer = self.call(member, arguments).map_err(JobError::Call)?;
        let [job @ Value::Path(_)] = answer.as_slice() else { return Err(JobError::Call(dbus::Error::Malformed)) };
        loop {
            let signal = self.0.signal("org.freedesktop.systemd1.Manager.JobRemoved").map_err(JobError::Call)?;
            // Number, object, unit, result.
            let [_, object, _, Value::Text(result)] = signal.arguments.as_slice() else { continue };
            if object == job {
                return if result == "done" { Ok(()) } else { Err(JobError::Ended(result.clone())) };
            }
        }
    }
}

/// The sockets of an ordinary user's manager and bus (file-hierarchy(7), `XDG_RUNTIME_DIR`).
fn user_sockets() -> Result<(PathBuf, PathBuf), Error> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new("/run/user").join(rustix::process::geteuid().as_raw().to_string()));
    let bus = match std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        Ok(address) if !address.is_empty() => bus_path(&address)?,
        _ => folder.join("bus"),
    };
    Ok((folder.join("systemd/private"), bus))
}

/// The path in a bus's address, such as `unix:path=/run/user/1000/bus,guid=…` (D-Bus specification, "Server Addresses").
fn bus_path(address: &str) -> Result<PathBuf, Error> {
    let path = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next());
    // A percent sign begins a sign that may not stand for itself: rare enough to be refused.
    match path.filter(|path| path.starts_with('/') && !path.contains('%')) {
        Some(path) => Ok(path.into()),
        None => Err(Error::Address(address.to_owned())),
    }
}
