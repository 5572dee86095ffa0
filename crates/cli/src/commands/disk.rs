//! `system df` and `system prune`: what things take on the disk, and taking away what nothing uses.

use anyhow::{Result, bail};
use atoll_api::atoll::RestUsage;
use atoll_api::docker::{ContainerSummary, DiskUsage, ImagePruned, ImageSummary, VolumeView, size};
use atoll_client::with_query;
use serde::Deserialize;
use serde_json::{Value, json};

use super::images::say_removed;
use super::lists::{container_row, filters, image_rows};
use super::{Daemon, say};
use crate::args::{DfArgs, PruneArgs};
use crate::output::{Column, print_rows, print_values};
use crate::terminal;

const USAGE: [Column; 5] = [
    ("TYPE", "{{.Type}}"),
    ("TOTAL", "{{.TotalCount}}"),
    ("ACTIVE", "{{.Active}}"),
    ("SIZE", "{{.Size}}"),
    ("RECLAIMABLE", "{{.Reclaimable}}"),
];
const IMAGES: [Column; 8] = [
    ("REPOSITORY", "{{.Repository}}"),
    ("TAG", "{{.Tag}}"),
    ("IMAGE ID", "{{.ID}}"),
    ("CREATED", "{{.CreatedSince}}"),
    ("SIZE", "{{.Size}}"),
    ("SHARED SIZE", "{{.SharedSize}}"),
    ("UNIQUE SIZE", "{{.UniqueSize}}"),
    ("CONTAINERS", "{{.Containers}}"),
];
const CONTAINERS: [Column; 8] = [
    ("CONTAINER ID", "{{.ID}}"),
    ("IMAGE", "{{.Image}}"),
    ("COMMAND", "{{.Command}}"),
    ("LOCAL VOLUMES", "{{.LocalVolumes}}"),
    ("SIZE", "{{.Size}}"),
    ("CREATED", "{{.RunningFor}}"),
    ("STATUS", "{{.Status}}"),
    ("NAMES", "{{.Names}}"),
];
const VOLUMES: [Column; 3] = [("VOLUME NAME", "{{.Name}}"), ("LINKS", "{{.Links}}"), ("SIZE", "{{.Size}}")];

/// `system df`.
pub(crate) async fn usage(daemon: Daemon, args: DfArgs) -> Result<u8> {
    let usage: DiskUsage = daemon.get("/system/df").await?;
    let (images, containers) = (usage.images.unwrap_or_default(), usage.containers.unwrap_or_default());
    let volumes = usage.volumes.unwrap_or_default();
    if args.each {
        each(&images, &containers, &volumes, args.format.as_deref())?;
        return Ok(0);
    }
    let rest: RestUsage = daemon.get("/atoll/v1/system/df").await?;
    let mut rows = vec![of_images(&images, usage.layers_size), of_containers(&containers), of_volumes(&volumes)];
    rows.push(row("Build Cache", Some((0, 0)), 0, Some(0)));
    rows.extend(
        [("Logs", rest.logs), ("Transfers", rest.transfers), ("Other", rest.other)]
            .map(|(kind, bytes)| row(kind, None, bytes, None)),
    );
    print_rows(&rows, args.format.as_deref(), &USAGE)?;
    Ok(0)
}

/// One kind of thing: how many there are and are used, what they take, and what of that would be free without those that are not.
fn row(kind: &str, counts: Option<(usize, usize)>, bytes: u64, reclaimable: Option<u64>) -> Value {
    let count = |number: Option<usize>| number.map_or_else(String::new, |number| number.to_string());
    let share = |free: u64| match (free.saturating_mul(100)).checked_div(bytes) {
        Some(percent) => format!("{} ({percent}%)", size(free)),
        None => size(free),
    };
    json!({
        "Type": kind,
        "TotalCount": count(counts.map(|counts| counts.0)),
        "Active": count(counts.map(|counts| counts.1)),
        "Size": size(bytes),
        "Reclaimable": reclaimable.map_or_else(String::new, share),
    })
}

/// As Docker counts: everything but what used images alone keep could go.
fn of_images(images: &[ImageSummary], bytes: u64) -> Value {
    let used: Vec<_> = images.iter().filter(|image| image.containers > 0).collect();
    let alone = |image: &&ImageSummary| image.size.saturating_sub(u64::try_from(image.shared_size).unwrap_or(0));
    let kept: u64 = used.iter().map(alone).sum();
    row("Images", Some((images.len(), used.len())), bytes, Some(bytes.saturating_sub(kept)))
}

fn of_containers(containers: &[ContainerSummary]) -> Value {
    let is_active =
        |container: &&ContainerSummary| matches!(container.state.as_str(), "running" | "paused" | "restarting");
    let (active, idle): (Vec<_>, Vec<_>) = containers.iter().partition(is_active);
    let bytes = |list: &[&ContainerSummary]| list.iter().filter_map(|container| container.size_rw).sum::<u64>();
    let free = bytes(&idle);
    row("Containers", Some((containers.len(), active.len())), bytes(&active) + free, Some(free))
}

fn of_volumes(volumes: &[VolumeView]) -> Value {
    let is_used = |volume: &&VolumeView| volume.usage_data.is_some_and(|usage| usage.ref_count > 0);
    let (used, idle): (Vec<_>, Vec<_>) = volumes.iter().partition(is_used);
    let bytes = |list: &[&VolumeView]| list.iter().map(|volume| volume_bytes(volume)).sum::<u64>();
    let free = bytes(&idle);
    row("Local Volumes", Some((volumes.len(), used.len())), bytes(&used) + free, Some(free))
}

fn volume_bytes(volume: &VolumeView) -> u64 {
    volume.usage_data.and_then(|usage| u64::try_from(usage.size).ok()).unwrap_or(0)
}

/// `system df -v`.
fn each(
    images: &[ImageSummary],
    containers: &[ContainerSummary],
    volumes: &[VolumeView],
    format: Option<&str>,
) -> Result<()> {
    let images: Vec<Value> = images.iter().flat_map(|image| image_rows(image, false)).collect();
    let containers: Vec<Value> = containers.iter().map(|container| container_row(container, false)).collect();
    let volume = |volume: &VolumeView| {
        let links = volume.usage_data.map_or(0, |usage| usage.ref_count).to_string();
        json!({"Name": volume.name, "Driver": volume.driver, "Links": links, "Size": size(volume_bytes(volume))})
    };
    let volumes: Vec<Value> = volumes.iter().map(volume).collect();
    if format.is_some() {
        let all = json!({"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": []});
        return print_values(&[all], format);
    }
    say("Images space usage:\n")?;
    print_rows(&images, None, &IMAGES)?;
    say("\nContainers space usage:\n")?;
    print_rows(&containers, None, &CONTAINERS)?;
    say("\nLocal Volumes space usage:\n")?;
    print_rows(&volumes, None, &VOLUMES)?;
    say("\nBuild cache usage: 0B")
}

/// What the other prunes answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    containers_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// `system prune`.
pub(crate) async fn prune(daemon: Daemon, args: PruneArgs) -> Result<u8> {
    if args.volumes && args.filter.iter().any(|filter| filter.starts_with("until=")) {
        bail!("the filter until cannot be used with --volumes: volumes have none");
    }
    let chosen = filters(&args.filter)?;
    if !args.force && !terminal::agrees(&warning(&args))? {
        return Ok(crate::ERROR);
    }
    let mut freed = 0;
    let mut kinds = vec![("Containers", "/containers/prune")];
    kinds.extend(args.volumes.then_some(("Volumes", "/volumes/prune")));
    kinds.push(("Networks", "/networks/prune"));
    for (kind, path) in kinds {
        freed += one(&daemon, kind, path, &chosen).await?;
    }
    let mut of_images = args.filter.clone();
    of_images.extend(args.all.then(|| "dangling=false".to_owned()));
    let path = with_query("/images/prune", &[("filters", &filters(&of_images)?)]);
    let images: ImagePruned = daemon.post(&path, &json!({})).await?;
    freed += images.space_reclaimed;
    if let Some(items) = images.images_deleted.filter(|items| !items.is_empty()) {
        say("Deleted Images:")?;
        say_removed(items)?;
        say("")?;
    }
    freed += one(&daemon, "build cache objects", "/build/prune", "").await?;
    say(format!("Total reclaimed space: {}", size(freed)))?;
    Ok(0)
}

/// Takes away what is idle of one kind and says what that was; bytes that are free now.
async fn one(daemon: &Daemon, kind: &str, path: &str, filters: &str) -> Result<u64> {
    let pruned: Pruned = daemon.post(&with_query(path, &[("filters", filters)]), &json!({})).await?;
    let lists = [pruned.containers_deleted, pruned.volumes_deleted, pruned.networks_deleted, pruned.caches_deleted];
    let names: Vec<String> = lists.into_iter().flatten().flatten().collect();
    if !names.is_empty() {
        say(format!("Deleted {kind}:\n{}\n", names.join("\n")))?;
    }
    Ok(pruned.space_reclaimed)
}

fn warning(args: &PruneArgs) -> String {
    let mut going = vec!["all stopped containers", "all networks not used by at least one container"];
    going.extend(args.volumes.then_some("all anonymous volumes not used by at least one container"));
    going.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    going.push(if args.all { "all build cache" } else { "unused build cache" });
    let mut text = "WARNING! This will remove:\n".to_owned();
    for what in going {
        text.extend(["  - ", what, "\n"]);
    }
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in &args.filter {
            text.extend(["  - ", filter, "\n"]);
        }
    }
    text + "\nAre you sure you want to continue? [y/N] "
}
