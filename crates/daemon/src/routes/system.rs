//! The engine itself: ping, version, facts, events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use atoll_api::docker::{
    self, API_VERSION, Commit, Component, EventQuery, Filters, IndexConfig, Info, MIN_API_VERSION, Plugins,
    RegistryConfig, Runtime, Swarm, Version, event_message, matches_event, parse_time,
};
use atoll_model::{LogDriver, Phase, Timestamp};
use axum::extract::{Query, State as Held};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::State;
use crate::answer::{Answer, Refusal, pieces};
use crate::projects::Scope;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
}

/// Also answers `HEAD`; clients read the version to speak from its headers.
async fn ping() -> Response {
    let headers = [
        ("Builder-Version", ""),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
        ("Swarm", "inactive"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ];
    (headers, "OK").into_response()
}

async fn version() -> Json<Version> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let own = env!("CARGO_PKG_VERSION").to_owned();
    let details = BTreeMap::from([
        ("ApiVersion".to_owned(), API_VERSION.to_owned()),
        ("MinAPIVersion".to_owned(), MIN_API_VERSION.to_owned()),
        ("Os".to_owned(), "linux".to_owned()),
        ("Arch".to_owned(), architecture()),
        ("KernelVersion".to_owned(), kernel.clone()),
        ("Experimental".to_owned(), "false".to_owned()),
        ("GitCommit".to_owned(), String::new()),
        ("GoVersion".to_owned(), String::new()),
        ("BuildTime".to_owned(), String::new()),
    ]);
    let engine = Component { name: "Engine".to_owned(), version: own.clone(), details };
    Json(Version {
        platform: Component { name: "Atoll".to_owned(), ..Component::default() },
        components: vec![engine],
        version: own,
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch: architecture(),
        kernel_version: kernel,
        ..Version::default()
    })
}

/// As images name it.
fn architecture() -> String {
    atoll_oci::Platform::host().architecture
}

async fn info(Held(state): Held<State>, scope: Scope) -> Answer<Json<Info>> {
    let views = scope.list(&state.engine);
    let count = |is: fn(&Phase) -> bool| views.iter().filter(|view| is(&view.phase)).count();
    let running = count(|phase| phase.is_up() && !matches!(phase, Phase::Paused { .. }));
    let paused = count(|phase| matches!(phase, Phase::Paused { .. }));
    let (own, settings) = (state.engine.info(), state.engine.settings());
    let mut security_options = vec!["name=seccomp,profile=builtin".to_owned()];
    security_options.extend(own.rootless.then(|| "name=rootless".to_owned()));
    Ok(Json(Info {
        id: own.id,
        containers: views.len(),
        containers_running: running,
        containers_paused: paused,
        containers_stopped: views.len() - running - paused,
        images: state.engine.images().await?.len(),
        driver: "overlay2".to_owned(),
        driver_status: vec![["userxattr".to_owned(), "true".to_owned()]],
        plugins: Plugins {
            volume: vec!["local".to_owned()],
            network: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
            log: LogDriver::ALL
                .iter()
                .filter(|driver| **driver != LogDriver::None)
                .map(|it| it.name().to_owned())
                .collect(),
            authorization: None,
        },
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        n_goroutines: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        n_events_listener: state.engine.watchers(),
        system_time: docker::rfc3339(SystemTime::now().into()),
        logging_driver: state.engine.default_log().driver().name().to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        cdi_spec_dirs: settings.cdi_folders.iter().map(|folder| folder.display().to_string()).collect(),
        registry_config: registries(&settings.registries.insecure),
        docker_root_dir: own.root.display().to_string(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: BTreeMap::from([("container".to_owned(), Runtime::default())]),
        default_runtime: "container".to_owned(),
        swarm: Swarm { local_node_state: "inactive".to_owned(), ..Swarm::default() },
        // What runs goes on without the daemon, always.
        live_restore_enabled: true,
        init_binary: "atoll-shim".to_owned(),
        runc_commit: Commit { id: env!("CARGO_PKG_VERSION").to_owned() },
        warnings: state.engine.warnings().into_iter().chain(state.exposed.map(exposed)).collect(),
        security_options,
        ..of_host(state.engine.has_control_groups())
    }))
}

/// What is so of the host, whoever asks.
fn of_host(limits: bool) -> Info {
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let v2 = atoll_sys::cgroup::Layout::read().is_ok_and(|layout| layout.is_unified());
    let proxy = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default();
    Info {
        memory_limit: limits,
        swap_limit: limits,
        cpu_cfs_period: limits,
        cpu_cfs_quota: limits,
        cpu_shares: limits,
        cpu_set: limits,
        pids_limit: limits,
        oom_kill_disable: limits && !v2,
        ipv4_forwarding: std::fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.starts_with(b"1")),
        cgroup_driver: if limits { "cgroupfs" } else { "none" }.to_owned(),
        cgroup_version: if v2 { "2" } else { "1" }.to_owned(),
        kernel_version: text(uname.release()),
        operating_system: of_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: of_release("VERSION_ID").unwrap_or_default(),
        os_type: "linux".to_owned(),
        architecture: text(uname.machine()),
        ncpu: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        mem_total: memory.totalram.saturating_mul(memory.mem_unit.into()),
        http_proxy: without_password(&proxy("HTTP_PROXY")),
        https_proxy: without_password(&proxy("HTTPS_PROXY")),
        no_proxy: proxy("NO_PROXY"),
        name: text(uname.nodename()),
        ..Info::default()
    }
}

/// In dockerd's words.
fn exposed(address: SocketAddr) -> String {
    format!(
        "WARNING: API is accessible on http://{address} without encryption.\n         Access to the remote API is equivalent to root access on the host."
    )
}

/// What `/etc/os-release` says.
fn of_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// A proxy's address as dockerd shows it: who asks need not know the password.
fn without_password(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}xxxxx:xxxxx{}", &address[..scheme + 3], &address[at..])
        }
        _ => address.to_owned(),
    }
}

fn registries(insecure: &[String]) -> RegistryConfig {
    let index = |name: &str, secure, official| {
        (name.to_owned(), IndexConfig { name: name.to_owned(), secure, official, ..IndexConfig::default() })
    };
    let (ranges, names): (Vec<_>, Vec<_>) = insecure.iter().cloned().partition(|entry| entry.contains('/'));
    let named = names.iter().map(|name| index(name, false, false));
    RegistryConfig {
        insecure_registry_cidrs: ranges.into_iter().chain(["127.0.0.0/8".to_owned()]).collect(),
        index_configs: named.chain([index("docker.io", true, true)]).collect(),
        mirrors: Vec::new(),
    }
}

async fn events(Held(state): Held<State>, scope: Scope, Query(query): Query<EventQuery>) -> Answer<Response> {
    let filters = Filters::parse(query.filters.as_deref(), &EventQuery::FILTERS)?;
    let (since, until) = (parse_time(&query.since)?, parse_time(&query.until)?);
    if let (Some(from), Some(to)) = (since, until)
        && from > to
    {
        let (since, until) = (query.since, query.until);
        return Err(Refusal::bad(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    // Who only names an end wants everything before it that is kept.
    let stream = state.engine.events(since.or(until.map(|_| Timestamp::NEVER)));
    let body = pieces((stream, filters, scope), move |(mut stream, filters, scope)| async move {
        loop {
            let event = match until {
                None => stream.next().await?,
                Some(until) => {
                    let left = u64::try_from(until.0 - Timestamp::from(SystemTime::now()).0).unwrap_or(0);
                    let wait = std::time::Duration::from_nanos(left);
                    match stream.next_kept() {
                        Some(event) => event,
                        None => tokio::time::timeout(wait, stream.next()).await.ok()??,
                    }
                }
            };
            if until.is_some_and(|until| event.at > until) {
                return None;
            }
            if scope.sees_event(&event) && matches_event(&filters, &event) {
                let mut line = serde_json::to_vec(&event_message(&event)).unwrap_or_default();
                line.push(b'\n');
                return Some((line, (stream, filters, scope)));
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
