//! Device nodes and links in our own /dev (runtime-spec config-linux.md, "Devices", "Default Devices"; runtime-linux.md).
//!
//! Nodes are made in a tmpfs that no image could fill; where somebody else's /dev is bound, nothing is made.

use std::os::fd::{AsFd, OwnedFd};

use atoll_oci::runtime::{Device, DeviceType};
use atoll_sys::mount::attach;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use super::mounts::{Made, NODE_MODE};
use super::{At, Step, errno, resolve};
use crate::plan::Plan;

/// Links that every container has (runtime-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Fills /dev; `foreign` in a user namespace other than the host's first.
pub(super) fn populate(plan: &Plan, foreign: bool, root: &OwnedFd, made: &Made) -> Step<()> {
    let Some(dev) = &made.dev else { return Ok(()) };
    for device in &plan.devices {
        if foreign && device.typ != DeviceType::Fifo {
            bind(root, device)?;
        } else {
            node(root, device)?;
        }
    }
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("link", name),
        }
    }
    Ok(())
}

fn kind_and_numbers(device: &Device) -> (FileType, u64) {
    let kind = match device.typ {
        DeviceType::Block => FileType::BlockDevice,
        DeviceType::Fifo => FileType::Fifo,
        DeviceType::Char | DeviceType::All => FileType::CharacterDevice,
    };
    let number = |value: i64| u32::try_from(value).unwrap_or_default();
    (kind, rustix::fs::makedev(number(device.major), number(device.minor)))
}

fn node(root: &OwnedFd, device: &Device) -> Step<()> {
    let path = device.path.as_str();
    let fixed = path.starts_with("/dev/");
    let (folder, name) = resolve::parent(root, path, fixed).at("device", path)?;
    let (kind, numbers) = kind_and_numbers(device);
    let mode = device.file_mode.map_or(NODE_MODE, |mode| Mode::from_raw_mode(mode & 0o7777));
    match rustix::fs::mknodat(&folder, name, kind, mode, numbers) {
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).at("device", path)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != numbers {
                return Err(errno(libc::EEXIST)).at("device", path);
            }
        }
        other => other.at("device", path)?,
    }
    if device.uid.is_some() || device.gid.is_some() {
        let (uid, gid) = (device.uid.map(Uid::from_raw), device.gid.map(Gid::from_raw));
        rustix::fs::chownat(&folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at("device owner", path)?;
    }
    Ok(())
}

/// In a user namespace nobody may make nodes: the host's own is bound, when it is the one that is meant.
fn bind(root: &OwnedFd, device: &Device) -> Step<()> {
    let path = device.path.as_str();
    let source = super::root::clone_tree(std::path::Path::new(path), false).at("device", path)?;
    let stat = rustix::fs::fstat(&source).at("device", path)?;
    let (kind, numbers) = kind_and_numbers(device);
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != numbers {
        return Err(errno(libc::ENODEV)).at("device: the host has another one", path);
    }
    let place = resolve::make_file(root, path, path.starts_with("/dev/")).at("device", path)?;
    attach(source.as_fd(), place.as_fd()).at("device", path)
}
