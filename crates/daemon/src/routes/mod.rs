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

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use atoll_engine::Engine;

use crate::answer::Refusal;
use crate::metrics::{self, Metrics};

pub(crate) use streams::AttachQuery;

/// What handlers get.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) metrics: Metrics,
    /// The address at which whoever can connect is as good as root, if there is one.
    pub(crate) exposed: Option<SocketAddr>,
}

/// The query of requests that can be forced.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ForceQuery {
    force: Option<String>,
}

/// All routes.
pub(crate) fn router(state: State) -> Router {
    let counted = state.metrics.clone();
    Router::new()
        .route("/metrics", get(metrics::metrics))
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
        .route_layer(from_fn(move |request: Request, next: Next| counted.clone().count(request, next)))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(state)
}

async fn not_found() -> Response {
    Refusal::new(StatusCode::NOT_FOUND, "page not found").into_response()
}
