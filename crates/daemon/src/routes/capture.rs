//! `/containers/{name}/changes` and `/commit`: what a container has made of its image, and an image of that.

use atoll_api::docker::{ChangeItem, CommitResponse};
use atoll_engine::{ChangeKind, CommitRequest};
use atoll_oci::config::Config;
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::{Pairs, State};
use crate::answer::{Answer, body};

pub(super) fn routes() -> Router<State> {
    Router::new().route("/containers/{name}/changes", get(changes)).route("/commit", post(commit))
}

async fn changes(Held(state): Held<State>, Path(name): Path<String>) -> Answer<Json<Option<Vec<ChangeItem>>>> {
    let item = |change: atoll_engine::Change| ChangeItem {
        path: String::from_utf8_lossy(&change.path).into_owned(),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    };
    let changes: Vec<ChangeItem> = state.engine.changes(&name).await?.into_iter().map(item).collect();
    // Docker has no list where there is nothing to list.
    Ok(Json(Some(changes).filter(|changes| !changes.is_empty())))
}

async fn commit(
    Held(state): Held<State>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Answer<Response> {
    let query = Pairs(query);
    let config: Option<Config> = body(request).await?;
    let wanted = CommitRequest {
        container: query.last("container").to_owned(),
        name: query.reference("repo", "tag")?,
        comment: query.last("comment").to_owned(),
        author: query.last("author").to_owned(),
        // Frozen unless somebody says no.
        unfrozen: matches!(query.last("pause"), "0" | "false" | "False" | "no" | "none"),
        config: config.unwrap_or_default(),
        changes: query.all("changes"),
    };
    let id = state.engine.commit(wanted).await?.to_string();
    Ok((StatusCode::CREATED, Json(CommitResponse { id })).into_response())
}
