//! What the API says about the daemon, its host, its networks and what happens.

#![allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, System and Network")]

use std::collections::BTreeMap;

use atoll_model::{Event, EventKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::container::ContainerSummary;
use super::filters::Filters;
use super::image::ImageSummary;
use super::volume::VolumeView;

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    pub platform: Component,
    pub components: Vec<Component>,
    pub version: String,
    pub api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    pub git_commit: String,
    pub go_version: String,
    pub os: String,
    pub arch: String,
    pub kernel_version: String,
    pub build_time: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: usize,
    pub containers_running: usize,
    pub containers_paused: usize,
    pub containers_stopped: usize,
    pub images: usize,
    pub driver: String,
    pub driver_status: Vec<[String; 2]>,
    pub plugins: Plugins,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    pub debug: bool,
    /// Open descriptors of the daemon.
    #[serde(rename = "NFd")]
    pub n_fd: usize,
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: usize,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: usize,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    pub registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    pub ncpu: usize,
    pub mem_total: u64,
    pub generic_resources: Option<Vec<Value>>,
    pub docker_root_dir: String,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub default_runtime: String,
    pub swarm: Swarm,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub containerd_commit: Commit,
    pub runc_commit: Commit,
    pub init_commit: Commit,
    pub security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    pub authorization: Option<Vec<String>>,
    pub log: Vec<String>,
}

/// Registries, as `GET /info` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    pub index_configs: BTreeMap<String, IndexConfig>,
    pub mirrors: Vec<String>,
}

/// One registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexConfig {
    pub name: String,
    pub mirrors: Vec<String>,
    pub secure: bool,
    pub official: bool,
}

/// A swarm, as an engine outside of one shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    pub node_addr: String,
    pub local_node_state: String,
    pub control_available: bool,
    pub error: String,
    pub remote_managers: Option<Vec<Value>>,
}

/// What a program of the engine was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    #[serde(rename = "ID")]
    pub id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    pub path: String,
}

/// `GET /system/df`; what was not asked for is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    pub layers_size: u64,
    pub images: Option<Vec<ImageSummary>>,
    pub containers: Option<Vec<ContainerSummary>>,
    pub volumes: Option<Vec<VolumeView>>,
    pub build_cache: Option<Vec<Value>>,
}

/// `GET /networks/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkInspect {
    pub name: String,
    pub id: String,
    pub created: String,
    pub scope: String,
    pub driver: String,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub containers: BTreeMap<String, Value>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub config: Vec<Value>,
}

/// One line of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventMessage {
    #[serde(rename = "status", skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(rename = "id", skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "from", skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub action: String,
    pub actor: EventActor,
    #[serde(rename = "scope")]
    pub scope: String,
    #[serde(rename = "time")]
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

/// Query of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    pub since: String,
    pub until: String,
    pub filters: Option<String>,
}

impl EventQuery {
    /// Keys of its filters.
    pub const FILTERS: [&'static str; 14] = [
        "config",
        "container",
        "daemon",
        "event",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    ];
    /// Those of things that this engine does not have: nothing ever happens to them.
    const OF_NOTHING: [&'static str; 6] = ["config", "daemon", "node", "plugin", "secret", "service"];
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Volume => "volume",
        EventKind::Network => "network",
    }
}

/// An event as its watchers read it.
#[must_use]
pub fn event_message(event: &Event) -> EventMessage {
    // Old clients read the lower-case fields, which only these two kinds have.
    let old = matches!(event.kind, EventKind::Container | EventKind::Image);
    let from = event.actor.attributes.get("image").filter(|_| event.kind == EventKind::Container);
    EventMessage {
        status: if old { event.action.clone() } else { String::new() },
        id: if old { id(event) } else { String::new() },
        from: from.cloned().unwrap_or_default(),
        kind: kind(event.kind).to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: id(event), attributes: event.actor.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.seconds(),
        time_nano: event.at.0,
    }
}

/// Whether a watcher with these filters sees the event.
#[must_use]
pub fn matches_event(filters: &Filters, event: &Event) -> bool {
    let actor = &event.actor;
    let attribute = |key: &str| actor.attributes.get(key).map_or("", String::as_str);
    let name = attribute("name");
    let begins = |text: &str, value: &str| !value.is_empty() && text.starts_with(value);
    // Of a kind of thing: its name or identifier, or how one of them begins.
    let is = |wanted: EventKind, key: &str| {
        filters.any(key, |value| event.kind == wanted && (begins(name, value) || begins(&id(event), value)))
    };
    let image = || {
        let from = if event.kind == EventKind::Image { name } else { attribute("image") };
        let fits = |text: &str, value: &str| text == value || without_tag(text) == value;
        filters.any("image", |value| fits(from, value) || fits(&actor.id, value))
    };
    // With more after its colon only where that was asked for.
    let action = |value: &str| value == event.action || event.action.split(": ").next() == Some(value);
    filters.any("type", |value| value == kind(event.kind))
        && filters.any("event", action)
        && filters.any("scope", |value| value == "local")
        && EventQuery::OF_NOTHING.iter().all(|key| filters.get(key).is_empty())
        && is(EventKind::Container, "container")
        && is(EventKind::Volume, "volume")
        && is(EventKind::Network, "network")
        && image()
        && filters.labels(&actor.attributes)
}

/// The identifier that watchers read: a network's is made of its name.
fn id(event: &Event) -> String {
    match event.kind {
        EventKind::Network => network_id(&event.actor.id),
        _ => event.actor.id.clone(),
    }
}

/// An image's name without its tag; the port of a registry is none.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

/// The identifier of a network that every host has: its name in hexadecimal digits, filled up.
#[must_use]
pub(super) fn network_id(name: &str) -> String {
    use std::fmt::Write;
    let mut id = String::with_capacity(64);
    for byte in name.bytes().take(32) {
        write!(id, "{byte:02x}").expect("writing to a string cannot fail");
    }
    format!("{id:0<64}")
}

impl NetworkInspect {
    /// A network of this host by its name and driver, without subnets.
    #[must_use]
    pub fn new(name: &str, driver: &str, created: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: network_id(name),
            created: created.to_owned(),
            scope: "local".to_owned(),
            driver: driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Actor, Timestamp};

    use super::*;

    fn event(kind: EventKind, action: &str) -> Event {
        let attributes = [("name", "web"), ("image", "busybox:1"), ("colour", "red")];
        Event {
            kind,
            action: action.to_owned(),
            actor: Actor {
                id: "abc123".to_owned(),
                attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            },
            at: Timestamp(1_700_000_000_000_000_005),
            project: None,
        }
    }

    #[test]
    fn events_keep_the_old_fields() {
        let message = serde_json::to_value(event_message(&event(EventKind::Container, "die"))).expect("plain data");
        assert_eq!(
            (&message["status"], &message["from"], &message["Type"]),
            (&"die".into(), &"busybox:1".into(), &"container".into())
        );
        assert_eq!(
            (&message["time"], &message["timeNano"]),
            (&1_700_000_000.into(), &1_700_000_000_000_000_005_i64.into())
        );
        let message = serde_json::to_value(event_message(&event(EventKind::Volume, "create"))).expect("plain data");
        assert!(message.get("status").is_none());
    }

    #[test]
    fn filters_choose_events() {
        let check = |json: &str, kind: EventKind, action: &str, expected: bool| {
            let filters = Filters::parse(Some(json), &EventQuery::FILTERS).expect("valid filters");
            assert_eq!(matches_event(&filters, &event(kind, action)), expected, "{json}");
        };
        check("{}", EventKind::Container, "die", true);
        check(r#"{"type":["container"]}"#, EventKind::Container, "die", true);
        check(r#"{"type":["image"]}"#, EventKind::Container, "die", false);
        check(r#"{"event":["start","die"]}"#, EventKind::Container, "die", true);
        check(r#"{"event":["exec_start"]}"#, EventKind::Container, "exec_start: ls", true);
        check(r#"{"container":["web"]}"#, EventKind::Container, "die", true);
        check(r#"{"container":["abc"]}"#, EventKind::Container, "die", true);
        check(r#"{"container":["web"]}"#, EventKind::Volume, "create", false);
        check(r#"{"image":["busybox"]}"#, EventKind::Container, "die", true);
        check(r#"{"image":["debian"]}"#, EventKind::Container, "die", false);
        check(r#"{"label":["colour=red"]}"#, EventKind::Container, "die", true);
        check(r#"{"label":["colour=blue"]}"#, EventKind::Container, "die", false);
        check(r#"{"container":["we"]}"#, EventKind::Container, "die", true);
        check(r#"{"container":["eb"]}"#, EventKind::Container, "die", false);
        check(r#"{"image":["abc123"]}"#, EventKind::Image, "load", true);
        check(r#"{"image":["web"]}"#, EventKind::Image, "load", true);
        check(r#"{"network":["web"]}"#, EventKind::Network, "connect", true);
        check(r#"{"event":["exec_start: ls"]}"#, EventKind::Container, "exec_start: ls", true);
        check(r#"{"event":["exec"]}"#, EventKind::Container, "exec_start: ls", false);
        check(r#"{"scope":["swarm"]}"#, EventKind::Container, "die", false);
        check(r#"{"daemon":["x"]}"#, EventKind::Container, "die", false);
        check(r#"{"plugin":["x"]}"#, EventKind::Container, "die", false);
    }
}
