//! The routes of the API, a module for each of its groups.

mod absent;
mod atoll;
mod containers;
mod exec;
mod images;
mod networks;
mod progress;
mod prune;
mod pull;
mod registries;
mod streams;
mod system;
mod use_of_host;
mod volumes;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use atoll_engine::Engine;

use crate::answer::Refusal;

pub(crate) use streams::AttachQuery;

/// What handlers get.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
}

/// The query of requests that can be forced.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ForceQuery {
    force: Option<String>,
}

/// All routes.
pub(crate) fn router(engine: Engine) -> Router {
    let state = State { engine };
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(streams::routes())
        .merge(exec::routes())
        .merge(use_of_host::routes())
        .merge(images::routes())
        .merge(registries::routes())
        .merge(volumes::routes())
        .merge(networks::routes())
        .merge(prune::routes())
        .merge(atoll::routes())
        .merge(absent::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(state)
}

async fn not_found() -> Response {
    Refusal::new(StatusCode::NOT_FOUND, "page not found").into_response()
}
