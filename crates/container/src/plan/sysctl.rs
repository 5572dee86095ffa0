//! Kernel parameters that belong to a namespace (runtime-spec config-linux.md, "Sysctl").
//!
//! Only parameters of namespaces that are the container's own pass: any other would change the host.

use std::collections::BTreeMap;

use atoll_oci::runtime::{Linux, NamespaceType};
use atoll_sys::process::CloneFlags;

use crate::error::PlanError;

/// Parameters of an IPC namespace, below `kernel/` (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Path below /proc/sys and value of each parameter.
pub(super) fn plan(
    wanted: &BTreeMap<String, String>,
    linux: &Linux,
    clone: CloneFlags,
) -> Result<Vec<(String, String)>, PlanError> {
    wanted.iter().map(|(name, value)| Ok((path(name, linux, clone)?, value.clone()))).collect()
}

fn path(name: &str, linux: &Linux, clone: CloneFlags) -> Result<String, PlanError> {
    // Either notation; in the one with dots a slash stands for a dot of a name, as in sysctl(8).
    let path = match (name.find('.'), name.find('/')) {
        (Some(dot), Some(slash)) if dot < slash => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        (_, Some(_)) => name.to_owned(),
        _ => name.replace('.', "/"),
    };
    if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") || path.contains('\0') {
        return Err(PlanError::invalid(format!("sysctl {name:?} is no name of a kernel parameter")));
    }
    let joined = |typ| linux.namespace(typ).is_some_and(|namespace| !namespace.path.is_empty());
    let (own, kind) = if path.starts_with("net/") {
        (clone.contains(CloneFlags::NEWNET) || joined(NamespaceType::Network), "network")
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path.as_str()) {
        (clone.contains(CloneFlags::NEWIPC) || joined(NamespaceType::Ipc), "ipc")
    } else if path == "kernel/domainname" {
        (clone.contains(CloneFlags::NEWUTS), "uts")
    } else if path == "kernel/hostname" {
        return Err(PlanError::invalid("sysctl kernel.hostname: set the hostname instead"));
    } else {
        return Err(PlanError::invalid(format!("sysctl {name:?} is not separate in any namespace")));
    };
    if own { Ok(path) } else { Err(PlanError::invalid(format!("sysctl {name:?} needs a {kind} namespace of its own"))) }
}
