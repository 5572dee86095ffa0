//! Kernel parameters that belong to a namespace (runtime-spec config-linux.md, "Sysctl").
//!
//! Only parameters of namespaces that are the container's own pass: any other would change the host.

use std::collections::BTreeMap;

use atoll_oci::runtime::NamespaceType;
use atoll_sys::process::CloneFlags;

use super::NamespacePlan;
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
    namespaces: &NamespacePlan,
) -> Result<Vec<(String, String)>, PlanError> {
    wanted.iter().map(|(name, value)| Ok((path(name, namespaces)?, value.clone()))).collect()
}

fn path(name: &str, namespaces: &NamespacePlan) -> Result<String, PlanError> {
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
    let own = |flag, typ| namespaces.is_new(flag) || namespaces.joins(typ);
    let (own, kind) = if path.starts_with("net/") {
        (own(CloneFlags::NEWNET, NamespaceType::Network), "network")
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path.as_str()) {
        (own(CloneFlags::NEWIPC, NamespaceType::Ipc), "ipc")
    } else if path == "kernel/domainname" {
        (namespaces.is_new(CloneFlags::NEWUTS), "uts")
    } else if path == "kernel/hostname" {
        return Err(PlanError::invalid("sysctl kernel.hostname: set the hostname instead"));
    } else {
        return Err(PlanError::invalid(format!("sysctl {name:?} is not separate in any namespace")));
    };
    if own { Ok(path) } else { Err(PlanError::invalid(format!("sysctl {name:?} needs a {kind} namespace of its own"))) }
}
