//! Devices of the host that a workload is to see, looked up: numbers, kind, owner.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use atoll_model::{BlockIo, DeviceKind, Rate, Security};
use atoll_oci::runtime::{self as oci, Device, DeviceRule, DeviceType, ThrottleDevice, WeightDevice};
use rustix::fs::{major, minor};

use crate::spec::{Devices, Error};

/// Nodes below `/dev` that a privileged workload gets at most.
const NODES_MAX: usize = 4096;
/// Folders and nodes of `/dev` that belong to each container itself.
const OWN: [&str; 10] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev", "null"];
/// Depth to which `/dev` is searched.
const DEPTH_MAX: usize = 4;

pub(super) fn resolve(security: &Security, limits: &BlockIo) -> Result<Devices, Error> {
    let mut devices = Devices { block_io: block_io(limits)?, ..Devices::default() };
    if security.privileged {
        walk(Path::new("/dev"), DEPTH_MAX, &mut devices.nodes);
    }
    for device in &security.devices {
        let failed = |reason: &str| Error::Device { path: device.host.clone(), reason: reason.to_owned() };
        let metadata = fs::metadata(&device.host).map_err(|error| failed(&error.to_string()))?;
        if metadata.is_dir() {
            return Err(failed("is a folder: name the devices in it one by one"));
        }
        let inside = if device.inside.is_empty() { &device.host } else { &device.inside };
        if !inside.starts_with('/') {
            return Err(Error::NotAbsolute { what: "device", path: inside.clone() });
        }
        let node = node(inside, &metadata).ok_or_else(|| failed("is not a device"))?;
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        if access.len() > 3 || !access.chars().all(|c| "rwm".contains(c)) {
            return Err(failed(&format!("permissions {access:?} are not of r, w and m")));
        }
        devices.rules.push(DeviceRule {
            allow: true,
            typ: Some(node.typ),
            major: Some(node.major),
            minor: Some(node.minor),
            access: access.to_owned(),
        });
        devices.nodes.retain(|known| known.path != node.path);
        devices.nodes.push(node);
    }
    devices.rules.extend(security.device_rules.iter().map(|rule| DeviceRule {
        allow: true,
        typ: match rule.kind {
            DeviceKind::All => None,
            DeviceKind::Block => Some(DeviceType::Block),
            DeviceKind::Char => Some(DeviceType::Char),
        },
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: rule.permissions.clone(),
    }));
    Ok(devices)
}

/// Limits on block devices, which the kernel knows by their numbers.
fn block_io(limits: &BlockIo) -> Result<oci::BlockIo, Error> {
    let mut found = oci::BlockIo { weight: limits.weight, ..oci::BlockIo::default() };
    for (path, weight) in &limits.weights {
        let (major, minor) = block_device(path)?;
        found.weight_device.push(WeightDevice { major, minor, weight: Some(*weight), leaf_weight: None });
    }
    for limit in &limits.rates {
        let (major, minor) = block_device(&limit.path)?;
        let list = match limit.rate {
            Rate::ReadBytes => &mut found.throttle_read_bps_device,
            Rate::WriteBytes => &mut found.throttle_write_bps_device,
            Rate::Reads => &mut found.throttle_read_iops_device,
            Rate::Writes => &mut found.throttle_write_iops_device,
        };
        list.push(ThrottleDevice { major, minor, rate: limit.limit });
    }
    Ok(found)
}

fn block_device(path: &str) -> Result<(i64, i64), Error> {
    let failed = |reason: &str| Error::Device { path: path.to_owned(), reason: reason.to_owned() };
    let metadata = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    let node = node(path, &metadata).filter(|node| node.typ == DeviceType::Block);
    node.map(|node| (node.major, node.minor)).ok_or_else(|| failed("is not a block device"))
}

pub(super) fn node(path: &str, metadata: &fs::Metadata) -> Option<Device> {
    let typ = if metadata.file_type().is_char_device() {
        DeviceType::Char
    } else if metadata.file_type().is_block_device() {
        DeviceType::Block
    } else {
        return None;
    };
    Some(Device {
        path: path.to_owned(),
        typ,
        major: i64::from(major(metadata.rdev())),
        minor: i64::from(minor(metadata.rdev())),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// Every device node below a folder. What cannot be read is not offered.
fn walk(folder: &Path, depth: usize, nodes: &mut Vec<Device>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let own = folder == Path::new("/dev") && name.to_str().is_none_or(|name| OWN.contains(&name));
        let (Ok(metadata), Some(text)) = (entry.metadata(), path.to_str()) else {
            continue;
        };
        if own || nodes.len() >= NODES_MAX {
            continue;
        }
        if metadata.is_dir() && depth > 0 {
            walk(&path, depth - 1, nodes);
        } else {
            nodes.extend(node(text, &metadata));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(host: &str, inside: &str, permissions: &str) -> Security {
        let device = atoll_model::Device {
            host: host.to_owned(),
            inside: inside.to_owned(),
            permissions: permissions.to_owned(),
        };
        Security { devices: vec![device], ..Security::default() }
    }

    #[test]
    fn a_device_by_another_name() {
        let devices = resolve(&security("/dev/zero", "/dev/nil", "r"), &BlockIo::default()).expect("there");
        let node = &devices.nodes[0];
        assert_eq!((node.path.as_str(), node.typ, node.major, node.minor), ("/dev/nil", DeviceType::Char, 1, 5));
        assert_eq!(devices.rules[0].access, "r");
    }

    #[test]
    fn what_is_no_device() {
        let check = |host: &str, permissions: &str| {
            let result = resolve(&security(host, "", permissions), &BlockIo::default());
            assert!(matches!(result, Err(Error::Device { .. })), "{host}: {result:?}");
        };
        check("/dev", "");
        check("/etc/passwd", "");
        check("/dev/there-is-none", "");
        check("/dev/zero", "rx");
        check("/dev/zero", "rwmr");
    }

    #[test]
    fn limits_are_of_block_devices() {
        for path in ["/dev/zero", "/dev/there-is-none", "/etc"] {
            let limits = BlockIo { weights: vec![(path.to_owned(), 10)], ..BlockIo::default() };
            assert!(matches!(resolve(&Security::default(), &limits), Err(Error::Device { .. })), "{path}");
        }
    }

    #[test]
    fn the_privileged_see_them_all() {
        let devices =
            resolve(&Security { privileged: true, ..Security::default() }, &BlockIo::default()).expect("readable");
        assert!(devices.nodes.iter().all(|node| !node.path.starts_with("/dev/pts/")));
        assert!(devices.nodes.iter().any(|node| node.path == "/dev/zero"));
    }
}
