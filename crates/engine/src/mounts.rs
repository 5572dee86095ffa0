//! From what a workload names to what a driver mounts: binds checked, volumes found, the files of its `/etc` written.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use atoll_model::{Mount, MountSource, Network, Propagation, Workload};
use atoll_store::RootFs;

use crate::runtime::{ResolvedMount, ResolvedSource, Root};
use crate::{Engine, Error, host};

/// Where the host's own resolver configuration is.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What a workload gets where the host has none that it could use.
const NO_RESOLVERS: &str = "# Atoll: this host names no DNS server\n";

/// Removes what a volatile mount left in its work folder: the kernel takes that for a crash, and refuses to mount again.
/// The host has not crashed since, or the workload would have been removed with it.
fn forget_volatile(work: &Path) -> Result<(), Error> {
    let folder = work.join("work/incompat/volatile");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::host(format!("removing {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

/// The root file system as a driver takes it: layers by their short names, relative to the folder they share.
pub(crate) fn overlay(root: RootFs, volatile: bool) -> Result<Root, Error> {
    let base = root.lower.first().and_then(|path| path.parent()).map(Path::to_owned).unwrap_or_default();
    let name = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).map(ToOwned::to_owned);
    let lower: Option<Vec<_>> = root.lower.iter().map(name).collect();
    let lower = lower.ok_or_else(|| Error::Invalid("an image without layers cannot run".to_owned()))?;
    forget_volatile(&root.work)?;
    Ok(Root::Overlay { base, lower, upper: root.upper, work: root.work, volatile })
}

impl Engine {
    /// The mounts of a workload, in the order in which they are made: shorter targets first.
    pub(crate) fn resolve_mounts(&self, workload: &Workload, folder: &Path) -> Result<Vec<ResolvedMount>, Error> {
        let mut resolved = Vec::new();
        for mount in &workload.mounts {
            let source = self.resolve(mount)?;
            resolved.push(ResolvedMount { source, target: mount.target.clone(), read_only: mount.read_only });
        }
        for (name, content) in etc_files(workload) {
            let target = format!("/etc/{name}");
            if resolved.iter().any(|mount| mount.target.trim_end_matches('/') == target) {
                continue;
            }
            let path = folder.join(name);
            // What the workload wrote into it stays over a restart.
            if !path.exists() {
                host::write_file(&path, content.as_bytes())?;
            }
            let source = ResolvedSource::Bind { path, propagation: Propagation::Private, recursive: false };
            resolved.push(ResolvedMount { source, target, read_only: false });
        }
        resolved.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
        Ok(resolved)
    }

    fn resolve(&self, mount: &Mount) -> Result<ResolvedSource, Error> {
        match &mount.source {
            MountSource::Bind { path, propagation, recursive, create } => {
                let path = PathBuf::from(path);
                check_bind(&path, *create)?;
                Ok(ResolvedSource::Bind { path, propagation: *propagation, recursive: *recursive })
            }
            MountSource::Volume { name, .. } => {
                if !self.has_volume(name) {
                    return Err(Error::no_volume(name));
                }
                let path = self.volume_data(name);
                host::make_folder(&path)?;
                Ok(ResolvedSource::Bind { path, propagation: Propagation::Private, recursive: false })
            }
            MountSource::Tmpfs { size, mode, options } => {
                Ok(ResolvedSource::Tmpfs { size: *size, mode: *mode, options: options.clone() })
            }
        }
    }
}

fn check_bind(path: &Path, create: bool) -> Result<(), Error> {
    if !path.is_absolute() {
        return Err(Error::Invalid(format!("invalid mount path {}: it must be absolute", path.display())));
    }
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) if create => host::make_folder(path),
        Ok(false) => Err(Error::Invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            path.display()
        ))),
        Err(source) => Err(Error::host(format!("looking at {}", path.display()))(source)),
    }
}

/// The files of `/etc` that belong to a workload's place rather than to its image.
fn etc_files(workload: &Workload) -> [(&'static str, String); 3] {
    let hostname = hostname(workload);
    let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_else(|_| NO_RESOLVERS.to_owned());
    let hosts = match workload.host.network {
        Network::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| hosts(&hostname)),
        Network::None | Network::Bridge(_) => hosts(&hostname),
    };
    [("hostname", format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", resolv_conf)]
}

/// The host name that a workload sees: its own, the host's with the host's network, else its short id.
fn hostname(workload: &Workload) -> String {
    if !workload.host.hostname.is_empty() {
        return workload.host.hostname.clone();
    }
    if workload.host.network == Network::Host {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    workload.id.short().to_string()
}

fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}
