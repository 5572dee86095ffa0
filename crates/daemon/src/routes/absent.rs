//! What an engine answers that is outside of a swarm and has no plugins, builder or checkpoints.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::State;
use crate::answer::Refusal;
use crate::upload::Upload;

pub(super) fn routes() -> Router<State> {
    let mut router = Router::new()
        .route("/plugins", get(async || Json(json!([]))))
        .route("/plugins/privileges", get(async || unsupported("plugins are")))
        .route("/plugins/pull", post(async || unsupported("plugins are")))
        .route("/plugins/create", post(async || unsupported("plugins are")))
        .route("/plugins/{*rest}", any(no_plugin))
        .route("/build", post(no_build))
        .route("/build/cancel", post(async || unsupported("building images is")))
        .route("/build/prune", post(nothing_built))
        .route("/session", post(async || unsupported("sessions of the builder are")))
        .route("/grpc", post(async || unsupported("sessions of the builder are")))
        .route("/containers/{name}/checkpoints", any(async || unsupported("checkpoints of containers are")))
        .route("/containers/{name}/checkpoints/{id}", any(async || unsupported("checkpoints of containers are")))
        .route("/swarm/init", post(async || unsupported("swarms are")))
        .route("/swarm/join", post(async || unsupported("swarms are")));
    for group in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        router = router.route(group, any(no_swarm)).route(&format!("{group}/{{*rest}}"), any(no_swarm));
    }
    router
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("{what} not supported by Atoll yet"))
}

/// The context is heard out: a client that is still sending would not see the answer.
async fn no_build(request: Request) -> Refusal {
    drop(Upload::of(request.into_body()));
    unsupported("building images is")
}

async fn no_plugin(Path(rest): Path<String>) -> Refusal {
    const VERBS: [&str; 6] = ["/json", "/enable", "/disable", "/upgrade", "/push", "/set"];
    let name = VERBS.iter().find_map(|verb| rest.strip_suffix(verb)).unwrap_or(&rest);
    Refusal::new(StatusCode::NOT_FOUND, format!("plugin {name:?} not found"))
}

/// There is no cache to prune.
async fn nothing_built() -> Json<Value> {
    Json(json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

async fn no_swarm() -> Refusal {
    let message = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
