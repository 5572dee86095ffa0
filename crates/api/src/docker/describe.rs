//! A workload and its phase as the API's answers.
//!
//! What only the engine knows (paths, exec sessions, the last error) comes in [`Extras`]; the rest is in the values.

use std::collections::BTreeMap;

use atoll_model::{
    Checked, Health, HealthCheck, HealthStatus, Mount, MountSource, Network, Phase, PortBinding, Propagation, Stdin,
    Timestamp, Workload,
};

use super::config::{DeviceMapping, HostConfig, LogConfig, UlimitRequest};
use super::container::{
    ContainerConfig, ContainerInspect, ContainerSummary, EndpointSettings, GraphDriver, HealthLog, HealthState,
    HostConfigSummary, MountPoint, NetworkSettings, NetworkSettingsSummary, State,
};
use super::{devices, human, limits, mounts, namespaces, ports, restart, security, time};

/// What the engine knows beyond the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Path of its log.
    pub log_path: String,
    /// Bytes that it has written, and those with its image's, where they were asked for.
    pub sizes: Option<(u64, u64)>,
    /// Where it is on its network, while it runs.
    pub endpoint: EndpointSettings,
    /// Its ports that answer on the host, while it runs.
    pub ports: Vec<PortBinding>,
    /// Its exec sessions.
    pub execs: Vec<String>,
    /// Why its last start failed.
    pub error: String,
    /// Restarts by its policy since somebody started it.
    pub restarts: u32,
    /// How well it is, where that is checked.
    pub health: Option<Health>,
    /// Folder below which volumes lie as `NAME/_data`.
    pub volumes: String,
    /// Paths that clients show, as `UpperDir`.
    pub graph: BTreeMap<String, String>,
}

/// One line of a list.
#[must_use]
pub fn summary(workload: &Workload, phase: &Phase, extras: &Extras, now: Timestamp) -> ContainerSummary {
    let network = network_mode(&workload.host.network);
    ContainerSummary {
        id: workload.id.to_string(),
        names: vec![format!("/{}", workload.name)],
        image: workload.image.name.clone(),
        image_id: workload.image.id.to_string(),
        command: command_line(&workload.command.args()),
        created: workload.created.seconds(),
        ports: ports::listed(exposed(workload, extras), &extras.ports),
        labels: workload.labels.clone(),
        state: phase.status().to_owned(),
        status: status(phase, extras.health.as_ref(), now),
        network_settings: NetworkSettingsSummary { networks: networks(&network, &extras.endpoint) },
        host_config: HostConfigSummary { network_mode: network },
        mounts: workload.mounts.iter().map(|mount| mount_point(mount, &extras.volumes)).collect(),
        size_rw: extras.sizes.map(|(written, _)| written),
        size_root_fs: extras.sizes.map(|(_, all)| all),
    }
}

/// Everything about one.
#[must_use]
pub fn inspect(workload: &Workload, phase: &Phase, extras: &Extras) -> ContainerInspect {
    let mut args = workload.command.args();
    let path = if args.is_empty() { String::new() } else { args.remove(0) };
    let network = network_mode(&workload.host.network);
    ContainerInspect {
        id: workload.id.to_string(),
        created: time::rfc3339(workload.created),
        path,
        args,
        state: state(phase, extras),
        image: workload.image.id.to_string(),
        log_path: extras.log_path.clone(),
        restart_count: extras.restarts.into(),
        name: format!("/{}", workload.name),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!extras.execs.is_empty()).then(|| extras.execs.clone()),
        host_config: host_config(workload),
        graph_driver: GraphDriver { name: "overlay2".to_owned(), data: extras.graph.clone() },
        mounts: workload.mounts.iter().map(|mount| mount_point(mount, &extras.volumes)).collect(),
        size_rw: extras.sizes.map(|(written, _)| written),
        size_root_fs: extras.sizes.map(|(_, all)| all),
        config: config(workload),
        network_settings: NetworkSettings {
            ports: ports::answering(exposed(workload, extras), &extras.ports),
            endpoint_id: extras.endpoint.endpoint_id.clone(),
            gateway: extras.endpoint.gateway.clone(),
            ip_address: extras.endpoint.ip_address.clone(),
            ip_prefix_len: extras.endpoint.ip_prefix_len,
            mac_address: extras.endpoint.mac_address.clone(),
            networks: networks(&network, &extras.endpoint),
            ..NetworkSettings::default()
        },
        ..ContainerInspect::default()
    }
}

/// Ports that could be reached: none while it is on no network.
fn exposed<'a>(workload: &'a Workload, extras: &Extras) -> &'a [String] {
    if extras.endpoint.ip_address.is_empty() { &[] } else { &workload.command.exposed_ports }
}

/// A network as `NetworkMode` names it.
#[must_use]
pub fn network_mode(network: &Network) -> String {
    match network {
        Network::None => "none".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Bridge(name) => name.clone(),
        Network::Workload(id) => format!("container:{id}"),
    }
}

/// Whoever is on another workload's network has no place of its own there.
fn networks(name: &str, endpoint: &EndpointSettings) -> BTreeMap<String, EndpointSettings> {
    if namespaces::container(name).is_some() {
        return BTreeMap::new();
    }
    let network_id = super::system::network_id(name);
    BTreeMap::from([(name.to_owned(), EndpointSettings { network_id, ..endpoint.clone() })])
}

/// A command line on one line, words with spaces in quotes.
#[must_use]
pub fn command_line(args: &[String]) -> String {
    let word = |word: &String| {
        if word.contains(' ') { format!("'{}'", word.replace('\'', "'\\''")) } else { word.clone() }
    };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// `Up 5 minutes`, `Up 5 minutes (healthy)`, `Exited (0) 3 seconds ago`, `Created` …
#[must_use]
pub fn status(phase: &Phase, health: Option<&Health>, now: Timestamp) -> String {
    let since = |at: Timestamp| human::duration(now.seconds().saturating_sub(at.seconds()));
    match phase {
        Phase::Created { .. } | Phase::Starting { before: None } => "Created".to_owned(),
        Phase::Running { started, .. } => match health.map(|health| health.status) {
            None => format!("Up {}", since(*started)),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", since(*started)),
            Some(known) => format!("Up {} ({})", since(*started), known.name()),
        },
        Phase::Paused { started, .. } => format!("Up {} (Paused)", since(*started)),
        Phase::Restarting { exit, .. } => format!("Restarting ({}) {} ago", exit.code, since(exit.at)),
        Phase::Exited { exit, .. } | Phase::Starting { before: Some(exit) } => {
            format!("Exited ({}) {} ago", exit.code, since(exit.at))
        }
        Phase::Removing => "Removal In Progress".to_owned(),
    }
}

fn health_state(health: &Health) -> HealthState {
    let log = |checked: &Checked| HealthLog {
        start: time::rfc3339(checked.start),
        end: time::rfc3339(checked.end),
        exit_code: checked.code,
        output: checked.output.clone(),
    };
    HealthState {
        status: health.status.name().to_owned(),
        failing_streak: health.failing_streak,
        log: health.log.iter().map(log).collect(),
    }
}

fn state(phase: &Phase, extras: &Extras) -> State {
    let never = || time::rfc3339(Timestamp::NEVER);
    let mut state = State {
        status: phase.status().to_owned(),
        // As Docker has it, one that is restarting runs.
        running: phase.is_up(),
        restarting: matches!(phase, Phase::Restarting { .. }),
        paused: matches!(phase, Phase::Paused { .. }),
        pid: phase.pid().unwrap_or(0),
        error: extras.error.clone(),
        health: extras.health.as_ref().map(health_state),
        started_at: never(),
        finished_at: never(),
        ..State::default()
    };
    match phase {
        Phase::Created { failure } => state.exit_code = failure.unwrap_or(0),
        Phase::Running { started, .. } | Phase::Paused { started, .. } => state.started_at = time::rfc3339(*started),
        Phase::Exited { started, exit } | Phase::Restarting { started, exit } => {
            state.started_at = time::rfc3339(*started);
            state.finished_at = time::rfc3339(exit.at);
            (state.exit_code, state.oom_killed) = (exit.code, exit.oom_killed);
        }
        Phase::Starting { before: Some(exit) } => {
            state.finished_at = time::rfc3339(exit.at);
            (state.exit_code, state.oom_killed) = (exit.code, exit.oom_killed);
        }
        Phase::Starting { before: None } | Phase::Removing => {}
    }
    state
}

fn mount_point(mount: &Mount, volumes: &str) -> MountPoint {
    let point = MountPoint {
        destination: mount.target.clone(),
        rw: !mount.read_only,
        mode: if mount.read_only { "ro" } else { "" }.to_owned(),
        ..MountPoint::default()
    };
    match &mount.source {
        MountSource::Bind { path, propagation, .. } => MountPoint {
            kind: "bind".to_owned(),
            source: path.clone(),
            propagation: match propagation {
                Propagation::Private => "rprivate",
                Propagation::Slave => "rslave",
                Propagation::Shared => "rshared",
            }
            .to_owned(),
            ..point
        },
        MountSource::Volume { name, .. } => MountPoint {
            kind: "volume".to_owned(),
            source: format!("{volumes}/{name}/_data"),
            name: name.clone(),
            driver: "local".to_owned(),
            ..point
        },
        MountSource::Tmpfs { .. } => MountPoint { kind: "tmpfs".to_owned(), ..point },
    }
}

fn config(workload: &Workload) -> ContainerConfig {
    let command = &workload.command;
    let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    ContainerConfig {
        hostname: workload.host.hostname.clone(),
        domainname: workload.host.domainname.clone(),
        user: command.user.clone(),
        attach_stdin: command.attached[0],
        attach_stdout: command.attached[1],
        attach_stderr: command.attached[2],
        exposed_ports: command.exposed_ports.iter().map(|port| (port.clone(), mounts::nothing())).collect(),
        tty: command.terminal,
        open_stdin: command.stdin != Stdin::Closed,
        stdin_once: command.stdin == Stdin::Once,
        env: command.env.clone(),
        cmd: some(&command.cmd),
        image: workload.image.name.clone(),
        volumes: None,
        working_dir: command.working_dir.clone(),
        entrypoint: some(&command.entrypoint),
        on_build: None,
        labels: workload.labels.clone(),
        stop_signal: workload.life.stop_signal.clone(),
        stop_timeout: workload.life.stop_timeout_s,
        healthcheck: (workload.life.health != HealthCheck::default()).then(|| (&workload.life.health).into()),
    }
}

/// Zero for none, as the API writes limits.
fn signed(value: Option<u64>) -> i64 {
    value.map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

fn host_config(workload: &Workload) -> HostConfig {
    let (resources, trust) = (&workload.resources, &workload.security);
    let paths = |own: &Option<Vec<String>>| own.clone().or_else(|| trust.unmasked_paths.then(Vec::new));
    HostConfig {
        binds: mounts::binds(&workload.mounts),
        network_mode: network_mode(&workload.host.network),
        port_bindings: ports::asked(&workload.host.ports),
        auto_remove: workload.life.auto_remove,
        restart_policy: restart::shown(workload.life.restart),
        log_config: LogConfig {
            kind: workload.command.log.driver().name().to_owned(),
            config: workload.command.log.options.clone(),
        },
        cap_add: trust.cap_add.clone(),
        cap_drop: trust.cap_drop.clone(),
        privileged: trust.privileged,
        readonly_rootfs: trust.read_only_root,
        security_opt: security::security_opt(trust),
        devices: trust
            .devices
            .iter()
            .map(|device| DeviceMapping {
                path_on_host: device.host.clone(),
                path_in_container: device.inside.clone(),
                cgroup_permissions: device.permissions.clone(),
            })
            .collect(),
        memory: signed(resources.memory),
        memory_swap: resources.memory_swap.unwrap_or(0),
        memory_reservation: signed(resources.memory_reservation),
        nano_cpus: signed(resources.nano_cpus),
        cpu_quota: resources.cpu_quota.unwrap_or(0),
        cpu_period: signed(resources.cpu_period),
        cpu_shares: signed(resources.cpu_shares),
        cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: resources.cpuset_mems.clone().unwrap_or_default(),
        pids_limit: resources.pids.unwrap_or(0),
        ulimits: resources
            .ulimits
            .iter()
            .map(|limit| UlimitRequest { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        shm_size: signed(workload.host.shm_size.or(Some(64 << 20))),
        init: workload.life.init.then_some(true),
        runtime: "container".to_owned(),
        masked_paths: paths(&trust.masked_paths),
        readonly_paths: paths(&trust.readonly_paths),
        cgroup_parent: resources.cgroup_parent.clone().unwrap_or_default(),
        namespaces: namespaces::config(&workload.host.namespaces),
        blkio: limits::blkio_config(&resources.block_io),
        storage_opt: limits::storage_opt(resources.storage),
        group_add: workload.command.groups.clone(),
        sysctls: workload.host.sysctls.clone(),
        annotations: workload.host.annotations.clone(),
        volumes_from: workload.host.volumes_from.clone(),
        device_cgroup_rules: trust.device_rules.iter().map(devices::rule_text).collect(),
        device_requests: devices::requests(&trust.cdi),
        oom_score_adj: resources.oom.score_adj.into(),
        oom_kill_disable: Some(resources.oom.kill_disable),
        memory_swappiness: resources.swappiness.and_then(|value| i64::try_from(value).ok()),
        cpu_realtime_period: signed(resources.realtime.period),
        cpu_realtime_runtime: resources.realtime.runtime.unwrap_or(0),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Command, Draft, Exit, Host, ImageRef, Isolation, LifeCycle, Resources, Security, WorkloadId};

    use super::*;
    use crate::docker::{CreateRequest, draft};

    const SECOND: i64 = 1_000_000_000;

    fn digest() -> atoll_oci::digest::Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest")
    }

    fn workload(draft: Draft) -> Workload {
        Workload {
            id: WorkloadId::from_bytes([7; 32]),
            name: "web".to_owned(),
            created: Timestamp(1_700_000_000 * SECOND),
            isolation: Isolation::Container,
            image: ImageRef { name: "busybox".to_owned(), manifest: digest(), id: digest(), layers: Vec::new() },
            command: draft.command,
            host: draft.host,
            security: draft.security,
            resources: draft.resources,
            mounts: draft.mounts,
            life: draft.life,
            labels: draft.labels,
        }
    }

    #[test]
    fn states_in_words() {
        let check = |phase: Phase, expected: &str| {
            assert_eq!(status(&phase, None, Timestamp(1000 * SECOND)), expected);
        };
        let exit = Exit { code: 3, oom_killed: false, at: Timestamp(995 * SECOND) };
        let started = Timestamp(700 * SECOND);
        check(Phase::CREATED, "Created");
        check(Phase::Running { pid: 5, started }, "Up 5 minutes");
        check(Phase::Paused { pid: 5, started }, "Up 5 minutes (Paused)");
        check(Phase::Exited { started, exit }, "Exited (3) 5 seconds ago");
        check(Phase::Restarting { started, exit }, "Restarting (3) 5 seconds ago");
        check(Phase::Removing, "Removal In Progress");
        let check = |well: HealthStatus, expected: &str| {
            let health = Health { status: well, ..Health::default() };
            let running = Phase::Running { pid: 5, started };
            assert_eq!(status(&running, Some(&health), Timestamp(1000 * SECOND)), expected);
        };
        check(HealthStatus::Starting, "Up 5 minutes (health: starting)");
        check(HealthStatus::Healthy, "Up 5 minutes (healthy)");
        check(HealthStatus::Unhealthy, "Up 5 minutes (unhealthy)");
    }

    #[test]
    fn what_was_asked_for_is_what_is_shown() {
        let asked = serde_json::json!({
            "Image": "busybox", "Cmd": ["a", "b c"], "Env": ["A=b"], "Tty": true, "OpenStdin": true, "User": "1:2",
            "HostConfig": {"Memory": 4096, "Binds": ["/a:/b:ro"], "CapAdd": ["NET_ADMIN"], "AutoRemove": true,
                           "StorageOpt": {"size": "20M"},
                           "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "NetworkMode": "host"},
        });
        let request: CreateRequest = crate::docker::parse(asked.to_string().as_bytes()).expect("a request");
        let shown = inspect(
            &workload(draft(request.clone(), None, None).expect("a draft")),
            &Phase::CREATED,
            &Extras::default(),
        );
        assert_eq!((shown.path.as_str(), shown.args.as_slice()), ("a", &["b c".to_owned()][..]));
        assert_eq!((shown.config.env, shown.config.user, shown.config.tty), (request.env, request.user, true));
        assert_eq!((shown.host_config.binds, shown.host_config.memory), (request.host_config.binds, 4096));
        assert_eq!(shown.host_config.ulimits, request.host_config.ulimits);
        assert_eq!(shown.host_config.storage_opt["size"], "20971520");
        assert_eq!((shown.host_config.network_mode.as_str(), shown.host_config.auto_remove), ("host", true));
        assert_eq!((shown.state.status.as_str(), shown.state.started_at.as_str()), ("created", "0001-01-01T00:00:00Z"));
        assert_eq!(shown.mounts[0].propagation, "rprivate");
    }

    #[test]
    fn an_inspection_can_be_asked_for_again() {
        let command = Command { cmd: vec!["x".to_owned()], ..Command::default() };
        let plain = Draft { image: "busybox".to_owned(), command, ..Draft::default() };
        let shown = inspect(&workload(plain), &Phase::CREATED, &Extras::default());
        let again =
            CreateRequest { image: "busybox".to_owned(), host_config: shown.host_config, ..CreateRequest::default() };
        let bytes = serde_json::to_vec(&again).expect("plain data");
        let draft = crate::docker::parse_create(&bytes).expect("our own host configuration is one we take");
        assert_eq!((draft.resources, draft.security), (Resources::default(), Security::default()));
        assert_eq!(draft.host, Host { shm_size: Some(64 << 20), ..Host::default() });
        assert_eq!(draft.life, LifeCycle::default());
    }

    #[test]
    fn command_lines_quote_spaces() {
        let check = |words: &[&str], expected: &str| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(command_line(&words), expected);
        };
        check(&[], "");
        check(&["sh", "-c", "echo a"], "sh -c 'echo a'");
    }
}
