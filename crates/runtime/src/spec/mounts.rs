//! A workload's mounts: Docker's defaults, then what was asked for, parents before what lies in them.

use std::path::Path;

use atoll_model::{Ipc, Propagation, Workload};
use atoll_oci::runtime::Mount;

use super::{Error, INIT};
use crate::{ResolvedMount, ResolvedSource};

/// Size of `/dev/shm` in bytes, unless given.
const SHM: u64 = 64 << 20;

/// Where shared memory is, on hosts too.
const SHM_TARGET: &str = "/dev/shm";

/// Group of terminals (Debian's `tty`, as Docker has it), where there are that many groups.
const TTY: u32 = 5;

pub(super) fn all(workload: &Workload, groups: u32, wanted: &[ResolvedMount]) -> Result<Vec<Mount>, Error> {
    let mut mounts = defaults(workload, groups);
    // What is asked for replaces a default; one for all of /dev replaces those below it too.
    mounts.retain(|default| {
        !wanted.iter().any(|wanted| {
            let target = normal(&wanted.target);
            target == default.destination || (target == "/dev" && default.destination.starts_with("/dev/"))
        })
    });
    let mut wanted: Vec<&ResolvedMount> = wanted.iter().collect();
    wanted.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    for mount in wanted {
        mounts.push(one(mount)?);
    }
    Ok(mounts)
}

/// The small init, which is one of the supervisor's modes.
pub(super) fn init(shim: &Path) -> Result<Mount, Error> {
    let options = ["bind", "ro", "nosuid", "nodev", "rprivate"];
    Ok(mount(INIT, "bind", text(shim)?, options.map(str::to_owned).to_vec()))
}

/// How the root mount passes mounts on: as much as any mount in it needs to.
pub(super) fn root_propagation(mounts: &[ResolvedMount]) -> &'static str {
    let of = |mount: &ResolvedMount| match &mount.source {
        ResolvedSource::Bind { propagation, .. } => *propagation,
        ResolvedSource::Tmpfs { .. } => Propagation::Private,
    };
    if mounts.iter().any(|mount| of(mount) == Propagation::Shared) {
        "rshared"
    } else if mounts.iter().any(|mount| of(mount) == Propagation::Slave) {
        "rslave"
    } else {
        "rprivate"
    }
}

fn defaults(workload: &Workload, groups: u32) -> Vec<Mount> {
    let view = if workload.security.privileged { "rw" } else { "ro" };
    let shm = workload.host.shm_size.unwrap_or(SHM);
    let tty = if groups > TTY { format!(",gid={TTY}") } else { String::new() };
    let list = |options: &str| options.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut mounts = vec![
        mount("/proc", "proc", "proc", list("nosuid,noexec,nodev")),
        mount("/dev", "tmpfs", "tmpfs", list("nosuid,strictatime,mode=755,size=65536k")),
        mount("/dev/pts", "devpts", "devpts", list(&format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620{tty}"))),
        mount("/sys", "sysfs", "sysfs", list(&format!("nosuid,noexec,nodev,{view}"))),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", list(&format!("{view},nosuid,noexec,nodev"))),
        mount("/dev/mqueue", "mqueue", "mqueue", list("nosuid,noexec,nodev")),
    ];
    let bound = || list("bind,nosuid,noexec,nodev,rprivate");
    mounts.extend(match workload.host.namespaces.ipc {
        Ipc::None => None,
        Ipc::Private | Ipc::Shareable => {
            let options = format!("nosuid,noexec,nodev,mode=1777,size={shm}");
            Some(mount(SHM_TARGET, "tmpfs", "shm", list(&options)))
        }
        // Of another workload the supervisor knows where it is.
        Ipc::Host | Ipc::Workload(_) => Some(mount(SHM_TARGET, "bind", SHM_TARGET, bound())),
    });
    mounts
}

fn mount(destination: &str, typ: &str, source: &str, options: Vec<String>) -> Mount {
    Mount {
        destination: destination.to_owned(),
        typ: typ.to_owned(),
        source: source.to_owned(),
        options,
        ..Mount::default()
    }
}

fn one(wanted: &ResolvedMount) -> Result<Mount, Error> {
    let destination = normal(&wanted.target);
    if !destination.starts_with('/') {
        return Err(Error::NotAbsolute { what: "mount target", path: wanted.target.clone() });
    }
    if destination == "/" {
        return Err(Error::Limit("invalid mount: the target cannot be /".to_owned()));
    }
    let access = if wanted.read_only { "ro" } else { "rw" };
    match &wanted.source {
        ResolvedSource::Bind { path, propagation, recursive } => {
            if !path.is_absolute() {
                return Err(Error::NotAbsolute { what: "mount source", path: path.display().to_string() });
            }
            let bind = if *recursive { "rbind" } else { "bind" };
            let propagation = match propagation {
                Propagation::Private => "rprivate",
                Propagation::Slave => "rslave",
                Propagation::Shared => "rshared",
            };
            let options = [bind, access, propagation].map(str::to_owned).to_vec();
            Ok(mount(&destination, "bind", text(path)?, options))
        }
        ResolvedSource::Tmpfs { size, mode, options } => {
            let mut all: Vec<String> = ["nosuid", "nodev", access].map(str::to_owned).to_vec();
            all.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            all.extend(size.map(|bytes| format!("size={bytes}")));
            let given = options.iter().flat_map(|text| text.split(',')).filter(|option| !option.is_empty());
            let mut execute = false;
            for option in given {
                check_tmpfs(option)?;
                execute |= option == "exec" || option == "noexec";
                all.push(option.to_owned());
            }
            if !execute {
                all.push("noexec".to_owned());
            }
            Ok(mount(&destination, "tmpfs", "tmpfs", all))
        }
    }
}

/// The options of tmpfs(5) and those of every mount that Docker lets through.
fn check_tmpfs(option: &str) -> Result<(), Error> {
    const FLAGS: &[&str] = &[
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "relatime",
        "ro",
        "rw",
        "strictatime",
        "suid",
        "sync",
    ];
    const VALUES: &[&str] = &["gid", "huge", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid"];
    let known = match option.split_once('=') {
        None => FLAGS.contains(&option),
        Some((name, _)) => VALUES.contains(&name),
    };
    if known { Ok(()) } else { Err(Error::TmpfsOption(option.to_owned())) }
}

/// Without doubled and trailing slashes.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let lead = if path.starts_with('/') { "/" } else { "" };
    format!("{lead}{}", parts.join("/"))
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::NotText(path.to_owned()))
}
