//! Which namespaces a container gets (runtime-spec config-linux.md, "Namespaces", "User namespace mappings", "Offset for
//! Time Namespace").

use std::collections::BTreeMap;

use atoll_oci::runtime::{IdMapping, Linux, Namespace, NamespaceType, TimeOffset};
use atoll_sys::process::CloneFlags;
use atoll_sys::userns::{Mapping, Range};

use super::absolute;
use crate::error::PlanError;

/// Most ranges of a mapping that the kernel takes (user_namespaces(7)).
const RANGES_MAX: usize = 340;

/// A namespace of somebody else to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Its kind.
    pub typ: NamespaceType,
    /// Its file.
    pub path: String,
}

/// The namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    /// New ones that begin with the clone.
    pub clone: CloneFlags,
    /// Whether a new cgroup namespace is wanted; it begins once the process is in its groups.
    pub cgroup: bool,
    /// Those to join.
    pub joins: Vec<Join>,
    /// Mapping of a new user namespace.
    pub mapping: Option<Mapping>,
    /// Mapping that a joined user namespace must have.
    pub expected: Option<Mapping>,
    /// Lines of a new time namespace's offsets (time_namespaces(7)).
    pub time: Option<Vec<String>>,
}

impl NamespacePlan {
    /// Judges the namespaces and what belongs to them.
    pub(super) fn new(linux: &Linux) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            if linux.namespaces[..index].iter().any(|other| other.typ == namespace.typ) {
                return Err(PlanError::invalid(format!("two namespaces of kind {}", namespace.typ)));
            }
            plan.add(namespace, linux)?;
        }
        if !plan.is_new(CloneFlags::NEWNS) && !plan.joins(NamespaceType::Mount) {
            return Err(PlanError::unsupported("a container without a mount namespace of its own"));
        }
        if plan.mapping.is_none() && !(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty()) {
            if !plan.joins(NamespaceType::User) {
                return Err(PlanError::invalid("uidMappings and gidMappings need a user namespace"));
            }
            plan.expected = Some(mapping(linux)?);
        }
        if plan.time.is_none() && !linux.time_offsets.is_empty() {
            return Err(PlanError::invalid("timeOffsets need a new time namespace"));
        }
        Ok(plan)
    }

    fn add(&mut self, namespace: &Namespace, linux: &Linux) -> Result<(), PlanError> {
        let flag = match namespace.typ {
            _ if !namespace.path.is_empty() => {
                absolute("the path of a namespace", &namespace.path)?;
                self.joins.push(Join { typ: namespace.typ, path: namespace.path.clone() });
                return Ok(());
            }
            NamespaceType::Cgroup => {
                self.cgroup = true;
                return Ok(());
            }
            NamespaceType::Time => {
                self.time = Some(offsets(&linux.time_offsets)?);
                return Ok(());
            }
            NamespaceType::User => {
                self.mapping = Some(mapping(linux)?);
                CloneFlags::NEWUSER
            }
            NamespaceType::Pid => CloneFlags::NEWPID,
            NamespaceType::Network => CloneFlags::NEWNET,
            NamespaceType::Mount => CloneFlags::NEWNS,
            NamespaceType::Ipc => CloneFlags::NEWIPC,
            NamespaceType::Uts => CloneFlags::NEWUTS,
        };
        self.clone |= flag;
        Ok(())
    }

    /// Whether a namespace of this kind is new.
    #[must_use]
    pub fn is_new(&self, flag: CloneFlags) -> bool {
        self.clone.contains(flag)
    }

    /// Whether one of this kind is joined.
    #[must_use]
    pub fn joins(&self, typ: NamespaceType) -> bool {
        self.joins.iter().any(|join| join.typ == typ)
    }

    /// Whether the container's root is not the host's: it has a user namespace of its own or joins one.
    #[must_use]
    pub fn has_user_namespace(&self) -> bool {
        self.mapping.is_some() || self.joins(NamespaceType::User)
    }
}

fn mapping(linux: &Linux) -> Result<Mapping, PlanError> {
    let users = ranges("uidMappings", &linux.uid_mappings)?;
    Ok(Mapping { users, groups: ranges("gidMappings", &linux.gid_mappings)? })
}

/// A mapping's ranges as the kernel takes them. `what` names the field; user and group 0 must be mapped, since they build
/// the container.
fn ranges(what: &str, wanted: &[IdMapping]) -> Result<Vec<Range>, PlanError> {
    let invalid = |why: &str| Err(PlanError::invalid(format!("{what} {why}")));
    if !wanted.iter().any(|range| range.container_id == 0) {
        return invalid("must map the container's id 0");
    }
    id_ranges(what, wanted)
}

/// Ranges of any mapping, checked against each other.
pub(super) fn id_ranges(what: &str, wanted: &[IdMapping]) -> Result<Vec<Range>, PlanError> {
    let invalid = |why: &str| Err(PlanError::invalid(format!("{what} {why}")));
    if wanted.len() > RANGES_MAX {
        return invalid("has more than 340 ranges");
    }
    for (index, range) in wanted.iter().enumerate() {
        let ends = |start: u32| u64::from(start) + u64::from(range.size);
        if range.size == 0 || ends(range.container_id) > 1 << 32 || ends(range.host_id) > 1 << 32 {
            return invalid("has an empty range or one past the last id");
        }
        let overlap =
            |a: u32, b: u32, size: u32| u64::from(a) < u64::from(b) + u64::from(size) && u64::from(b) < ends(a);
        if wanted[..index].iter().any(|other| {
            overlap(range.container_id, other.container_id, other.size)
                || overlap(range.host_id, other.host_id, other.size)
        }) {
            return invalid("has ranges that overlap");
        }
    }
    let range = |range: &IdMapping| Range { inside: range.container_id, outside: range.host_id, size: range.size };
    Ok(wanted.iter().map(range).collect())
}

fn offsets(wanted: &BTreeMap<String, TimeOffset>) -> Result<Vec<String>, PlanError> {
    let line = |(clock, offset): (&String, &TimeOffset)| {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(PlanError::invalid(format!(
                "timeOffsets has no clock {clock:?}: monotonic and boottime have one"
            )));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(PlanError::invalid(format!("timeOffsets of {clock} has more than 999999999 nanoseconds")));
        }
        Ok(format!("{clock} {} {}", offset.secs, offset.nanosecs))
    };
    wanted.iter().map(line).collect()
}
