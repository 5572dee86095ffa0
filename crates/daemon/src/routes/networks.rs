//! `/networks`: those that every host has.

use atoll_api::docker::{NetworkInspect, rfc3339};
use atoll_model::Timestamp;
use axum::extract::{Path, State as Held};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::State;
use crate::answer::{Answer, Refusal};

pub(super) fn routes() -> Router<State> {
    Router::new().route("/networks", get(list)).route("/networks/{name}", get(inspect))
}

async fn list(Held(_): Held<State>) -> Json<Vec<NetworkInspect>> {
    Json(NetworkInspect::predefined(&rfc3339(Timestamp::NEVER)))
}

async fn inspect(Path(name): Path<String>) -> Answer<Json<NetworkInspect>> {
    let all = NetworkInspect::predefined(&rfc3339(Timestamp::NEVER));
    let found = all.into_iter().find(|network| network.name == name || network.id == name);
    found.map(Json).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("network {name} not found")))
}
