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
    pub oom_kill_disable: bool,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    #[serde(rename = "NCPU")]
    pub ncpu: usize,
    pub mem_total: u64,
    pub docker_root_dir: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub default_runtime: String,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub security_options: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    pub log: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    pub path: String,
}

/// `GET /system/df`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    pub layers_size: u64,
    pub images: Vec<ImageSummary>,
    pub containers: Vec<ContainerSummary>,
    pub volumes: Vec<VolumeView>,
    pub build_cache: Vec<Value>,
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
    pub const FILTERS: [&'static str; 10] =
        ["container", "daemon", "event", "image", "label", "network", "scope", "type", "volume", "id"];
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
        id: if old { event.actor.id.clone() } else { String::new() },
        from: from.cloned().unwrap_or_default(),
        kind: kind(event.kind).to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.id.clone(), attributes: event.actor.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.seconds(),
        time_nano: event.at.0,
    }
}

/// Whether a watcher with these filters sees the event.
#[must_use]
pub fn matches_event(filters: &Filters, event: &Event) -> bool {
    let actor = &event.actor;
    let name = actor.attributes.get("name").map_or("", String::as_str);
    let is = |wanted: EventKind, key: &str| {
        filters.get(key).is_empty()
            || (event.kind == wanted
                && filters.any(key, |value| value == name || (!value.is_empty() && actor.id.starts_with(value))))
    };
    let image = || {
        let from = if event.kind == EventKind::Image {
            actor.id.as_str()
        } else {
            actor.attributes.get("image").map_or("", String::as_str)
        };
        filters.any("image", |value| value == from || value == name || from.split(':').next() == Some(value))
    };
    filters.any("type", |value| value == kind(event.kind))
        && filters.any("event", |value| value == event.action || event.action.split(':').next() == Some(value))
        && filters.any("scope", |value| value == "local")
        && filters.any("id", |value| actor.id == value)
        && filters.get("daemon").is_empty()
        && is(EventKind::Container, "container")
        && is(EventKind::Volume, "volume")
        && is(EventKind::Network, "network")
        && image()
        && filters.labels(&actor.attributes)
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
        check(r#"{"daemon":["x"]}"#, EventKind::Container, "die", false);
    }
}
