//! `/images`. Names of images have slashes, so everything after the group is taken apart here.

use atoll_api::atoll::ProgressLine;
use atoll_api::docker::{self, DeleteItem, Filters, HistoryItem, ImageInspect, ImagePruned, ImageSummary};
use atoll_engine::{ImageView, Removal, matches_reference};
use atoll_model::Timestamp;
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::prune::{PruneQuery, until};
use super::{ForceQuery, Pairs, State, progress};
use crate::answer::{Answer, Refusal, archive, is_true};
use crate::projects::Scope;
use crate::upload::Upload;

/// Keys of the list's filters.
const FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];
/// Keys of the filters for what is to go.
const PRUNE_FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/load", post(load))
        .route("/images/prune", post(prune))
        .route("/images/create", post(super::pull::create))
        .route("/images/get", get(save))
        .route("/images/{*rest}", get(look).post(change).delete(remove))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    filters: Option<String>,
    digests: Option<String>,
    manifests: Option<String>,
    #[serde(rename = "shared-size")]
    shared_size: Option<String>,
}

async fn list(
    Held(state): Held<State>,
    scope: Scope,
    Query(query): Query<ListQuery>,
) -> Answer<Json<Vec<ImageSummary>>> {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let (dangling, until) = (filters.boolean("dangling")?, until(&filters)?);
    let images = state.engine.images().await?;
    let before = made(&state, &filters, "before").await?;
    let since = made(&state, &filters, "since").await?;
    let used = scope.list(&state.engine);
    let mut shown = Vec::new();
    for image in &images {
        let named: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
        let fits = |pattern: &str| named.iter().any(|name| matches_reference(pattern, name));
        let holds = dangling.is_none_or(|dangling| dangling == named.is_empty())
            && before.is_none_or(|moment| created(image) < moment)
            && since.is_none_or(|moment| created(image) > moment)
            && filters.any("reference", fits)
            && is_chosen(image, &filters, until);
        if holds {
            let users = used.iter().filter(|view| view.workload.image.id == image.id);
            let users: Vec<String> = users.map(|view| view.workload.id.to_string()).collect();
            let mut item = summary(image, named, users.len());
            if is_true(query.shared_size.as_deref()) {
                item.shared_size = shared_bytes(image, &images);
            }
            if is_true(query.manifests.as_deref()) {
                let manifests = state.engine.manifests(&image.id).await?.into_iter();
                item.manifests = manifests.map(|view| super::registries::manifest(view, &users)).collect();
            }
            shown.push(item);
        }
    }
    Ok(Json(shown))
}

/// Bytes of the layers that another image has too.
fn shared_bytes(image: &ImageView, images: &[ImageView]) -> i64 {
    let others: std::collections::HashSet<_> = images
        .iter()
        .filter(|other| other.id != image.id)
        .flat_map(|other| &other.layers)
        .map(|layer| &layer.0)
        .collect();
    let shared: u64 = image.layers.iter().filter(|layer| others.contains(&layer.0)).map(|layer| layer.1).sum();
    i64::try_from(shared).unwrap_or(i64::MAX)
}

/// Whether an image was made before a time, and its labels are as the filters want them.
fn is_chosen(image: &ImageView, filters: &Filters, until: Option<Timestamp>) -> bool {
    until.is_none_or(|moment| created(image) < moment.seconds()) && filters.labels(&image.config.config.labels)
}

/// When the image that a filter names was made.
async fn made(state: &State, filters: &Filters, key: &str) -> Answer<Option<i64>> {
    match filters.get(key) {
        [] => Ok(None),
        [name] => Ok(Some(created(&state.engine.image(name).await?))),
        _ => Err(Refusal::bad(format!("more than one {key} filter specified"))),
    }
}

async fn prune(Held(state): Held<State>, Query(query): Query<PruneQuery>) -> Answer<Json<ImagePruned>> {
    let (filters, until) = query.read(&PRUNE_FILTERS)?;
    let all = filters.boolean("dangling")? == Some(false);
    let goes = move |image: &ImageView| (all || image.names.is_empty()) && is_chosen(image, &filters, until);
    let (removed, space_reclaimed) = state.engine.prune_images(goes).await?;
    let items: Vec<_> = removed.into_iter().map(item).collect();
    Ok(Json(ImagePruned { images_deleted: Some(items).filter(|items| !items.is_empty()), space_reclaimed }))
}

fn repo_digests(image: &ImageView) -> Vec<String> {
    image.digests.iter().map(atoll_oci::Reference::familiar).collect()
}

fn created(image: &ImageView) -> i64 {
    docker::parse_rfc3339(image.config.created.as_deref().unwrap_or_default()).seconds()
}

pub(super) fn summary(image: &ImageView, names: Vec<String>, users: usize) -> ImageSummary {
    ImageSummary {
        id: image.id.to_string(),
        parent_id: String::new(),
        repo_digests: repo_digests(image),
        repo_tags: names,
        created: created(image),
        size: image.size,
        shared_size: -1,
        labels: image.config.config.labels.clone(),
        containers: i64::try_from(users).unwrap_or(i64::MAX),
        manifests: Vec::new(),
    }
}

async fn look(
    Held(state): Held<State>,
    Path(rest): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer<Response> {
    if let Some(name) = rest.strip_suffix("/get") {
        return archived(&state, vec![name.to_owned()], &Pairs(query)).await;
    }
    if let Some(name) = rest.strip_suffix("/json") {
        return Ok(Json(describe(&state.engine.image(name).await?)).into_response());
    }
    if let Some(name) = rest.strip_suffix("/history") {
        return Ok(Json(history(&state.engine.image(name).await?)).into_response());
    }
    Err(Refusal::new(StatusCode::NOT_FOUND, "page not found"))
}

fn describe(image: &ImageView) -> ImageInspect {
    let config = &image.config.config;
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.names.iter().map(|name| name.familiar()).collect(),
        repo_digests: repo_digests(image),
        comment: image.config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        created: image.config.created.clone().unwrap_or_default(),
        author: image.config.author.clone().unwrap_or_default(),
        config: docker::ImageConfigView {
            user: config.user.clone(),
            exposed_ports: config.exposed_ports.keys().map(|port| (port.clone(), serde_json::json!({}))).collect(),
            env: config.env.clone(),
            cmd: config.cmd.clone(),
            volumes: Some(config.volumes.keys().map(|path| (path.clone(), serde_json::json!({}))).collect())
                .filter(|volumes: &std::collections::BTreeMap<_, _>| !volumes.is_empty()),
            working_dir: config.working_dir.clone(),
            entrypoint: config.entrypoint.clone(),
            on_build: Some(config.on_build.clone()).filter(|steps| !steps.is_empty()),
            labels: Some(config.labels.clone()).filter(|labels| !labels.is_empty()),
            stop_signal: config.stop_signal.clone().unwrap_or_default(),
            healthcheck: config.healthcheck.clone(),
        },
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        os: image.config.os.clone(),
        size: image.size,
        graph_driver: docker::GraphDriver { name: "overlay2".to_owned(), ..docker::GraphDriver::default() },
        root_fs: docker::RootFs {
            kind: "layers".to_owned(),
            layers: image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        ..ImageInspect::default()
    }
}

/// The steps, newest first, each layer's size with the step that made it.
fn history(image: &ImageView) -> Vec<HistoryItem> {
    let mut sizes = image.layers.iter().map(|(_, size)| *size);
    let mut steps: Vec<HistoryItem> = Vec::new();
    for step in &image.config.history {
        steps.push(HistoryItem {
            id: "<missing>".to_owned(),
            created: docker::parse_rfc3339(step.created.as_deref().unwrap_or_default()).seconds(),
            created_by: step.created_by.clone().unwrap_or_default(),
            tags: None,
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: step.comment.clone().unwrap_or_default(),
        });
    }
    if let Some(last) = steps.last_mut() {
        last.id = image.id.to_string();
        last.tags = Some(image.names.iter().map(|name| name.familiar()).collect());
    }
    steps.reverse();
    steps
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChangeQuery {
    pub(super) repo: String,
    pub(super) tag: String,
    pub(super) platform: String,
}

async fn change(
    Held(state): Held<State>,
    Path(rest): Path<String>,
    Query(query): Query<ChangeQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    if let Some(name) = rest.strip_suffix("/push") {
        return super::registries::push(state, name, &query, &headers).await;
    }
    let Some(name) = rest.strip_suffix("/tag") else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "page not found"));
    };
    let target = if query.tag.is_empty() { query.repo } else { format!("{}:{}", query.repo, query.tag) };
    state.engine.tag(name, &target).await?;
    Ok(StatusCode::CREATED.into_response())
}

async fn remove(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<ForceQuery>,
) -> Answer<Json<Vec<DeleteItem>>> {
    let removed = state.engine.remove_image(&name, is_true(query.force.as_deref())).await?;
    Ok(Json(removed.into_iter().map(item).collect()))
}

fn item(removal: Removal) -> DeleteItem {
    match removal {
        Removal::Untagged(name) => DeleteItem { untagged: Some(name), deleted: None },
        Removal::Deleted(id) => DeleteItem { untagged: None, deleted: Some(id) },
    }
}

async fn save(Held(state): Held<State>, Query(query): Query<Vec<(String, String)>>) -> Answer<Response> {
    let query = Pairs(query);
    let names = query.all("names");
    archived(&state, names.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect(), &query).await
}

async fn archived(state: &State, names: Vec<String>, query: &Pairs) -> Answer<Response> {
    let stream = state.engine.save(names, query.platform("platform")?).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], archive(stream)).into_response())
}

/// The archive is read while it is received.
async fn load(
    Held(state): Held<State>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Answer<Response> {
    let platform = Pairs(query).platform("platform")?;
    let archive = Upload::of(request.into_body());
    progress::answer(None, move |reports| async move {
        let loaded = state.engine.load(archive, platform, reports).await?;
        Ok(loaded.into_iter().map(|line| ProgressLine::text(format!("{line}\n"))).collect())
    })
    .await
}
