//! A container's control groups: which they are, and when its first process is in them.
//!
//! Groups of our own are made before the clone, limits and all, and the process enters them itself. A group that systemd
//! keeps is made around the process, which waits for that.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use atoll_oci::runtime::Spec;
use atoll_sys::cgroup::{Cgroup, Layout, Limits, Owner, Scope};
use atoll_sys::dbus::Value;
use atoll_sys::userns;

use crate::creation::system;
use crate::error::{CreateError, PlanError};
use crate::plan::Plan;

/// Who makes and keeps the control groups of containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupKeeper {
    /// This runtime, by the files of the hierarchies.
    #[default]
    Files,
    /// systemd, as scope units; paths are `slice:prefix:name` then.
    Systemd,
}

/// How a container gets its control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Who keeps them.
    pub keeper: GroupKeeper,
    /// Whether the container goes on without those that cannot be made; `None` lets an ordinary user's do so.
    pub optional: Option<bool>,
}

/// Begins the annotations that are properties of a container's unit.
const PROPERTY: &str = "org.systemd.property.";
/// Properties that are the runtime's to set.
const OURS: [&str; 7] =
    ["PIDs", "Slice", "Delegate", "DelegateControllers", "DefaultDependencies", "DevicePolicy", "DeviceAllow"];

/// The group that a container is to have, not yet made, and the properties that its unit gets further.
pub(crate) struct Groups {
    pub(crate) cgroup: Cgroup,
    layout: Layout,
    properties: Vec<(String, Value)>,
}

impl Groups {
    /// An ordinary user gets as many as are delegated, or none, which the caller sees in
    /// [`Created::cgroup`](crate::Created::cgroup). Devices need no rules there: the host's own permissions hold for them.
    pub(crate) fn choose(policy: GroupPolicy, id: &str, spec: &Spec, plan: &mut Plan) -> Result<Self, CreateError> {
        let layout = Layout::read().map_err(system("read the host's control groups"))?;
        let path = spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
        let privileged = userns::is_privileged().map_err(system("look at the own privileges"))?;
        let (cgroup, properties) = match policy.keeper {
            GroupKeeper::Files => (Cgroup::at(&layout, path, id)?, Vec::new()),
            GroupKeeper::Systemd => {
                let owner = if privileged { Owner::System } else { Owner::User };
                let properties = properties(&spec.annotations)?;
                (Cgroup::in_systemd(&layout, path, id, owner)?, properties)
            }
        };
        if cgroup.is_occupied() {
            return Err(PlanError::invalid(format!("the control group {path:?} has processes already")).into());
        }
        let mut groups = Self { cgroup, layout, properties };
        if !privileged {
            plan.limits.devices.clear();
        }
        let optional = policy.optional.unwrap_or(!privileged);
        if optional && !groups.cgroup.is_in_systemd() && !groups.cgroup.try_create(&groups.layout)? {
            groups.cgroup = Cgroup::none();
        }
        Ok(groups)
    }

    /// Before the clone: makes what is ours to make. Gives the v2 group for the process to be born in.
    pub(crate) fn make(&self, limits: &Limits) -> Result<Option<OwnedFd>, CreateError> {
        if self.cgroup.is_in_systemd() {
            return Ok(None);
        }
        let born_in = self.cgroup.create_v2(&self.layout)?;
        self.cgroup.create_v1(&self.layout)?;
        self.cgroup.limit(limits)?;
        Ok(born_in)
    }

    /// After the clone: has systemd make its group around the process.
    pub(crate) fn adopt(&self, id: &str, pid: i32, limits: &Limits) -> Result<(), CreateError> {
        let description = format!("container {id}");
        let properties = self.properties.clone();
        Ok(self.cgroup.adopt(&self.layout, Scope { pid, description: &description, limits, properties })?)
    }

    /// Takes back what was made, with all processes in it: the error that stopped us is what the caller needs.
    pub(crate) fn undo(&self) {
        let _ = self.cgroup.kill();
        let _ = self.cgroup.remove();
    }
}

/// The annotations `org.systemd.property.*` as properties. One that ends in `Sec` has seconds, as in a unit's file.
fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Value)>, PlanError> {
    let named = annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PROPERTY)?, text)));
    named.map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<(String, Value), PlanError> {
    let refuse = |why: &str| PlanError::invalid(format!("annotation {PROPERTY}{name}: {why}"));
    if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(refuse("this is no name of a property"));
    }
    if OURS.contains(&name) {
        return Err(refuse("this property is the runtime's to set"));
    }
    let value: Value = text.parse().map_err(|error| refuse(&format!("{text:?}: {error}")))?;
    let seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    match seconds {
        None => Ok((name.to_owned(), value)),
        Some(stem) => {
            let value = microseconds(&value).ok_or_else(|| refuse(&format!("{text:?} is no number of seconds")))?;
            Ok((format!("{stem}USec"), Value::Uint64(value)))
        }
    }
}

fn microseconds(seconds: &Value) -> Option<u64> {
    let whole = match seconds {
        Value::Byte(seconds) => u64::from(*seconds),
        Value::Int16(seconds) => u64::try_from(*seconds).ok()?,
        Value::Uint16(seconds) => u64::from(*seconds),
        Value::Int32(seconds) => u64::try_from(*seconds).ok()?,
        Value::Uint32(seconds) => u64::from(*seconds),
        Value::Int64(seconds) => u64::try_from(*seconds).ok()?,
        Value::Uint64(seconds) => *seconds,
        Value::Double(seconds) => {
            let time = std::time::Duration::try_from_secs_f64(*seconds).ok()?;
            return u64::try_from(time.as_micros()).ok();
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_properties() {
        for (name, text, expected) in [
            ("MemoryHigh", "uint64 5", ("MemoryHigh", Value::Uint64(5))),
            ("TimeoutStopSec", "2", ("TimeoutStopUSec", Value::Uint64(2_000_000))),
            ("TimeoutStopSec", "uint64 1", ("TimeoutStopUSec", Value::Uint64(1_000_000))),
            ("TimeoutStopSec", "0.25", ("TimeoutStopUSec", Value::Uint64(250_000))),
            ("TimeoutStopUSec", "uint64 7", ("TimeoutStopUSec", Value::Uint64(7))),
            ("After", "['a.service']", ("After", Value::Array("s".into(), vec![Value::text("a.service")]))),
            ("CollectMode", "'inactive'", ("CollectMode", Value::text("inactive"))),
        ] {
            let property = property(name, text).unwrap();
            assert_eq!(property, (expected.0.to_owned(), expected.1), "{name} {text}");
        }
        for (name, text) in [
            ("", "1"),
            ("ab", "1"),
            ("a.b", "1"),
            ("Memory1", "1"),
            ("PIDs", "[uint32 1]"),
            ("Slice", "'a.slice'"),
            ("DevicePolicy", "'strict'"),
            ("Description", "no quotes"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'1'"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("TimeoutStopSec", "-0.5"),
        ] {
            assert!(property(name, text).is_err(), "{name} {text}");
        }
        let given = [("org.systemd.property.TasksMax", "uint64 1"), ("com.example.x", "no value")];
        let given = given.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        assert_eq!(properties(&given).unwrap(), [("TasksMax".to_owned(), Value::Uint64(1))]);
    }
}
