//! Options of mounts as mount attributes, propagation and file system parameters (mount(8), runtime-spec config.md).
//!
//! Options that the kernel's mounts know become attribute bits, propagation names become propagation; the rest belongs to
//! the file system and is handed to it as it is.

use std::path::{Path, PathBuf};

use atoll_oci::runtime::Mount;
use atoll_sys::mount::MountAttr;
use atoll_sys::userns::Mapping;

use super::{absolute, namespaces::id_ranges};
use crate::error::PlanError;

/// Options of the tmpfs that hides folders.
pub const TMPFS_MASK_OPTIONS: [(&str, &str); 2] = [("mode", "0755"), ("size", "16k")];

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// An existing folder or file.
    Bind {
        /// It, on the host.
        source: PathBuf,
        /// Whether mounts below it come along.
        recursive: bool,
    },
    /// The container's control groups: all of them, or that of version 2 alone.
    Cgroup {
        /// Whether version 2 is asked for (`cgroup2`).
        unified: bool,
    },
    /// A file system of this type, from this device or name.
    Filesystem {
        /// Its type.
        typ: String,
        /// Device, or a name for /proc/mounts.
        source: String,
        /// Parameters; those without a value are flags.
        parameters: Vec<(String, Option<String>)>,
    },
}

/// How ids of a mount's files are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// The mapping.
    pub mapping: Mapping,
    /// Whether that is for all mounts below too (`ridmap`).
    pub recursive: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// Absolute path inside the container.
    pub destination: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes of the mount itself; its propagation is never 0 for bind mounts.
    pub attributes: MountAttr,
    /// Attributes for it and all mounts below (`rro`, `rprivate`…).
    pub recursive: MountAttr,
    /// Id mapping of its files.
    pub idmap: Option<IdMap>,
    /// Whether what the image has at the destination is copied into a new tmpfs (`tmpcopyup`).
    pub copy_up: bool,
}

/// How an option changes a mount: bits to set, bits to clear. Each also stands with `r` in front, for all mounts below.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", MountAttr::RDONLY, 0),
    ("rw", 0, MountAttr::RDONLY),
    ("nosuid", MountAttr::NOSUID, 0),
    ("suid", 0, MountAttr::NOSUID),
    ("nodev", MountAttr::NODEV, 0),
    ("dev", 0, MountAttr::NODEV),
    ("noexec", MountAttr::NOEXEC, 0),
    ("exec", 0, MountAttr::NOEXEC),
    ("nosymfollow", MountAttr::NOSYMFOLLOW, 0),
    ("symfollow", 0, MountAttr::NOSYMFOLLOW),
    ("nodiratime", MountAttr::NODIRATIME, 0),
    ("diratime", 0, MountAttr::NODIRATIME),
    ("noatime", MountAttr::NOATIME, MountAttr::ATIME_MASK),
    ("strictatime", MountAttr::STRICTATIME, MountAttr::ATIME_MASK),
    ("relatime", MountAttr::RELATIME, MountAttr::ATIME_MASK),
    ("atime", MountAttr::RELATIME, MountAttr::ATIME_MASK),
    ("norelatime", MountAttr::RELATIME, MountAttr::ATIME_MASK),
    ("nostrictatime", MountAttr::RELATIME, MountAttr::ATIME_MASK),
];

/// Options that are neither attributes nor propagation.
const OTHERS: [&str; 10] =
    ["bind", "rbind", "tmpcopyup", "idmap", "ridmap", "defaults", "async", "silent", "loud", "nomand"];

/// The names of propagation, also with `r` in front.
const PROPAGATIONS: [(&str, u64); 4] = [
    ("private", MountAttr::PRIVATE),
    ("slave", MountAttr::SLAVE),
    ("shared", MountAttr::SHARED),
    ("unbindable", MountAttr::UNBINDABLE),
];

/// All options that are no file system's own, sorted.
#[must_use]
pub fn mount_options() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let propagations = PROPAGATIONS.iter().map(|(name, _)| *name);
    let recursive = attributes.clone().chain(propagations.clone());
    let mut all: Vec<String> = recursive.map(|name| format!("r{name}")).collect();
    all.extend(attributes.chain(propagations).chain(OTHERS).map(str::to_owned));
    all.sort_unstable();
    all
}

fn attribute(option: &str) -> Option<(u64, u64)> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == option).map(|(_, set, clear)| (*set, *clear))
}

fn propagation(option: &str) -> Option<u64> {
    PROPAGATIONS.iter().find(|(name, _)| *name == option).map(|(_, value)| *value)
}

fn merge(attributes: &mut MountAttr, (set, clear): (u64, u64)) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = attributes.clear & !set | clear;
}

impl MountPlan {
    /// Judges one mount; `bundle` is where a relative source starts, `own` the mapping of the container's new user
    /// namespace, `label` the SELinux context of new file systems.
    ///
    /// # Errors
    /// [`PlanError`], naming the destination.
    pub fn new(mount: &Mount, bundle: &Path, own: Option<&Mapping>, label: &str) -> Result<Self, PlanError> {
        let destination = mount.destination.as_str();
        absolute("the destination of a mount", destination)?;
        let options = Options::read(&mount.options);
        if options
            .parameters
            .iter()
            .any(|(name, value)| name.contains('\0') || value.as_ref().is_some_and(|value| value.contains('\0')))
        {
            return Err(PlanError::invalid(format!("an option of the mount at {destination} has a null byte")));
        }
        let Options { attributes, mut recursive, mut parameters, deep, idmap, copy_up } = options;
        let bind = mount.is_bind();
        if bind && let Some((name, _)) = parameters.first() {
            return Err(PlanError::invalid(format!("option {name:?} of the bind mount at {destination} is unknown")));
        }
        if bind && attributes.propagation == 0 && recursive.propagation == 0 {
            recursive.propagation = MountAttr::PRIVATE;
        }
        if copy_up && mount.typ != "tmpfs" {
            return Err(PlanError::invalid(format!("tmpcopyup of the mount at {destination} is for tmpfs")));
        }
        let idmap = id_map(mount, idmap, own)?;
        let kind = if bind {
            if mount.source.is_empty() {
                return Err(PlanError::invalid(format!("the bind mount at {destination} has no source")));
            }
            MountKind::Bind { source: bundle.join(&mount.source), recursive: deep }
        } else if mount.typ == "cgroup" || mount.typ == "cgroup2" {
            MountKind::Cgroup { unified: mount.typ == "cgroup2" }
        } else if mount.typ.is_empty() || mount.typ == "none" {
            return Err(PlanError::invalid(format!("the mount at {destination} has no type")));
        } else {
            if !label.is_empty() && LABELLED.contains(&mount.typ.as_str()) {
                parameters.push(("context".into(), Some(label.into())));
            }
            MountKind::Filesystem { typ: mount.typ.clone(), source: mount.source.clone(), parameters }
        };
        Ok(Self { destination: destination.to_owned(), kind, attributes, recursive, idmap, copy_up })
    }

    /// Whether nothing of an image may lead the destination elsewhere: /proc, /sys, /dev and what is below them.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        let mut parts = self.destination.split('/').filter(|part| !part.is_empty() && *part != ".");
        matches!(parts.next(), Some("proc" | "sys" | "dev"))
    }

    /// The destination without doubled and closing slashes.
    #[must_use]
    pub fn normal_destination(&self) -> String {
        let parts = self.destination.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.fold(String::new(), |path, part| path + "/" + part)
    }
}

/// New file systems that take an SELinux context.
const LABELLED: [&str; 3] = ["tmpfs", "mqueue", "devpts"];

/// The options of one mount, sorted by whom they are for.
#[derive(Default)]
struct Options {
    attributes: MountAttr,
    recursive: MountAttr,
    parameters: Vec<(String, Option<String>)>,
    deep: bool,
    idmap: Option<bool>,
    copy_up: bool,
}

impl Options {
    fn read(options: &[String]) -> Self {
        let mut read = Self::default();
        for option in options {
            let below = option.strip_prefix('r');
            match option.as_str() {
                "defaults" | "async" | "silent" | "loud" | "nomand" | "bind" => {}
                "rbind" => read.deep = true,
                "tmpcopyup" => read.copy_up = true,
                "idmap" => read.idmap = Some(false),
                "ridmap" => read.idmap = Some(true),
                _ => {
                    if let Some(change) = attribute(option) {
                        merge(&mut read.attributes, change);
                    } else if let Some(value) = propagation(option) {
                        read.attributes.propagation = value;
                    } else if let Some(value) = below.and_then(propagation) {
                        read.recursive.propagation = value;
                    } else if let Some(change) = below.and_then(attribute) {
                        merge(&mut read.recursive, change);
                    } else {
                        let (name, value) =
                            option.split_once('=').map_or((option.as_str(), None), |(n, v)| (n, Some(v)));
                        read.parameters.push((name.to_owned(), value.map(str::to_owned)));
                    }
                }
            }
        }
        read
    }
}

/// The mapping of an id-mapped mount: its own, or the container's. `recursive` is set by the options `idmap`, `ridmap`.
fn id_map(mount: &Mount, recursive: Option<bool>, own: Option<&Mapping>) -> Result<Option<IdMap>, PlanError> {
    let destination = &mount.destination;
    let given = !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty());
    if !given && recursive.is_none() {
        return Ok(None);
    }
    if !mount.is_bind() && matches!(mount.typ.as_str(), "cgroup" | "cgroup2") {
        return Err(PlanError::invalid(format!("the control groups at {destination} cannot be id-mapped")));
    }
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return Err(PlanError::invalid(format!(
            "the mount at {destination} has only one of uidMappings and gidMappings"
        )));
    }
    let mapping = match own {
        _ if given => Mapping {
            users: id_ranges("uidMappings of a mount", &mount.uid_mappings)?,
            groups: id_ranges("gidMappings of a mount", &mount.gid_mappings)?,
        },
        Some(own) => own.clone(),
        None => {
            return Err(PlanError::invalid(format!(
                "the mount at {destination} is id-mapped, but neither it nor the container has a mapping"
            )));
        }
    };
    Ok(Some(IdMap { mapping, recursive: recursive.unwrap_or(false) }))
}
