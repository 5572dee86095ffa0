//! Capabilities, devices and security options of a creation.

use atoll_model::{Seccomp, Security};
use serde_json::json;

use super::bad::BadRequest;
use super::config::HostConfig;
use super::devices;

/// How far the caller trusts the workload.
pub(super) fn security(host: &HostConfig) -> Result<Security, BadRequest> {
    let mut security = Security {
        privileged: host.privileged,
        cap_add: capabilities("HostConfig.CapAdd", &host.cap_add)?,
        cap_drop: capabilities("HostConfig.CapDrop", &host.cap_drop)?,
        read_only_root: host.readonly_rootfs,
        devices: host.devices.iter().map(devices::mapping).collect::<Result<_, _>>()?,
        cdi: cdi(host)?,
        device_rules: host.device_cgroup_rules.iter().map(devices::rule).collect::<Result<_, _>>()?,
        ..Security::default()
    };
    for option in &host.security_opt {
        apply(&mut security, option)?;
    }
    match (&host.masked_paths, &host.readonly_paths) {
        (None, None) => {}
        // `--security-opt systempaths=unconfined`, as the docker client sends it.
        (Some(masked), Some(readonly)) if masked.is_empty() && readonly.is_empty() => security.unmasked_paths = true,
        (masked, readonly) => {
            security.masked_paths = masked.as_deref().map(absolute).transpose()?;
            security.readonly_paths = readonly.as_deref().map(absolute).transpose()?;
        }
    }
    Ok(security)
}

fn cdi(host: &HostConfig) -> Result<Vec<String>, BadRequest> {
    let mut all = Vec::new();
    for request in &host.device_requests {
        all.extend(devices::requested(request)?);
    }
    Ok(all)
}

fn absolute(paths: &[String]) -> Result<Vec<String>, BadRequest> {
    match paths.iter().find(|path| !path.starts_with('/') || path.contains('\0')) {
        Some(bad) => {
            let why = format!("{bad:?} must be an absolute path");
            Err(BadRequest::invalid("HostConfig.MaskedPaths or ReadonlyPaths", why))
        }
        None => Ok(paths.to_vec()),
    }
}

fn apply(security: &mut Security, option: &str) -> Result<(), BadRequest> {
    let unsupported = || BadRequest::unsupported("HostConfig.SecurityOpt", &json!(option));
    let at = option.find(['=', ':']);
    let (name, value) = at.map_or((option, ""), |at| (&option[..at], &option[at + 1..]));
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
        ("seccomp", profile) if profile.trim_start().starts_with('{') => {
            serde_json::from_str::<serde_json::Map<_, _>>(profile)
                .map_err(|error| BadRequest::invalid("seccomp profile", error.to_string()))?;
            security.seccomp = Seccomp::Profile(profile.to_owned());
        }
        ("systempaths", "unconfined") => security.unmasked_paths = true,
        ("apparmor", "unconfined") | ("label", "disable") => {}
        _ => return Err(unsupported()),
    }
    Ok(())
}

/// Names in capitals without `CAP_`.
fn capabilities(option: &str, names: &[String]) -> Result<Vec<String>, BadRequest> {
    let one = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let valid = !short.is_empty() && short.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        if valid {
            Ok(short.to_owned())
        } else {
            Err(BadRequest::invalid(option, format!("unknown capability {name:?}")))
        }
    };
    names.iter().map(one).collect()
}

/// The security options of a workload as `HostConfig` has them, for `inspect`.
pub(super) fn security_opt(security: &Security) -> Vec<String> {
    let mut all = Vec::new();
    if security.no_new_privileges {
        all.push("no-new-privileges".to_owned());
    }
    match &security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => all.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(profile) => all.push(format!("seccomp={profile}")),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(change: impl FnOnce(&mut HostConfig)) -> Result<Security, BadRequest> {
        let mut host = HostConfig::default();
        change(&mut host);
        security(&host)
    }

    #[test]
    fn options() {
        let check = |option: &str, holds: fn(&Security) -> bool| {
            let found = host(|host| host.security_opt.push(option.to_owned())).expect("a known option");
            assert!(holds(&found), "{option}: {found:?}");
        };
        check("no-new-privileges", |s| s.no_new_privileges);
        check("no-new-privileges:true", |s| s.no_new_privileges);
        check("no-new-privileges=false", |s| !s.no_new_privileges);
        check("seccomp=unconfined", |s| s.seccomp == Seccomp::Unconfined);
        check("seccomp:unconfined", |s| s.seccomp == Seccomp::Unconfined);
        check("seccomp={\"a\":1}", |s| matches!(s.seccomp, Seccomp::Profile(_)));
        check("systempaths=unconfined", |s| s.unmasked_paths);
        check("apparmor=unconfined", |s| *s == Security::default());
        for bad in ["apparmor=mine", "label=user:x", "seccomp=/a/path", "seccomp={", "what", "no-new-privileges=maybe"]
        {
            assert!(host(|host| host.security_opt.push(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn masks_go_together() {
        let check = |masked: Option<&[&str]>, readonly: Option<&[&str]>, expected: Option<bool>| {
            let list = |list: Option<&[&str]>| list.map(|list| list.iter().map(|&path| path.to_owned()).collect());
            let found = host(|host| (host.masked_paths, host.readonly_paths) = (list(masked), list(readonly)));
            assert_eq!(found.ok().map(|security| security.unmasked_paths), expected, "{masked:?} {readonly:?}");
        };
        check(None, None, Some(false));
        check(Some(&[]), Some(&[]), Some(true));
        check(Some(&["/proc/kcore"]), Some(&[]), Some(false));
        check(Some(&[]), None, Some(false));
        check(None, Some(&["/proc/bus"]), Some(false));
        check(Some(&["proc"]), None, None);
        let own = host(|host| host.masked_paths = Some(vec!["/proc/kcore".to_owned()])).expect("a path");
        assert_eq!((own.masked_paths, own.readonly_paths), (Some(vec!["/proc/kcore".to_owned()]), None));
    }

    #[test]
    fn capabilities_lose_their_prefix() {
        let found =
            host(|host| host.cap_add = vec!["cap_net_admin".to_owned(), "ALL".to_owned()]).expect("known names");
        assert_eq!(found.cap_add, ["NET_ADMIN", "ALL"]);
        assert!(host(|host| host.cap_drop = vec!["net admin".to_owned()]).is_err());
    }
}
