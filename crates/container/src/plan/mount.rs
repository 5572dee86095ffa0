//! Options of mounts as mount attributes, propagation and file system parameters (mount(8), runtime-spec config.md).
//!
//! Options that the kernel's mounts know become attribute bits, propagation names become propagation; the rest belongs to
//! the file system and is handed to it as it is. Id-mapped mounts and copying up into tmpfs are refused.

use std::path::{Path, PathBuf};

use atoll_oci::runtime::Mount;
use atoll_sys::mount::MountAttr;

use super::absolute;
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
    /// The container's control groups.
    Cgroup,
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
}

/// How an option changes a mount: bits to set, bits to clear.
fn attribute(option: &str) -> Option<(u64, u64)> {
    use MountAttr as M;
    Some(match option {
        "ro" => (M::RDONLY, 0),
        "rw" => (0, M::RDONLY),
        "nosuid" => (M::NOSUID, 0),
        "suid" => (0, M::NOSUID),
        "nodev" => (M::NODEV, 0),
        "dev" => (0, M::NODEV),
        "noexec" => (M::NOEXEC, 0),
        "exec" => (0, M::NOEXEC),
        "nosymfollow" => (M::NOSYMFOLLOW, 0),
        "symfollow" => (0, M::NOSYMFOLLOW),
        "nodiratime" => (M::NODIRATIME, 0),
        "diratime" => (0, M::NODIRATIME),
        "noatime" => (M::NOATIME, M::ATIME_MASK),
        "strictatime" => (M::STRICTATIME, M::ATIME_MASK),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (M::RELATIME, M::ATIME_MASK),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<u64> {
    Some(match option {
        "private" => MountAttr::PRIVATE,
        "slave" => MountAttr::SLAVE,
        "shared" => MountAttr::SHARED,
        "unbindable" => MountAttr::UNBINDABLE,
        _ => return None,
    })
}

fn merge(attributes: &mut MountAttr, (set, clear): (u64, u64)) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = attributes.clear & !set | clear;
}

impl MountPlan {
    /// Judges one mount; `bundle` is where a relative source starts.
    ///
    /// # Errors
    /// [`PlanError`], naming the destination.
    pub fn new(mount: &Mount, bundle: &Path) -> Result<Self, PlanError> {
        let destination = mount.destination.as_str();
        absolute("the destination of a mount", destination)?;
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return Err(PlanError::unsupported(format!("an id-mapped mount at {destination}")));
        }
        let bind = mount.is_bind();
        let (mut attributes, mut recursive) = (MountAttr::default(), MountAttr::default());
        let mut parameters = Vec::new();
        let mut deep = false;
        for option in &mount.options {
            let below = option.strip_prefix('r');
            if matches!(option.as_str(), "defaults" | "async" | "silent" | "loud" | "nomand" | "bind") {
            } else if option == "rbind" {
                deep = true;
            } else if let Some(change) = attribute(option) {
                merge(&mut attributes, change);
            } else if let Some(value) = propagation(option) {
                attributes.propagation = value;
            } else if let Some(value) = below.and_then(propagation) {
                recursive.propagation = value;
            } else if let Some(change) = below.and_then(attribute) {
                merge(&mut recursive, change);
            } else if option == "tmpcopyup" || option == "idmap" || option == "ridmap" || option.contains('\0') {
                return Err(PlanError::unsupported(format!("option {option:?} of the mount at {destination}")));
            } else {
                let (name, value) = option.split_once('=').map_or((option.as_str(), None), |(n, v)| (n, Some(v)));
                parameters.push((name.to_owned(), value.map(str::to_owned)));
            }
        }
        if bind && let Some((name, _)) = parameters.first() {
            return Err(PlanError::invalid(format!("option {name:?} of the bind mount at {destination} is unknown")));
        }
        if bind && attributes.propagation == 0 && recursive.propagation == 0 {
            recursive.propagation = MountAttr::PRIVATE;
        }
        let kind = if bind {
            if mount.source.is_empty() {
                return Err(PlanError::invalid(format!("the bind mount at {destination} has no source")));
            }
            MountKind::Bind { source: bundle.join(&mount.source), recursive: deep }
        } else if mount.typ == "cgroup" || mount.typ == "cgroup2" {
            MountKind::Cgroup
        } else if mount.typ.is_empty() || mount.typ == "none" {
            return Err(PlanError::invalid(format!("the mount at {destination} has no type")));
        } else {
            MountKind::Filesystem { typ: mount.typ.clone(), source: mount.source.clone(), parameters }
        };
        Ok(Self { destination: destination.to_owned(), kind, attributes, recursive })
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
