//! What is true of the host, read once.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use atoll_engine::{Settings, foreign_drops, missing};
use atoll_model::Timestamp;
use atoll_sys::netlink::message::Batch;
use atoll_sys::netlink::route::{self, Veth};
use atoll_sys::netlink::{Protocol, Socket};
use atoll_sys::netns;
use rustix::process::{Resource, getrlimit};

use crate::rootless::has_subordinate_ids;

/// Programs that parts of Atoll use.
const PROGRAMS: [&str; 5] = ["criu", "newgidmap", "newuidmap", "pasta", "slirp4netns"];
/// Devices that parts of Atoll use.
const DEVICES: [&str; 2] = ["/dev/kvm", "/dev/net/tun"];
/// Names within a network namespace that is gone right away.
const BRIDGE: &str = "b";
const PORT: &str = "v";
const PEER: &str = "p";

/// The host, as far as checks look at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// Without which no container runs.
    pub(super) missing: Vec<String>,
    /// Whether an ordinary user's daemon is what is looked at.
    pub(super) rootless: bool,
    pub(super) groups: Groups,
    pub(super) network: Network,
    pub(super) users: Users,
    /// Those of [`PROGRAMS`] that are there.
    pub(super) programs: BTreeSet<&'static str>,
    /// Those of [`DEVICES`] that can be opened.
    pub(super) devices: BTreeSet<&'static str>,
    pub(super) disk: Disk,
    pub(super) limits: Limits,
    pub(super) seccomp: bool,
    pub(super) now: Timestamp,
}

/// Control groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// Whether version 2 alone is in use.
    pub(super) unified: bool,
    /// Controllers of all hierarchies.
    pub(super) controllers: BTreeSet<String>,
}

/// What containers' networks are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// Why no bridge with a port can be made; empty if one can.
    pub(super) bridge: String,
    /// Why the packet filter cannot be read.
    pub(super) filter: String,
    /// Chains of others that drop what containers send.
    pub(super) drops: Vec<String>,
}

/// User namespaces and their ids.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Users {
    /// How many such namespaces there may be; `None`: the kernel has none.
    pub(super) namespaces: Option<u64>,
    /// Whether ordinary users may make them.
    pub(super) unprivileged: bool,
    /// Whether this user has subordinate ids, or needs none.
    pub(super) subordinate: bool,
}

/// The file system of the root.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    /// Bytes, without what only root may fill.
    pub(super) size: u64,
    pub(super) free: u64,
    /// Files that it can hold; 0 where there is no such limit.
    pub(super) files: u64,
    pub(super) free_files: u64,
    /// Whether it counts bytes by project.
    pub(super) quota: bool,
    pub(super) watermark: bool,
}

/// Numbers of things.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Descriptors that a process of this user may have; `None` is any number.
    pub(super) descriptors: Option<u64>,
    /// Processes of the host.
    pub(super) processes: u64,
    pub(super) inotify_instances: u64,
    pub(super) inotify_watches: u64,
}

impl Host {
    pub(super) fn read(settings: &Settings) -> Self {
        let rootless = settings.rootless;
        Self {
            missing: missing(&settings.shim),
            rootless,
            groups: Groups::read(),
            network: if rootless { Network::default() } else { Network::read() },
            users: Users::read(rootless),
            programs: PROGRAMS.into_iter().filter(|name| is_program(name)).collect(),
            devices: DEVICES.into_iter().filter(|path| opens(path)).collect(),
            disk: Disk::read(settings),
            limits: Limits::read(),
            seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            now: SystemTime::now().into(),
        }
    }
}

impl Groups {
    fn read() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let unified = atoll_sys::cgroup::Layout::parse(&mounts, &own).is_unified();
        let v2 = mounts.lines().filter(|line| line.contains(" - cgroup2 ")).filter_map(|line| line.split(' ').nth(4));
        let handed = v2.map(|point| std::fs::read_to_string(Path::new(point).join("cgroup.controllers")));
        Self { unified, controllers: controllers(&own, handed.filter_map(Result::ok)) }
    }
}

/// From `/proc/self/cgroup`, which names those of version 1, and the lists of version 2.
fn controllers(own: &str, v2: impl Iterator<Item = String>) -> BTreeSet<String> {
    let v1 = own.lines().filter_map(|line| line.split(':').nth(1)).flat_map(|names| names.split(','));
    let mut all: BTreeSet<String> = v1.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    for list in v2 {
        all.extend(list.split_ascii_whitespace().map(str::to_owned));
    }
    // They have other names there.
    for (new, old) in [("io", "blkio")] {
        if all.remove(old) {
            all.insert(new.to_owned());
        }
    }
    all
}

impl Network {
    fn read() -> Self {
        let bridge = try_bridge().err().unwrap_or_default();
        let (drops, filter) = match foreign_drops() {
            Ok(drops) => (drops, String::new()),
            Err(error) => (Vec::new(), with_cause(&error)),
        };
        Self { bridge, filter, drops }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Makes a bridge with a port in a network namespace that nobody else sees.
fn try_bridge() -> Result<(), String> {
    let made = netns::create(|| -> Result<(), String> {
        let said = |error: atoll_sys::netlink::Error| with_cause(&error);
        let namespace = netns::current().map_err(|error| error.to_string())?;
        let mut socket = Socket::open(Protocol::Route).map_err(said)?;
        let mut batch = Batch::default();
        route::create_bridge(&mut batch, BRIDGE, [2, 0, 0, 0, 0, 1]);
        socket.execute(&batch).map_err(|error| format!("no bridge: {}", said(error)))?;
        let bridge = route::link(&mut socket, BRIDGE).map_err(said)?.ok_or("the bridge is gone")?;
        let veth = Veth {
            name: PORT,
            master: bridge.index,
            mtu: 1500,
            peer: PEER,
            peer_mac: [2, 0, 0, 0, 0, 2],
            namespace: namespace.as_fd(),
        };
        let mut batch = Batch::default();
        route::create_veth(&mut batch, &veth);
        socket.execute(&batch).map(drop).map_err(|error| format!("no veth pair: {}", said(error)))
    });
    made.map_err(|error| format!("no network namespace: {error}"))?.1
}

impl Users {
    fn read(rootless: bool) -> Self {
        // Debian's kernels had a switch of their own, newer Ubuntus have another.
        let unprivileged = number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
            && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != Some(1);
        let subordinate = !rootless || has_subordinate_ids();
        Self { namespaces: number("/proc/sys/user/max_user_namespaces"), unprivileged, subordinate }
    }
}

impl Disk {
    fn read(settings: &Settings) -> Self {
        // Before the first start there is no root yet: its parent is on the same disk.
        let there = settings.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let watermark = settings.watermark.is_some();
        let root = settings.root.clone();
        let Ok(stat) = rustix::fs::statvfs(there) else { return Self { root, watermark, ..Self::default() } };
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Self {
            root,
            size: bytes(used + stat.f_bavail),
            free: bytes(stat.f_bavail),
            files: stat.f_files,
            free_files: stat.f_favail,
            quota: has_project_quota(there),
            watermark,
        }
    }
}

/// Whether the file system that a path is on was mounted with project quotas.
fn has_project_quota(path: &Path) -> bool {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    options_of(&text, &path).is_some_and(|options| options.split(',').any(|one| matches!(one, "prjquota" | "pquota")))
}

/// The options of the file system that a path is on: of the deepest mount point above it, the last one there.
fn options_of<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mountinfo.lines().filter_map(|line| Some((line.split(' ').nth(4)?, line.rsplit(' ').next()?)));
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| Path::new(point).components().count()).map(|(_, options)| options)
}

impl Limits {
    fn read() -> Self {
        let small = |path| number(path).unwrap_or(u64::MAX);
        Self {
            descriptors: getrlimit(Resource::Nofile).maximum,
            processes: small("/proc/sys/kernel/pid_max").min(small("/proc/sys/kernel/threads-max")),
            inotify_instances: small("/proc/sys/fs/inotify/max_user_instances"),
            inotify_watches: small("/proc/sys/fs/inotify/max_user_watches"),
        }
    }
}

fn number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn opens(path: &str) -> bool {
    std::fs::File::options().read(true).write(true).open(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_both_versions_are_found() {
        let own = "12:pids:/\n11:cpu,cpuacct:/\n10:blkio:/\n1:name=systemd:/\n0::/init\n";
        let all = controllers(own, ["hugetlb memory\n".to_owned()].into_iter());
        let wanted = ["cpu", "cpuacct", "hugetlb", "io", "memory", "name=systemd", "pids"];
        assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn options_are_those_of_the_deepest_mount() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /var/lib rw - xfs /dev/sdb rw,prjquota\n\
                    3 1 8:3 / /var/lib/other rw - xfs /dev/sdc rw\n";
        assert_eq!(options_of(text, Path::new("/var/lib/atoll")), Some("rw,prjquota"));
        assert_eq!(options_of(text, Path::new("/srv")), Some("rw"));
        assert_eq!(options_of("", Path::new("/srv")), None);
    }
}
