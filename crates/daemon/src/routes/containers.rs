//! `/containers`: defining, looking at, starting and ending.

use std::collections::BTreeMap;
use std::time::SystemTime;

use atoll_api::docker::{self, ContainerSummary, CreateRequest, CreateResponse, Filters, RenameQuery};
use atoll_engine::{Size, WaitCondition, WorkloadView};
use atoll_model::{Timestamp, WorkloadId};
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::State;
use crate::answer::{Answer, Refusal, body, is_true, pieces};
use crate::projects::Scope;

/// Keys of the list's filters.
const FILTERS: [&str; 12] = [
    "ancestor",
    "before",
    "exited",
    "health",
    "id",
    "label",
    "name",
    "network",
    "since",
    "status",
    "volume",
    "isolation",
];

/// Values of the filter `health`.
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/json", get(list))
        .route("/containers/create", post(create))
        .route("/containers/{name}", delete(remove))
        .route("/containers/{name}/json", get(inspect))
        .route("/containers/{name}/start", post(start))
        .route("/containers/{name}/stop", post(stop))
        .route("/containers/{name}/restart", post(restart))
        .route("/containers/{name}/kill", post(kill))
        .route("/containers/{name}/pause", post(pause))
        .route("/containers/{name}/unpause", post(unpause))
        .route("/containers/{name}/rename", post(rename))
        .route("/containers/{name}/resize", post(resize))
        .route("/containers/{name}/wait", post(wait))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    all: Option<String>,
    limit: Option<i64>,
    filters: Option<String>,
    size: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InspectQuery {
    size: Option<String>,
}

async fn list(
    Held(state): Held<State>,
    scope: Scope,
    Query(query): Query<ListQuery>,
) -> Answer<Json<Vec<ContainerSummary>>> {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    // Clients write -1 for all.
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let all = is_true(query.all.as_deref()) || limit.is_some() || !filters.get("status").is_empty();
    let views = scope.list(&state.engine);
    let chosen = choose(&views, &filters, &ancestors(&state, &filters).await)?;
    let shown = chosen.into_iter().filter(|view| all || view.phase.is_up()).take(limit.unwrap_or(usize::MAX));
    let now = SystemTime::now().into();
    let sizes = if is_true(query.size.as_deref()) { sizes(&state).await? } else { BTreeMap::new() };
    let mut lines: Vec<_> = shown.map(|view| summary(&state, view, &sizes, now)).collect();
    let moved = state.engine.moved_names().await;
    for line in lines.iter_mut().filter(|line| moved.contains(&(line.image.clone(), line.image_id.clone()))) {
        line.image.clone_from(&line.image_id);
    }
    Ok(Json(lines))
}

/// The images that the filter `ancestor` names; one that is not there is nobody's.
async fn ancestors(state: &State, filters: &Filters) -> Vec<String> {
    let mut ids = Vec::new();
    for name in filters.get("ancestor") {
        ids.extend(state.engine.image(name).await.map(|image| image.id.to_string()));
    }
    ids
}

/// A line of the list.
pub(super) fn summary(state: &State, view: &WorkloadView, sizes: &Sizes, now: Timestamp) -> ContainerSummary {
    let extras = docker::Extras { sizes: sizes.get(&view.workload.id).copied(), ..extras(state, view) };
    docker::summary(&view.workload, &view.phase, &extras, now)
}

/// The workloads that all filters let through, in the same order: newest first.
fn choose<'a>(views: &'a [WorkloadView], filters: &Filters, ancestors: &[String]) -> Answer<Vec<&'a WorkloadView>> {
    docker::check_pattern(filters, "name")?;
    if let Some(unknown) = filters.get("health").iter().find(|wanted| !HEALTH.contains(&wanted.as_str())) {
        return Err(Refusal::bad(format!("Unrecognised filter value for health: {unknown}")));
    }
    let position = |key: &str| -> Answer<Option<usize>> {
        let Some(wanted) = filters.get(key).first() else { return Ok(None) };
        let found = views
            .iter()
            .position(|view| view.workload.name == *wanted || view.workload.id.as_str().starts_with(wanted.as_str()));
        found.map(Some).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("No such container: {wanted}")))
    };
    let (before, since) = (position("before")?, position("since")?);
    let holds = |index: usize, view: &WorkloadView| {
        let workload = &view.workload;
        let exit = match view.phase {
            atoll_model::Phase::Exited { exit, .. } => Some(exit.code.to_string()),
            _ => None,
        };
        before.is_none_or(|at| index > at)
            && since.is_none_or(|at| index < at)
            && filters.any("status", |status| status == view.phase.status())
            && filters.any("health", |wanted| wanted == health(view))
            && filters.any("id", |id| workload.id.as_str().starts_with(id))
            && filters.any("exited", |code| exit.as_deref() == Some(code))
            && filters.any("isolation", |wanted| wanted == "container" || wanted == "default")
            && (filters.get("ancestor").is_empty() || ancestors.contains(&workload.image.id.to_string()))
            && filters.any("network", |network| docker::network_mode(&workload.host.network) == network)
            && filters.any("volume", |volume| workload.mounts.iter().any(|mount| has_mount(mount, volume)))
            && filters.pattern("name", &workload.name)
            && filters.labels(&workload.labels)
    };
    Ok(views.iter().enumerate().filter(|(index, view)| holds(*index, view)).map(|(_, view)| view).collect())
}

/// As the filter `health` names it.
fn health(view: &WorkloadView) -> &'static str {
    view.health.as_ref().map_or("none", |health| health.status.name())
}

fn has_mount(mount: &atoll_model::Mount, wanted: &str) -> bool {
    let source = match &mount.source {
        atoll_model::MountSource::Volume { name, .. } => Some(name.as_str()),
        atoll_model::MountSource::Bind { path, .. } => Some(path.as_str()),
        atoll_model::MountSource::Tmpfs { .. } => None,
    };
    mount.target == wanted || source == Some(wanted)
}

/// What each workload has written, and that with what its image has, in bytes.
pub(super) type Sizes = BTreeMap<WorkloadId, (u64, u64)>;

pub(super) async fn sizes(state: &State) -> Answer<Sizes> {
    let written = state.engine.workload_sizes().await?;
    let images: BTreeMap<_, _> = state.engine.images().await?.into_iter().map(|image| (image.id, image.size)).collect();
    let size = |view: &WorkloadView| {
        let workload = &view.workload;
        let own = written.get(&workload.id).copied().unwrap_or(0);
        (workload.id.clone(), (own, own + images.get(&workload.image.id).copied().unwrap_or(0)))
    };
    Ok(state.engine.list().iter().map(size).collect())
}

fn extras(state: &State, view: &WorkloadView) -> docker::Extras {
    let root = state.engine.info().root;
    docker::Extras {
        log_path: view.log.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        endpoint: view.endpoint.as_ref().map(super::networks::endpoint).unwrap_or_default(),
        ports: view.endpoint.as_ref().map(|endpoint| endpoint.ports.clone()).unwrap_or_default(),
        execs: view.execs.clone(),
        error: view.failure.clone(),
        restarts: view.restarts,
        health: view.health.clone(),
        volumes: root.join("volumes").display().to_string(),
        ..docker::Extras::default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CreateQuery {
    name: Option<String>,
    platform: Option<String>,
}

async fn create(
    Held(state): Held<State>,
    scope: Scope,
    Query(query): Query<CreateQuery>,
    request: Request,
) -> Answer<Response> {
    let wanted: CreateRequest = body(request).await?;
    let draft = docker::draft(wanted, query.name.as_deref(), query.platform.as_deref())?;
    let draft = scope.admit(draft)?;
    let created = state.engine.create(draft).await?;
    let response = CreateResponse { id: created.id.to_string(), warnings: created.warnings };
    Ok((StatusCode::CREATED, Json(response)).into_response())
}

async fn inspect(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<InspectQuery>,
) -> Answer<Json<docker::ContainerInspect>> {
    let view = state.engine.inspect(&name)?;
    let sizes = if is_true(query.size.as_deref()) { sizes(&state).await? } else { BTreeMap::new() };
    let extras = docker::Extras { sizes: sizes.get(&view.workload.id).copied(), ..extras(&state, &view) };
    Ok(Json(docker::inspect(&view.workload, &view.phase, &extras)))
}

async fn start(Held(state): Held<State>, Path(name): Path<String>) -> Answer<StatusCode> {
    state.engine.start(&name).await.map_err(|error| match error.exit_code() {
        // A program that is not there or cannot be run is the caller's mistake: Docker answers 400 for both.
        Some(126 | 127) => Refusal::bad(atoll_model::sentence(&error)),
        _ => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StopQuery {
    t: Option<i64>,
    signal: Option<String>,
}

async fn stop(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<StopQuery>,
) -> Answer<StatusCode> {
    state.engine.stop(&name, query.signal.as_deref().filter(|signal| !signal.is_empty()), query.t).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<StopQuery>,
) -> Answer<StatusCode> {
    state.engine.restart(&name, query.signal.as_deref().filter(|signal| !signal.is_empty()), query.t).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<StopQuery>,
) -> Answer<StatusCode> {
    let signal = query.signal.as_deref().filter(|signal| !signal.is_empty()).unwrap_or("KILL");
    state.engine.kill(&name, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(Held(state): Held<State>, Path(name): Path<String>) -> Answer<StatusCode> {
    state.engine.pause(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(Held(state): Held<State>, Path(name): Path<String>) -> Answer<StatusCode> {
    state.engine.unpause(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<RenameQuery>,
) -> Answer<StatusCode> {
    state.engine.rename(&name, &query.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Size of a terminal, as both `resize` calls have it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SizeQuery {
    h: u16,
    w: u16,
}

impl From<SizeQuery> for Size {
    fn from(query: SizeQuery) -> Self {
        Self { rows: query.h, columns: query.w }
    }
}

async fn resize(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<SizeQuery>,
) -> Answer<StatusCode> {
    state.engine.resize(&name, query.into()).await?;
    Ok(StatusCode::OK)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RemoveQuery {
    force: Option<String>,
    v: Option<String>,
    link: Option<String>,
}

async fn remove(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Answer<StatusCode> {
    if is_true(query.link.as_deref()) {
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "links between containers are not supported"));
    }
    state.engine.remove(&name, is_true(query.force.as_deref()), is_true(query.v.as_deref())).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WaitQuery {
    condition: String,
}

/// The answer begins when the wait is registered and goes on when it is over: clients rely on that.
async fn wait(Held(state): Held<State>, Path(name): Path<String>, Query(query): Query<WaitQuery>) -> Answer<Response> {
    let condition = match query.condition.as_str() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Refusal::bad(format!("invalid condition: {other:?}"))),
    };
    let waiter = state.engine.wait(&name, condition)?;
    let body = pieces(Some(waiter), |waiter| async move {
        let exit = waiter?.done().await;
        let response = docker::WaitResponse { status_code: exit.code.into(), error: None };
        Some((serde_json::to_vec(&response).unwrap_or_default(), None))
    });
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], body).into_response())
}
