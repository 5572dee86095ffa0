//! A creation's request as a draft of a workload.

use std::collections::BTreeSet;

use atoll_model::{Command, Draft, HealthCheck, Host, Isolation, LifeCycle, Log, Network, Stdin, check_name};
use serde_json::{Value, json};

use super::bad::{BadRequest, parse};
use super::config::{CreateRequest, HostConfig, LogConfig, StrSlice};
use super::limits::{self, positive};
use super::restart::restart;
use super::{mounts, namespaces, ports, refuse, security};

/// The network of those that name none.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Reads the body of `POST /containers/create` as a draft, without a name.
///
/// # Errors
/// [`BadRequest`] when it does not parse, makes no sense, or asks for what there is not.
pub fn parse_create(body: &[u8]) -> Result<Draft, BadRequest> {
    draft(parse(body)?, None, None)
}

/// The draft that a request asks for.
///
/// # Errors
/// [`BadRequest`] when it makes no sense, or asks for what there is not.
pub fn draft(request: CreateRequest, name: Option<&str>, platform: Option<&str>) -> Result<Draft, BadRequest> {
    refuse::rest("", &request.rest)?;
    refuse::rest("HostConfig.", &request.host_config.rest)?;
    refuse_elsewhere(platform)?;
    let name = name.map(|name| name.strip_prefix('/').unwrap_or(name)).filter(|name| !name.is_empty());
    if let Some(name) = name {
        check_name(name).map_err(|error| BadRequest::Invalid { option: "name".to_owned(), why: error.to_string() })?;
    }
    if request.image.is_empty() {
        return Err(BadRequest::invalid("Image", "no image was given"));
    }
    let network = network(&request)?;
    check_endpoints(&request)?;
    let namespaces = namespaces::namespaces(&request.host_config.namespaces, &request.hostname)?;
    let resources = limits::resources(&request.host_config)?;
    let security = security::security(&request.host_config)?;
    let mounts = mounts::mounts(&request)?;
    let shm = positive("HostConfig.ShmSize", request.host_config.shm_size)?;
    let life = LifeCycle {
        auto_remove: request.host_config.auto_remove,
        stop_signal: request.stop_signal.clone(),
        stop_timeout_s: request.stop_timeout,
        init: request.host_config.init.unwrap_or(false),
        restart: restart(&request.host_config.restart_policy)?,
        health: health(&request)?,
    };
    if life.auto_remove && life.restart.is_set() {
        let why = "can't create 'AutoRemove' container with restart policy";
        return Err(BadRequest::Contradiction(why.to_owned()));
    }
    let (entrypoint, replace_entrypoint) = entrypoint(request.entrypoint.clone());
    Ok(Draft {
        name: name.map(str::to_owned),
        image: request.image.clone(),
        isolation: isolation(&request.host_config)?,
        host: Host {
            hostname: request.hostname.clone(),
            domainname: request.domainname.clone(),
            network,
            ports: ports::bindings(&request.host_config.port_bindings)?,
            shm_size: shm,
            namespaces,
            sysctls: request.host_config.sysctls.clone(),
            annotations: request.host_config.annotations.clone(),
            volumes_from: mounts::volumes_from(&request.host_config.volumes_from)?,
            // Who asks says nothing of that: it follows from who they are.
            project: None,
        },
        labels: request.labels.clone(),
        command: command(request, entrypoint)?,
        replace_entrypoint,
        security,
        resources,
        mounts,
        life,
    })
}

fn health(request: &CreateRequest) -> Result<HealthCheck, BadRequest> {
    let check = request.healthcheck.as_ref().map(HealthCheck::try_from).transpose();
    Ok(check.map_err(|error| BadRequest::Contradiction(error.to_string()))?.unwrap_or_default())
}

fn command(request: CreateRequest, entrypoint: Vec<String>) -> Result<Command, BadRequest> {
    if let Some(bad) = request.env.iter().find(|item| item.starts_with('=') || item.is_empty() || item.contains('\0')) {
        return Err(BadRequest::invalid("Env", format!("{bad:?} is not of the form NAME=value")));
    }
    let stdin = match (request.open_stdin, request.stdin_once) {
        (false, _) => Stdin::Closed,
        (true, true) => Stdin::Once,
        (true, false) => Stdin::Open,
    };
    Ok(Command {
        entrypoint,
        cmd: request.cmd.map(StrSlice::into_vec).unwrap_or_default(),
        env: request.env,
        working_dir: request.working_dir,
        user: request.user,
        groups: groups(request.host_config.group_add)?,
        terminal: request.tty,
        stdin,
        exposed_ports: request.exposed_ports.into_keys().collect::<BTreeSet<_>>().into_iter().collect(),
        attached: [request.attach_stdin, request.attach_stdout, request.attach_stderr],
        log: log(request.host_config.log_config)?,
    })
}

/// Where output is kept; what its options mean is seen where the host's default is known.
fn log(asked: LogConfig) -> Result<Log, BadRequest> {
    let driver = if asked.kind.is_empty() { None } else { Some(asked.kind.parse()?) };
    Ok(Log { driver, options: asked.config })
}

/// The entry point, and whether it takes the image's place: `[""]` is the way to say "none".
fn entrypoint(given: Option<StrSlice>) -> (Vec<String>, bool) {
    match given.map(StrSlice::into_vec) {
        Some(words) if words == [""] => (Vec::new(), true),
        Some(words) => {
            let replaces = !words.is_empty();
            (words, replaces)
        }
        None => (Vec::new(), false),
    }
}

/// Names or numbers; which there are is seen inside the root file system.
fn groups(asked: Vec<String>) -> Result<Vec<String>, BadRequest> {
    match asked.iter().find(|name| name.is_empty() || name.contains([':', '\0', '\n'])) {
        Some(bad) => Err(BadRequest::invalid("HostConfig.GroupAdd", format!("{bad:?} is no group"))),
        None => Ok(asked),
    }
}

fn refuse_elsewhere(platform: Option<&str>) -> Result<(), BadRequest> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    match platform.filter(|platform| !platform.is_empty()) {
        None => Ok(()),
        Some(asked) if asked == "linux" || asked == machine || asked == format!("linux/{machine}") => Ok(()),
        Some(asked) => Err(BadRequest::unsupported(format!("platform other than linux/{machine}"), &json!(asked))),
    }
}

fn isolation(host: &HostConfig) -> Result<Isolation, BadRequest> {
    match host.isolation.as_str() {
        "" | "default" | "container" => {}
        other => return Err(BadRequest::unsupported("HostConfig.Isolation", &json!(other))),
    }
    match host.runtime.as_str() {
        "" | "container" => Ok(Isolation::Container),
        other => Err(BadRequest::unsupported("HostConfig.Runtime other than \"container\"", &json!(other))),
    }
}

fn network(request: &CreateRequest) -> Result<Network, BadRequest> {
    let network = match request.host_config.network_mode.as_str() {
        "" | "default" => Network::Bridge(DEFAULT_NETWORK.to_owned()),
        "none" => Network::None,
        "host" => Network::Host,
        mode if mode.starts_with("container:") => joined(request, mode)?,
        name => {
            check_name(name)
                .map_err(|_| BadRequest::invalid("HostConfig.NetworkMode", format!("{name:?} is no network's name")))?;
            Network::Bridge(name.to_owned())
        }
    };
    Ok(if request.network_disabled { Network::None } else { network })
}

/// The network of another workload comes with that one's names and ports.
fn joined(request: &CreateRequest, mode: &str) -> Result<Network, BadRequest> {
    let invalid = |why: &str| BadRequest::invalid("HostConfig.NetworkMode", why);
    let name = namespaces::container(mode).ok_or_else(|| invalid("container:NAME names no container"))?;
    let conflict = |holds: bool, what: &str| match holds {
        true => Err(invalid(&format!("conflicting options: {what}"))),
        false => Ok(()),
    };
    conflict(!request.hostname.is_empty(), "hostname and the network mode")?;
    conflict(!request.host_config.port_bindings.is_empty(), "port publishing and the container type network mode")?;
    conflict(!request.exposed_ports.is_empty(), "port exposing and the container type network mode")?;
    Ok(Network::Workload(name.to_owned()))
}

/// An end point may be named, as clients do, but not configured.
fn check_endpoints(request: &CreateRequest) -> Result<(), BadRequest> {
    let Some(config) = &request.networking_config else { return Ok(()) };
    match config.get("EndpointsConfig") {
        Some(Value::Object(endpoints)) => {
            let mode = match request.host_config.network_mode.as_str() {
                "" => "default",
                mode => mode,
            };
            for (name, endpoint) in endpoints {
                if name != mode {
                    let option = format!("NetworkingConfig.EndpointsConfig.{name} beside network mode {mode}");
                    return Err(BadRequest::unsupported(option, endpoint));
                }
                if !refuse::is_hollow(endpoint) {
                    return Err(BadRequest::unsupported(format!("NetworkingConfig.EndpointsConfig.{name}"), endpoint));
                }
            }
            Ok(())
        }
        _ if refuse::is_hollow(config) => Ok(()),
        _ => Err(BadRequest::unsupported("NetworkingConfig", config)),
    }
}
