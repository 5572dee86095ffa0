//! From what a workload names to what a driver mounts: binds checked, volumes found, the files of its `/etc` written.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use atoll_model::{Mount, MountSource, Network, Propagation, Workload};
use atoll_store::RootFs;

use crate::network::Endpoint;
use crate::runtime::{ResolvedMount, ResolvedSource, Root};
use crate::{Engine, Error, host};

/// Where the host's own resolver configuration is.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved says which servers it asks itself.
const UPSTREAM_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
const HOSTS: &str = "hosts";
/// The files of `/etc` that belong to a workload's place.
const ETC_FILES: [&str; 3] = ["hostname", HOSTS, "resolv.conf"];
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
    pub(crate) fn resolve_mounts(
        &self,
        workload: &Workload,
        folder: &Path,
        endpoint: Option<&Endpoint>,
    ) -> Result<Vec<ResolvedMount>, Error> {
        let mut resolved = self.own_mounts(workload)?;
        for (name, content) in etc_files(workload, endpoint) {
            let target = format!("/etc/{name}");
            if resolved.iter().any(|mount| mount.target.trim_end_matches('/') == target) {
                continue;
            }
            let path = self.etc_file(workload, folder, name);
            // What the workload wrote into it stays over a restart, unless its own address is in it.
            if !path.exists() || (name == HOSTS && endpoint.is_some()) {
                host::write_file(&path, content.as_bytes())?;
            }
            resolved.push(private(path, target));
        }
        sort(&mut resolved);
        Ok(resolved)
    }

    /// Where a file of a workload's `/etc` lies: on another's network it has that one's.
    fn etc_file(&self, workload: &Workload, own: &Path, name: &str) -> PathBuf {
        if let Network::Workload(id) = &workload.host.network
            && let Ok(other) = self.find(id)
        {
            let file = self.folder(&other.id).join(name);
            if file.exists() {
                return file;
            }
        }
        own.join(name)
    }

    /// The mounts that a workload has while it does not run: none that is memory.
    pub(crate) fn mounts_that_stay(&self, workload: &Workload, folder: &Path) -> Result<Vec<ResolvedMount>, Error> {
        let mut resolved = self.own_mounts(workload)?;
        resolved.retain(|mount| matches!(mount.source, ResolvedSource::Bind { .. }));
        for name in ETC_FILES {
            let (path, target) = (self.etc_file(workload, folder, name), format!("/etc/{name}"));
            if path.exists() && !resolved.iter().any(|mount| mount.target.trim_end_matches('/') == target) {
                resolved.push(private(path, target));
            }
        }
        sort(&mut resolved);
        Ok(resolved)
    }

    fn own_mounts(&self, workload: &Workload) -> Result<Vec<ResolvedMount>, Error> {
        let resolve = |mount: &Mount| {
            let source = self.resolve(mount, workload.host.project.as_deref())?;
            Ok(ResolvedMount { source, target: mount.target.clone(), read_only: mount.read_only })
        };
        workload.mounts.iter().map(resolve).collect()
    }

    fn resolve(&self, mount: &Mount, project: Option<&str>) -> Result<ResolvedSource, Error> {
        match &mount.source {
            MountSource::Bind { path, propagation, recursive, create } => {
                let path = PathBuf::from(path);
                check_bind(&path, *create)?;
                Ok(ResolvedSource::Bind { path, propagation: *propagation, recursive: *recursive })
            }
            MountSource::Volume { name, .. } => {
                match self.volume_table().get(name) {
                    // Another's may have come in its place since the workload was defined.
                    Some(volume) => crate::volume::check_owner(volume, project)?,
                    None => return Err(Error::no_volume(name)),
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

/// Shorter targets first.
fn sort(mounts: &mut [ResolvedMount]) {
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
}

fn private(path: PathBuf, target: String) -> ResolvedMount {
    let source = ResolvedSource::Bind { path, propagation: Propagation::Private, recursive: false };
    ResolvedMount { source, target, read_only: false }
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
fn etc_files(workload: &Workload, endpoint: Option<&Endpoint>) -> [(&'static str, String); 3] {
    let hostname = &workload.host.hostname;
    let read = |path| std::fs::read_to_string(path).ok();
    let resolvers = read(RESOLV_CONF);
    let (resolvers, hosts) = match workload.host.network {
        Network::Host => (resolvers, read("/etc/hosts").unwrap_or_else(|| hosts(hostname, None))),
        Network::None | Network::Workload(_) => (resolvers, hosts(hostname, None)),
        Network::Bridge(_) => {
            let reachable = resolvers.as_deref().and_then(reachable_resolvers);
            let reachable = reachable.or_else(|| read(UPSTREAM_RESOLV_CONF).as_deref().and_then(reachable_resolvers));
            let forwarded = || endpoint?.resolver.map(|resolver| format!("nameserver {resolver}\n"));
            let reachable = reachable.or_else(forwarded);
            (reachable, hosts(hostname, endpoint))
        }
    };
    let resolvers = resolvers.unwrap_or_else(|| NO_RESOLVERS.to_owned());
    let [hostname_file, hosts_file, resolvers_file] = ETC_FILES;
    [(hostname_file, format!("{hostname}\n")), (hosts_file, hosts), (resolvers_file, resolvers)]
}

/// A resolver configuration without the servers of the host's own loopback, which a workload does not reach; none when no
/// server is left.
fn reachable_resolvers(text: &str) -> Option<String> {
    let server = |line: &str| line.strip_prefix("nameserver").map(|rest| rest.trim().to_owned());
    let loops = |address: &String| address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let kept: Vec<&str> = text.lines().filter(|line| !server(line).is_some_and(|address| loops(&address))).collect();
    let some_left = kept.iter().any(|line| server(line).is_some());
    some_left.then(|| kept.join("\n") + "\n")
}

fn hosts(hostname: &str, endpoint: Option<&Endpoint>) -> String {
    let (own, alias) = match endpoint {
        Some(endpoint) => (format!("{}\t{hostname}\n", endpoint.address), String::new()),
        None => (String::new(), format!(" {hostname}")),
    };
    format!(
        "127.0.0.1\tlocalhost{alias}\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{own}"
    )
}

#[cfg(test)]
mod tests {
    use super::reachable_resolvers;

    #[test]
    fn resolvers_of_the_loopback_are_not_for_workloads() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(reachable_resolvers(text).as_deref(), expected);
        check("nameserver 192.0.2.1\nsearch a\n", Some("nameserver 192.0.2.1\nsearch a\n"));
        check("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", Some("nameserver 192.0.2.1\n"));
        check("nameserver 127.0.0.53\noptions edns0\n", None);
        check("nameserver ::1\n", None);
        check("", None);
    }
}
