//! Commands about the host.

use anyhow::Result;
use atoll_api::docker::{EventMessage, Version, size};
use atoll_client::with_query;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lists::filters;
use super::logs::time;
use super::{Daemon, say};
use crate::args::{EventsArgs, FormatArgs};
use crate::output::{Template, print_values};

/// Bytes that are carried at a time.
const BLOCK: usize = 64 << 10;

/// `info`.
pub(crate) async fn info(daemon: Daemon, args: FormatArgs) -> Result<u8> {
    let info: Value = daemon.get("/info").await?;
    if args.format.is_some() {
        print_values(&[info], args.format.as_deref())?;
        return Ok(0);
    }
    let lines = [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
        ("Root Dir", "DockerRootDir"),
        ("Name", "Name"),
    ];
    for (head, field) in lines {
        say(match &info[field] {
            Value::String(text) => format!("{head}: {text}"),
            other => format!("{head}: {other}"),
        })?;
    }
    say(format!("Total Memory: {}", size(info["MemTotal"].as_u64().unwrap_or(0))))?;
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        say(format!("WARNING: {}", warning.as_str().unwrap_or_default()))?;
    }
    Ok(0)
}

/// `version`.
pub(crate) async fn version(daemon: Daemon, args: FormatArgs) -> Result<u8> {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "APIVersion": atoll_api::docker::API_VERSION,
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
    });
    let server: Result<Version, _> = daemon.get("/version").await;
    if args.format.is_some() {
        let server = serde_json::to_value(server.as_ref().ok())?;
        print_values(&[json!({"Client": client, "Server": server})], args.format.as_deref())?;
    } else {
        say(format!("Client: Atoll {}\n API version: {}", env!("CARGO_PKG_VERSION"), atoll_api::docker::API_VERSION))?;
        if let Ok(server) = &server {
            say(format!(
                "Server: Atoll {}\n API version: {} (from {})\n Kernel: {}",
                server.version, server.api_version, server.min_api_version, server.kernel_version
            ))?;
        }
    }
    server?;
    Ok(0)
}

/// `system dial-stdio`: ends when the daemon has ended its direction, or standard output is gone.
pub(crate) async fn dial_stdio(daemon: Daemon) -> Result<u8> {
    let (mut from, mut to) = daemon.dial().await?.into_split();
    tokio::spawn(async move {
        // The end of standard input is passed on; a daemon that is gone shows below.
        drop(tokio::io::copy(&mut tokio::io::stdin(), &mut to).await);
        drop(to.shutdown().await);
    });
    let mut output = tokio::io::stdout();
    let mut block = vec![0; BLOCK];
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            return Ok(0);
        }
        output.write_all(&block[..count]).await?;
        output.flush().await?;
    }
}

/// `events`.
pub(crate) async fn events(daemon: Daemon, args: EventsArgs) -> Result<u8> {
    let query = [
        ("since", time(args.since.as_deref())?),
        ("until", time(args.until.as_deref())?),
        ("filters", filters(&args.filter)?),
    ];
    let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let template = match args.format.as_deref() {
        None | Some("json" | "") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut answer = daemon.stream(Method::GET, &with_query("/events", &query)).await?;
    while let Some(event) = answer.line::<Value>().await? {
        match (&template, args.format.as_deref()) {
            (Some(template), _) => say(template.render(&event)?)?,
            (None, Some(_)) => say(&event)?,
            (None, None) => say(sentence(&serde_json::from_value(event)?))?,
        }
    }
    Ok(0)
}

fn sentence(event: &EventMessage) -> String {
    let attributes: Vec<_> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let at = jiff::Timestamp::from_nanosecond(i128::from(event.time_nano))
        .map_or_else(|_| String::new(), |at| at.to_string());
    format!("{at} {} {} {} ({})", event.kind, event.action, event.actor.id, attributes.join(", "))
}
