//! Fills a draft's gaps from its image: the rules by which Docker does it, as a pure function.

use std::collections::BTreeMap;

use atoll_model::{
    Draft, HealthCheck, Host, ImageRef, LifeCycle, Mount, MountSource, Network, Probe, Restart, Timestamp, Workload,
    WorkloadId,
};
use atoll_oci::config::{Config, ImageConfig};

use crate::Error;

/// `PATH` of a workload whose image sets none, as Docker's.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a workload is called and when it was made.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: WorkloadId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// What the host is called: so are workloads on its network that have no name of their own there.
    pub(crate) host_name: String,
}

/// A workload's place, with a host name: its own, the host's with the host's network or names, else its short id.
fn named(mut host: Host, identity: &Identity) -> Host {
    if host.hostname.is_empty() {
        let of_host = host.network == Network::Host || host.namespaces.host_uts;
        host.hostname = if of_host { identity.host_name.clone() } else { identity.id.short().to_string() };
    }
    host
}

/// The workload that a draft and its image make. Anonymous volumes get their names from `volume_name`.
pub(crate) fn fill(
    draft: Draft,
    identity: Identity,
    image: ImageRef,
    config: &ImageConfig,
    mut volume_name: impl FnMut() -> Result<String, Error>,
) -> Result<Workload, Error> {
    let defaults = config.config.clone();
    let host = named(draft.host, &identity);
    let life = life(draft.life, &defaults)?;
    let mut command = draft.command;
    if command.entrypoint.is_empty() && !draft.replace_entrypoint {
        if command.cmd.is_empty() {
            command.cmd = defaults.cmd.unwrap_or_default();
        }
        command.entrypoint = defaults.entrypoint.unwrap_or_default();
    }
    if command.args().is_empty() {
        return Err(Error::Invalid("no command specified: the image has none, so name one".to_owned()));
    }
    command.env = merge_env(defaults.env, command.env);
    if command.working_dir.is_empty() {
        command.working_dir = defaults.working_dir;
    }
    if !command.working_dir.is_empty() && !command.working_dir.starts_with('/') {
        return Err(Error::Invalid(format!(
            "the working directory {:?} is invalid: it needs to be an absolute path",
            command.working_dir
        )));
    }
    if command.user.is_empty() {
        command.user = defaults.user;
    }
    for port in defaults.exposed_ports.into_keys() {
        if !command.exposed_ports.contains(&port) {
            command.exposed_ports.push(port);
        }
    }
    let mut mounts = draft.mounts;
    check_targets(&mounts)?;
    for mount in &mut mounts {
        if let MountSource::Volume { name, .. } = &mut mount.source
            && name.is_empty()
        {
            *name = volume_name()?;
        }
    }
    for target in defaults.volumes.into_keys() {
        if !mounts.iter().any(|mount| same_path(&mount.target, &target)) {
            let source = MountSource::Volume { name: volume_name()?, copy: true };
            mounts.push(Mount { source, target, read_only: false });
        }
    }
    let mut labels = defaults.labels;
    labels.extend(draft.labels);
    Ok(Workload {
        id: identity.id,
        name: identity.name,
        created: identity.created,
        isolation: draft.isolation,
        image,
        command,
        host,
        security: draft.security,
        resources: draft.resources,
        mounts,
        life,
        labels,
    })
}

/// What happens around its runs. A check of the image's that makes no sense is none, as in Docker.
fn life(mut life: LifeCycle, image: &Config) -> Result<LifeCycle, Error> {
    if life.stop_signal.is_empty() {
        life.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    if !life.stop_signal.is_empty() && atoll_model::signal_number(&life.stop_signal).is_none() {
        return Err(Error::Invalid(format!("invalid stop signal {:?}", life.stop_signal)));
    }
    let mut check = image.healthcheck.as_ref().and_then(|check| HealthCheck::try_from(check).ok()).unwrap_or_default();
    check.shell = image.shell.clone().unwrap_or_default();
    life.health = life.health.or(check);
    if !matches!(life.health.probe, Probe::Shell(_)) {
        life.health.shell.clear();
    }
    if matches!(life.restart, Restart::OnUnhealthy { .. }) && life.health.args().is_none() {
        let why = "restart policy 'on-unhealthy' needs a health check: the image has none, so say what to run for one";
        return Err(Error::Invalid(why.to_owned()));
    }
    Ok(life)
}

/// The image's environment with the caller's on top: same names replaced in place, a bare name taken away.
fn merge_env(image: Vec<String>, caller: Vec<String>) -> Vec<String> {
    let mut merged = image;
    if !merged.iter().any(|entry| name(entry) == "PATH") {
        merged.insert(0, PATH.to_owned());
    }
    for entry in caller {
        let at = merged.iter().position(|present| name(present) == name(&entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => merged[at] = entry,
            (None, true) => merged.push(entry),
            (Some(at), false) => {
                merged.remove(at);
            }
            (None, false) => {}
        }
    }
    merged
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn check_targets(mounts: &[Mount]) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for mount in mounts {
        let target = mount.target.trim_end_matches('/');
        if !mount.target.starts_with('/') || target.is_empty() {
            return Err(Error::Invalid(format!(
                "invalid mount target {:?}: it must be an absolute path other than /",
                mount.target
            )));
        }
        if seen.insert(target, ()).is_some() {
            return Err(Error::Invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    Ok(())
}

fn same_path(left: &str, right: &str) -> bool {
    left.trim_end_matches('/') == right.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use atoll_oci::digest::Digest;

    use super::*;

    fn image() -> ImageConfig {
        serde_json::from_value(serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {
                "Entrypoint": ["/entry"], "Cmd": ["serve"], "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/srv",
                "User": "www", "Labels": {"a": "image", "b": "image"}, "StopSignal": "SIGINT",
                "Volumes": {"/data": {}, "/cache": {}}, "ExposedPorts": {"80/tcp": {}},
                "Healthcheck": {"Test": ["CMD-SHELL", "ok"], "Retries": 7}, "Shell": ["/bin/ash", "-c"],
            },
        }))
        .expect("a configuration")
    }

    fn filled(draft: Draft) -> Result<Workload, Error> {
        let digest = Digest::sha256(b"");
        let reference = ImageRef { name: "web".to_owned(), manifest: digest.clone(), id: digest, layers: Vec::new() };
        let identity = Identity {
            id: WorkloadId::from_bytes([1; 32]),
            name: "x1".to_owned(),
            created: Timestamp(1),
            host_name: "host".to_owned(),
        };
        fill(draft, identity, reference, &image(), || Ok("anonymous".to_owned()))
    }

    fn command(entrypoint: &[&str], cmd: &[&str], replace: bool) -> Result<Vec<String>, Error> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut draft = Draft { replace_entrypoint: replace, ..Draft::default() };
        draft.command.entrypoint = words(entrypoint);
        draft.command.cmd = words(cmd);
        Ok(filled(draft)?.command.args())
    }

    #[test]
    fn host_names() {
        let check = |name: &str, network: Network, expected: &str| {
            let mut draft = Draft::default();
            draft.command.cmd = vec!["true".to_owned()];
            draft.host.network = network;
            name.clone_into(&mut draft.host.hostname);
            assert_eq!(filled(draft).expect("valid").host.hostname, expected);
        };
        check("own", Network::Host, "own");
        check("", Network::Host, "host");
        check("", Network::None, "010101010101");
        check("", Network::Bridge("bridge".to_owned()), "010101010101");
    }

    #[test]
    fn command_lines() {
        let check = |entrypoint: &[&str], cmd: &[&str], replace: bool, expected: &[&str]| {
            assert_eq!(command(entrypoint, cmd, replace).expect("valid"), expected);
        };
        check(&[], &[], false, &["/entry", "serve"]);
        check(&[], &["x"], false, &["/entry", "x"]);
        check(&["/e"], &[], false, &["/e"]);
        check(&["/e"], &["x"], true, &["/e", "x"]);
        check(&[], &["x"], true, &["x"]);
        assert!(matches!(command(&[], &[], true), Err(Error::Invalid(_))));
    }

    #[test]
    fn environments() {
        let check = |image: &[&str], caller: &[&str], expected: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(merge_env(words(image), words(caller)), expected);
        };
        check(&["PATH=/x", "A=1"], &["A=2", "B="], &["PATH=/x", "A=2", "B="]);
        check(&["PATH=/x", "A=1"], &["A"], &["PATH=/x"]);
        check(&["PATH=/x"], &["B"], &["PATH=/x"]);
        check(&[], &[], &[PATH]);
    }

    #[test]
    fn the_rest_comes_from_the_image_unless_given() {
        let workload = filled(Draft {
            labels: BTreeMap::from([("a".to_owned(), "mine".to_owned())]),
            mounts: vec![Mount {
                source: MountSource::Tmpfs { size: None, mode: None, options: Vec::new() },
                target: "/cache/".to_owned(),
                read_only: false,
            }],
            ..Draft::default()
        })
        .expect("valid");
        assert_eq!(workload.command.working_dir, "/srv");
        assert_eq!(workload.command.user, "www");
        assert_eq!(workload.life.stop_signal, "SIGINT");
        assert_eq!(workload.life.health.args(), Some(["/bin/ash", "-c", "ok"].map(str::to_owned).into()));
        assert_eq!(workload.life.health.retries, 7);
        assert_eq!(workload.labels["a"], "mine");
        assert_eq!(workload.labels["b"], "image");
        assert_eq!(workload.command.exposed_ports, ["80/tcp"]);
        let targets: Vec<_> = workload.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/cache/", "/data"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let tmpfs = |target: &str| Mount {
            source: MountSource::Tmpfs { size: None, mode: None, options: Vec::new() },
            target: target.to_owned(),
            read_only: false,
        };
        let check = |mounts: Vec<Mount>| {
            assert!(matches!(filled(Draft { mounts, ..Draft::default() }), Err(Error::Invalid(_))));
        };
        check(vec![tmpfs("/a"), tmpfs("/a/")]);
        check(vec![tmpfs("a")]);
        check(vec![tmpfs("/")]);
        let mut draft = Draft::default();
        draft.command.working_dir = "srv".to_owned();
        assert!(filled(draft).is_err());
        let mut draft = Draft::default();
        draft.life.stop_signal = "SIGNOPE".to_owned();
        assert!(filled(draft).is_err());
        let mut draft = Draft::default();
        draft.life.restart = Restart::OnUnhealthy { max: 0 };
        assert!(filled(draft.clone()).is_ok());
        draft.life.health.probe = Probe::None;
        assert!(filled(draft).is_err());
    }
}
