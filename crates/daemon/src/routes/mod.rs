//! The routes of the API, a module for each of its groups.

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
use axum::routing::any;
use serde::Deserialize;

use atoll_engine::Engine;

use crate::answer::Refusal;

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
        .merge(outside_swarm())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(state)
}

async fn not_found() -> Response {
    Refusal::new(StatusCode::NOT_FOUND, "page not found").into_response()
}

/// What an engine outside of a swarm answers.
fn outside_swarm() -> Router<State> {
    let mut router = Router::new();
    for group in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        router = router.route(group, any(no_swarm)).route(&format!("{group}/{{*rest}}"), any(no_swarm));
    }
    router
}

async fn no_swarm() -> Response {
    let message = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}
