//! Commands that list and show things.

use anyhow::{Result, bail};
use atoll_api::docker::{ContainerSummary, Filters, HistoryItem, ImageSummary, duration, size};
use atoll_client::{Error, escape, with_query};
use serde_json::{Value, json};

use super::{Daemon, complain, say};
use crate::args::{HistoryArgs, ImagesArgs, InspectArgs, PsArgs, values};
use crate::output::{Column, print_rows, print_values};

/// Digits of a shortened id.
const SHORT: usize = 12;
/// Characters of a shortened command.
const COMMAND: usize = 20;

const CONTAINERS: [Column; 7] = [
    ("CONTAINER ID", "{{.ID}}"),
    ("IMAGE", "{{.Image}}"),
    ("COMMAND", "{{.Command}}"),
    ("CREATED", "{{.RunningFor}}"),
    ("STATUS", "{{.Status}}"),
    ("PORTS", "{{.Ports}}"),
    ("NAMES", "{{.Names}}"),
];
const IMAGES: [Column; 5] = [
    ("REPOSITORY", "{{.Repository}}"),
    ("TAG", "{{.Tag}}"),
    ("IMAGE ID", "{{.ID}}"),
    ("CREATED", "{{.CreatedSince}}"),
    ("SIZE", "{{.Size}}"),
];
const IMAGES_WITH_DIGESTS: [Column; 6] =
    [IMAGES[0], IMAGES[1], ("DIGEST", "{{.Digest}}"), IMAGES[2], IMAGES[3], IMAGES[4]];
const STEPS: [Column; 5] = [
    ("IMAGE", "{{.ID}}"),
    ("CREATED", "{{.CreatedSince}}"),
    ("CREATED BY", "{{.CreatedBy}}"),
    ("SIZE", "{{.Size}}"),
    ("COMMENT", "{{.Comment}}"),
];

/// The `filters` parameter.
pub(crate) fn filters(texts: &[String]) -> Result<String> {
    let mut filters = Filters::default();
    for text in texts {
        let (key, value) = values::filter(text)?;
        filters.add(key, value);
    }
    Ok(filters.to_json().unwrap_or_default())
}

/// `12 minutes ago`.
pub(crate) fn ago(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    format!("{} ago", duration(now - seconds))
}

fn short(id: &str, whole: bool) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    if whole { id.to_owned() } else { hex.chars().take(SHORT).collect() }
}

fn shorten(text: &str, length: usize, whole: bool) -> String {
    if whole || text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// `ps`.
pub(crate) async fn containers(daemon: Daemon, args: PsArgs) -> Result<u8> {
    let last = if args.latest { Some(1) } else { args.last };
    let limit = last.map(|count| count.to_string()).unwrap_or_default();
    let all = args.all || last.is_some();
    let query = [("all", if all { "1" } else { "" }), ("limit", &limit), ("filters", &filters(&args.filter)?)];
    let list: Vec<ContainerSummary> = daemon.get(&with_query("/containers/json", &query)).await?;
    if args.quiet {
        for container in &list {
            say(short(&container.id, args.no_trunc))?;
        }
        return Ok(0);
    }
    let rows: Vec<Value> = list.iter().map(|container| container_row(container, args.no_trunc)).collect();
    print_rows(&rows, args.format.as_deref(), &CONTAINERS)?;
    Ok(0)
}

pub(super) fn container_row(container: &ContainerSummary, whole: bool) -> Value {
    let volumes = container.mounts.iter().filter(|mount| !mount.name.is_empty()).count();
    let labels: Vec<_> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let names: Vec<_> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
    json!({
        "ID": short(&container.id, whole),
        "Image": container.image,
        "Command": format!("\"{}\"", shorten(&container.command, COMMAND, whole)),
        "CreatedAt": created_at(container.created),
        "RunningFor": ago(container.created),
        "State": container.state,
        "Status": container.status,
        "Ports": container.ports.iter().map(port).collect::<Vec<_>>().join(", "),
        "Names": names.join(","),
        "Labels": labels.join(","),
        "Mounts": container.mounts.iter().map(|mount| if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() }).collect::<Vec<_>>().join(","),
        "Networks": container.network_settings.networks.keys().cloned().collect::<Vec<_>>().join(","),
        "LocalVolumes": volumes.to_string(),
        "Size": size(container.size_rw.unwrap_or(0)),
    })
}

/// `0.0.0.0:8080->80/tcp`, or `80/tcp` for one that does not answer on the host.
fn port(port: &Value) -> String {
    let inside = format!("{}/{}", port["PrivatePort"], port["Type"].as_str().unwrap_or_default());
    match port["IP"].as_str() {
        Some(address) => format!("{address}:{}->{inside}", port["PublicPort"]),
        None => inside,
    }
}

fn created_at(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |at| at.to_string())
}

/// `images`.
pub(crate) async fn images(daemon: Daemon, args: ImagesArgs) -> Result<u8> {
    let mut wanted = args.filter.clone();
    wanted.extend(args.repository.iter().map(|name| format!("reference={name}")));
    let query = [("all", if args.all { "1" } else { "" }), ("filters", &filters(&wanted)?)];
    let list: Vec<ImageSummary> = daemon.get(&with_query("/images/json", &query)).await?;
    if args.quiet {
        let mut seen = std::collections::BTreeSet::new();
        for image in list.iter().filter(|image| seen.insert(&image.id)) {
            say(short(&image.id, args.no_trunc))?;
        }
        return Ok(0);
    }
    let rows: Vec<Value> = list.iter().flat_map(|image| image_rows(image, args.no_trunc)).collect();
    let columns: &[Column] = if args.digests { &IMAGES_WITH_DIGESTS } else { &IMAGES };
    print_rows(&rows, args.format.as_deref(), columns)?;
    Ok(0)
}

/// A row for each name.
pub(super) fn image_rows(image: &ImageSummary, whole: bool) -> Vec<Value> {
    let none = "<none>".to_owned();
    // Only who asks what images take on the disk is told what they share.
    let shared = u64::try_from(image.shared_size).ok();
    let known = |text: String| shared.map_or_else(|| "N/A".to_owned(), |_| text);
    let digest = image.repo_digests.first().and_then(|name| name.split_once('@')).map(|(_, digest)| digest.to_owned());
    let names: Vec<(String, String)> = if image.repo_tags.is_empty() {
        vec![(none.clone(), none.clone())]
    } else {
        let split = |name: &String| name.rsplit_once(':').map(|(left, right)| (left.to_owned(), right.to_owned()));
        image.repo_tags.iter().filter_map(split).collect()
    };
    let row = |(repository, tag): (String, String)| {
        json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": digest.clone().unwrap_or_else(|| none.clone()),
            "ID": short(&image.id, whole),
            "CreatedAt": created_at(image.created),
            "CreatedSince": ago(image.created),
            "Size": size(image.size),
            "Containers": known(image.containers.to_string()),
            "SharedSize": known(size(shared.unwrap_or(0))),
            "UniqueSize": known(size(image.size.saturating_sub(shared.unwrap_or(0)))),
        })
    };
    names.into_iter().map(row).collect()
}

/// `history`.
pub(crate) async fn history(daemon: Daemon, args: HistoryArgs) -> Result<u8> {
    let list: Vec<HistoryItem> = daemon.get(&format!("/images/{}/history", escape(&args.image))).await?;
    if args.quiet {
        for step in &list {
            say(short(&step.id, args.no_trunc))?;
        }
        return Ok(0);
    }
    let row = |step: &HistoryItem| {
        json!({
            "ID": if step.id.starts_with('<') { step.id.clone() } else { short(&step.id, args.no_trunc) },
            "CreatedAt": created_at(step.created),
            "CreatedSince": ago(step.created),
            "CreatedBy": shorten(&step.created_by, 45, args.no_trunc),
            "Size": size(step.size),
            "Comment": step.comment,
        })
    };
    let rows: Vec<Value> = list.iter().map(row).collect();
    print_rows(&rows, args.format.as_deref(), &STEPS)?;
    Ok(0)
}

/// `inspect`: of a kind, or of whatever has the name, containers first.
pub(crate) async fn inspect(daemon: Daemon, args: InspectArgs, kind: Option<&str>) -> Result<u8> {
    let kind = kind.or(args.kind.as_deref());
    let mut found = Vec::new();
    let mut failed = 0;
    for name in &args.names {
        match look_up(&daemon, name, kind).await {
            Ok(value) => found.push(value),
            Err(error) => {
                complain(&error);
                failed = crate::ERROR;
            }
        }
    }
    print_values(&found, args.format.as_deref())?;
    Ok(failed)
}

async fn look_up(daemon: &Daemon, name: &str, kind: Option<&str>) -> Result<Value> {
    let escaped = escape(name);
    let paths = [
        ("container", format!("/containers/{escaped}/json")),
        ("image", format!("/images/{escaped}/json")),
        ("volume", format!("/volumes/{escaped}")),
    ];
    let wanted: Vec<_> = paths.iter().filter(|(of, _)| kind.is_none_or(|kind| kind == *of)).collect();
    if wanted.is_empty() {
        bail!("--type is container, image or volume");
    }
    for (_, path) in &wanted {
        match daemon.get::<Value>(path).await {
            Err(Error::Refused { status: 404, .. }) if wanted.len() > 1 => {}
            other => return Ok(other?),
        }
    }
    bail!("No such object: {name}")
}
