//! `/containers/{name}/archive` and `/containers/{name}/export`: files of containers as archives.

use atoll_api::docker::{PATH_STAT, PathStat, go_mode, rfc3339};
use atoll_engine::CopyIn;
use atoll_model::Timestamp;
use axum::Router;
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::State;
use crate::answer::{Answer, Refusal, archive, is_true};
use crate::upload::Upload;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/{name}/archive", get(read).head(stat).put(write))
        .route("/containers/{name}/export", get(export))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ArchiveQuery {
    path: String,
    #[serde(rename = "noOverwriteDirNonDir")]
    keep_kinds: Option<String>,
    #[serde(rename = "copyUIDGID")]
    to_user: Option<String>,
}

impl ArchiveQuery {
    fn path(&self) -> Answer<&str> {
        match self.path.as_str() {
            "" => Err(Refusal::bad("bad parameter: 'path' cannot be empty")),
            path => Ok(path),
        }
    }
}

fn shown(stat: &atoll_engine::PathStat) -> String {
    let (seconds, nanos) = stat.modified;
    let at = Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into()));
    PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: rfc3339(at),
        link_target: stat.link_target.clone(),
    }
    .to_header()
}

async fn stat(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<ArchiveQuery>,
) -> Answer<Response> {
    let stat = state.engine.stat_path(&name, query.path()?).await?;
    Ok([(PATH_STAT, shown(&stat))].into_response())
}

async fn read(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<ArchiveQuery>,
) -> Answer<Response> {
    let (stat, stream) = state.engine.copy_out(&name, query.path()?).await?;
    let headers = [(PATH_STAT, shown(&stat)), (header::CONTENT_TYPE.as_str(), "application/x-tar".to_owned())];
    Ok((headers, archive(stream)).into_response())
}

async fn write(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<ArchiveQuery>,
    request: Request,
) -> Answer<StatusCode> {
    let wanted =
        CopyIn { keep_kinds: is_true(query.keep_kinds.as_deref()), to_user: is_true(query.to_user.as_deref()) };
    state.engine.copy_in(&name, query.path()?, wanted, Upload::of(request.into_body())).await?;
    Ok(StatusCode::OK)
}

async fn export(Held(state): Held<State>, Path(name): Path<String>) -> Answer<Response> {
    let stream = state.engine.export(&name).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], archive(stream)).into_response())
}
