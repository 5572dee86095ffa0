//! `Binds`, `Mounts`, `Tmpfs` and `Volumes` of a creation as mounts.

use std::collections::BTreeSet;

use atoll_model::{Mount, MountSource, Propagation, check_name};
use serde_json::{Value, json};

use super::bad::BadRequest;
use super::config::{BindOptions, CreateRequest, MountRequest};
use super::refuse;

/// Everything that a workload sees of other folders, in the order of its target paths' request.
pub(super) fn mounts(request: &CreateRequest) -> Result<Vec<Mount>, BadRequest> {
    let host = &request.host_config;
    let mut all = Vec::new();
    for bind in &host.binds {
        all.push(bind_mount(bind)?);
    }
    for mount in &host.mounts {
        all.push(mount_request(mount)?);
    }
    for (target, options) in &host.tmpfs {
        all.push(tmpfs(target, options)?);
    }
    let mut targets = BTreeSet::new();
    for mount in &all {
        if !targets.insert(mount.target.clone()) {
            return Err(BadRequest::invalid("mount", format!("Duplicate mount point: {}", mount.target)));
        }
    }
    // `Volumes` only names targets: one that is mounted already is mounted already.
    for name in request.volumes.keys() {
        let target = target_path(name)?;
        if targets.insert(target.clone()) {
            all.push(Mount { source: volume("", true), target, read_only: false });
        }
    }
    Ok(all)
}

/// `NAME[:ro|rw]`: workloads whose mounts are wanted too.
pub(super) fn volumes_from(asked: &[String]) -> Result<Vec<String>, BadRequest> {
    let valid = |text: &&String| {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        !name.is_empty() && matches!(mode, "ro" | "rw" | "z" | "Z" | "ro,z" | "rw,z")
    };
    match asked.iter().find(|text| !valid(text)) {
        Some(bad) => Err(BadRequest::invalid("HostConfig.VolumesFrom", format!("{bad:?}: write NAME or NAME:ro"))),
        None => Ok(asked.to_vec()),
    }
}

fn volume(name: &str, copy: bool) -> MountSource {
    MountSource::Volume { name: name.to_owned(), copy }
}

/// `SOURCE:TARGET[:OPTIONS]`, or `TARGET` for an anonymous volume.
fn bind_mount(text: &str) -> Result<Mount, BadRequest> {
    let invalid = |why: &str| BadRequest::invalid("volume specification", format!("{text:?}: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid("it has more than three parts")),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid("its source is empty"));
    }
    let mut read_only = false;
    let mut copy = true;
    let mut propagation = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" | "copy" | "consistent" | "cached" | "delegated" => {}
            "nocopy" => copy = false,
            other => {
                propagation =
                    Some(self::propagation(other).ok_or_else(|| invalid(&format!("unknown option {other:?}")))?);
            }
        }
    }
    let source = if source.starts_with('/') {
        let path = clean(source).ok_or_else(|| invalid("its source has a \"..\" in it"))?;
        MountSource::Bind { path, propagation: propagation.unwrap_or_default(), recursive: true, create: true }
    } else if propagation.is_some() {
        return Err(invalid("propagation is for paths of the host, not for volumes"));
    } else {
        if !source.is_empty() {
            check_name(source).map_err(|_| {
                invalid("its source is neither an absolute path nor a volume's name ([a-zA-Z0-9][a-zA-Z0-9_.-], two characters at least)")
            })?;
        }
        volume(source, copy)
    };
    Ok(Mount { source, target: target_path(target)?, read_only })
}

fn propagation(text: &str) -> Option<Propagation> {
    match text {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

fn mount_request(mount: &MountRequest) -> Result<Mount, BadRequest> {
    refuse::rest("HostConfig.Mounts.", &mount.rest)?;
    let misplaced = |given: bool, option: &str| {
        if given {
            Err(BadRequest::invalid("mount", format!("{option} are not for type {}", mount.kind)))
        } else {
            Ok(())
        }
    };
    let (bind, vol, tmp) =
        (mount.bind_options.is_some(), mount.volume_options.is_some(), mount.tmpfs_options.is_some());
    let source = match mount.kind.as_str() {
        "bind" => {
            misplaced(vol, "VolumeOptions").and(misplaced(tmp, "TmpfsOptions"))?;
            bind_source(mount)?
        }
        "volume" => {
            misplaced(bind, "BindOptions").and(misplaced(tmp, "TmpfsOptions"))?;
            volume_source(mount)?
        }
        "tmpfs" => {
            misplaced(bind, "BindOptions").and(misplaced(vol, "VolumeOptions"))?;
            tmpfs_source(mount)?
        }
        other => return Err(BadRequest::unsupported("HostConfig.Mounts.Type", &json!(other))),
    };
    Ok(Mount { source, target: target_path(&mount.target)?, read_only: mount.read_only })
}

fn bind_source(mount: &MountRequest) -> Result<MountSource, BadRequest> {
    if !mount.source.starts_with('/') {
        return Err(BadRequest::invalid(
            "mount",
            format!("the source {:?} of a bind mount must be an absolute path", mount.source),
        ));
    }
    let path = clean(&mount.source)
        .ok_or_else(|| BadRequest::invalid("mount", format!("the source {:?} has a \"..\" in it", mount.source)))?;
    let plain = BindOptions::default();
    let options = mount.bind_options.as_ref().unwrap_or(&plain);
    refuse::rest("HostConfig.Mounts.BindOptions.", &options.rest)?;
    let propagation = match options.propagation.as_str() {
        "" => Propagation::default(),
        text => {
            propagation(text).ok_or_else(|| BadRequest::invalid("mount", format!("unknown propagation {text:?}")))?
        }
    };
    Ok(MountSource::Bind { path, propagation, recursive: !options.non_recursive, create: options.create_mountpoint })
}

fn volume_source(mount: &MountRequest) -> Result<MountSource, BadRequest> {
    if !mount.source.is_empty() {
        check_name(&mount.source).map_err(|error| BadRequest::invalid("mount", error.to_string()))?;
    }
    let Some(options) = &mount.volume_options else { return Ok(volume(&mount.source, true)) };
    refuse::rest("HostConfig.Mounts.VolumeOptions.", &options.rest)?;
    Ok(volume(&mount.source, !options.no_copy))
}

fn tmpfs_source(mount: &MountRequest) -> Result<MountSource, BadRequest> {
    if !mount.source.is_empty() {
        return Err(BadRequest::invalid("mount", "a tmpfs has no source"));
    }
    let Some(options) = &mount.tmpfs_options else {
        return Ok(MountSource::Tmpfs { size: None, mode: None, options: Vec::new() });
    };
    refuse::rest("HostConfig.Mounts.TmpfsOptions.", &options.rest)?;
    let size = u64::try_from(options.size_bytes)
        .map_err(|_| BadRequest::invalid("mount", "the size of a tmpfs cannot be negative"))?;
    Ok(MountSource::Tmpfs {
        size: (size > 0).then_some(size),
        mode: (options.mode > 0).then_some(options.mode),
        options: Vec::new(),
    })
}

/// One of `HostConfig.Tmpfs`: a target and options as of mount(8).
fn tmpfs(target: &str, options: &str) -> Result<Mount, BadRequest> {
    const FLAGS: [&str; 10] = ["exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "atime", "noatime"];
    let invalid = |option: &str| BadRequest::invalid("tmpfs option", format!("{option:?}"));
    let (mut size, mut mode, mut read_only, mut others) = (None, None, false, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = Some(bytes(value).ok_or_else(|| invalid(option))?),
            Some(("mode", value)) => mode = Some(u32::from_str_radix(value, 8).map_err(|_| invalid(option))?),
            Some(("uid" | "gid" | "nr_inodes", value)) if bytes(value).is_some() => others.push(option.to_owned()),
            None if option == "ro" => read_only = true,
            None if option == "rw" => read_only = false,
            None if FLAGS.contains(&option) => others.push(option.to_owned()),
            _ => return Err(invalid(option)),
        }
    }
    Ok(Mount { source: MountSource::Tmpfs { size, mode, options: others }, target: target_path(target)?, read_only })
}

/// A number with a binary suffix: `64m`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// An absolute path inside, cleaned, other than the root.
fn target_path(target: &str) -> Result<String, BadRequest> {
    let invalid = |why: &str| BadRequest::invalid("mount path", format!("{target:?}: {why}"));
    if !target.starts_with('/') {
        return Err(invalid("it must be absolute"));
    }
    match clean(target) {
        None => Err(invalid("it has a \"..\" in it")),
        Some(path) if path == "/" => Err(invalid("it cannot be the root")),
        Some(path) => Ok(path),
    }
}

/// An absolute path without empty, `.` and trailing parts; none when it has a `..`, whose meaning depends on links, or
/// a NUL.
fn clean(path: &str) -> Option<String> {
    if path.contains('\0') {
        return None;
    }
    let mut clean = String::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return None;
        }
        clean.push('/');
        clean.push_str(part);
    }
    Some(if clean.is_empty() { "/".to_owned() } else { clean })
}

/// The mounts of a workload as `HostConfig` has them, for `inspect`.
pub(super) fn binds(mounts: &[Mount]) -> Vec<String> {
    let text = |mount: &Mount| {
        let source = match &mount.source {
            MountSource::Bind { path, .. } => path,
            MountSource::Volume { name, .. } => name,
            MountSource::Tmpfs { .. } => return None,
        };
        let mode = if mount.read_only { ":ro" } else { "" };
        Some(format!("{source}:{}{mode}", mount.target))
    };
    mounts.iter().filter_map(text).collect()
}

/// A value that stands for "nothing" in a map of targets.
pub(super) fn nothing() -> Value {
    json!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str, propagation: Propagation, recursive: bool, create: bool) -> MountSource {
        MountSource::Bind { path: path.to_owned(), propagation, recursive, create }
    }

    #[test]
    fn binds_are_docker_volume_specifications() {
        let check = |text: &str, source: MountSource, target: &str, read_only: bool| {
            assert_eq!(bind_mount(text), Ok(Mount { source, target: target.to_owned(), read_only }), "{text}");
        };
        check("/a:/b", bind("/a", Propagation::Private, true, true), "/b", false);
        check("/a/:/b//c/", bind("/a", Propagation::Private, true, true), "/b/c", false);
        check("/a:/b:ro", bind("/a", Propagation::Private, true, true), "/b", true);
        check("/a:/b:ro,rshared,z", bind("/a", Propagation::Shared, true, true), "/b", true);
        check("/a:/b:rslave", bind("/a", Propagation::Slave, true, true), "/b", false);
        check("data:/b", volume("data", true), "/b", false);
        check("data:/b:nocopy,ro", volume("data", false), "/b", true);
        check("/b", volume("", true), "/b", false);
    }

    #[test]
    fn bad_binds_are_refused() {
        for bad in [
            "",
            "a",
            "/a:b",
            "/a:/b:/c:/d",
            "/a:/b:what",
            ":/b",
            "/a:/",
            "d:/b:shared",
            "a/b:/c",
            "/a/../b:/c",
            "/a:/b/..",
        ] {
            assert!(bind_mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_by_kind() {
        let check = |json: Value, expected: Option<MountSource>| {
            let mount: MountRequest = super::super::parse(json.to_string().as_bytes()).expect("a mount");
            assert_eq!(mount_request(&mount).ok().map(|mount| mount.source), expected, "{json}");
        };
        let kind = |kind: &str| json!({"Type": kind, "Source": "/a", "Target": "/b"});
        check(kind("bind"), Some(bind("/a", Propagation::Private, true, false)));
        check(kind("npipe"), None);
        check(kind("image"), None);
        check(kind("tmpfs"), None);
        check(kind("volume"), None);
        check(
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"NonRecursive": true, "CreateMountpoint": true, "Propagation": "rslave"}}),
            Some(bind("/a", Propagation::Slave, false, true)),
        );
        check(
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"ReadOnlyForceRecursive": true}}),
            None,
        );
        check(json!({"Type": "bind", "Source": "/a", "Target": "/b", "VolumeOptions": {}}), None);
        check(json!({"Type": "volume", "Target": "/b"}), Some(volume("", true)));
        check(
            json!({"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {"NoCopy": true}}),
            Some(volume("data", false)),
        );
        check(json!({"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {"Subpath": "x"}}), None);
        check(
            json!({"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {"DriverConfig": {"Name": "local"}}}),
            Some(volume("data", true)),
        );
        check(
            json!({"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}),
            None,
        );
        check(
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 448}}),
            Some(MountSource::Tmpfs { size: Some(4096), mode: Some(0o700), options: Vec::new() }),
        );
        check(json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": -1}}), None);
    }

    #[test]
    fn tmpfs_options_are_those_of_mount() {
        type Expected<'a> = (Option<u64>, Option<u32>, &'a [&'a str], bool);
        let check = |options: &str, expected: Option<Expected<'_>>| {
            let expected = expected.map(|(size, mode, options, read_only)| Mount {
                source: MountSource::Tmpfs { size, mode, options: options.iter().map(|&o| o.to_owned()).collect() },
                target: "/t".to_owned(),
                read_only,
            });
            assert_eq!(tmpfs("/t", options).ok(), expected, "{options}");
        };
        check("", Some((None, None, &[], false)));
        check("rw,noexec,size=64m,mode=1777", Some((Some(64 << 20), Some(0o1777), &["noexec"], false)));
        check("ro,uid=5", Some((None, None, &["uid=5"], true)));
        check("size=1x", None);
        check("size=99999999999g", None);
        check("mode=9", None);
        check("mpol=bind", None);
    }

    #[test]
    fn targets_do_not_repeat() {
        let check = |json: Value, expected: Option<usize>| {
            let request: CreateRequest = super::super::parse(json.to_string().as_bytes()).expect("a request");
            assert_eq!(mounts(&request).ok().map(|all| all.len()), expected, "{json}");
        };
        check(json!({"HostConfig": {"Binds": ["/a:/x", "/b:/y"]}, "Volumes": {"/x": {}, "/z": {}}}), Some(3));
        check(json!({"HostConfig": {"Binds": ["/a:/x", "/b:/x/"]}}), None);
        check(json!({"HostConfig": {"Tmpfs": {"/x": ""}, "Mounts": [{"Type": "volume", "Target": "/x"}]}}), None);
    }
}
