//! `POST /…/prune`: removing what nobody uses.

use std::time::SystemTime;

use atoll_api::docker::{Filters, parse_past};
use atoll_model::Timestamp;
use axum::extract::{Query, State as Held};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use crate::answer::{Answer, Refusal};
use crate::projects::Scope;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/prune", post(containers))
        .route("/volumes/prune", post(volumes))
        .route("/networks/prune", post(networks))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PruneQuery {
    filters: Option<String>,
}

impl PruneQuery {
    /// The filters, and the time before which something must have been made.
    pub(super) fn read(&self, keys: &[&str]) -> Answer<(Filters, Option<Timestamp>)> {
        let filters = Filters::parse(self.filters.as_deref(), keys)?;
        let until = until(&filters)?;
        Ok((filters, until))
    }
}

/// The time before which something must have been made.
pub(super) fn until(filters: &Filters) -> Answer<Option<Timestamp>> {
    match filters.get("until") {
        [] => Ok(None),
        [moment] => Ok(Some(parse_past(moment, SystemTime::now().into())?)),
        _ => Err(Refusal::bad("more than one until filter specified")),
    }
}

async fn containers(Held(state): Held<State>, scope: Scope, Query(query): Query<PruneQuery>) -> Answer<Json<Value>> {
    let (filters, until) = query.read(&["label", "label!", "until"])?;
    let pruned = state
        .engine
        .prune_workloads(|workload| {
            scope.sees(workload.host.project.as_deref())
                && until.is_none_or(|until| workload.created < until)
                && filters.labels(&workload.labels)
        })
        .await?;
    Ok(Json(json!({"ContainersDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes})))
}

/// Without `all`, only volumes that have no name of their own.
async fn volumes(Held(state): Held<State>, scope: Scope, Query(query): Query<PruneQuery>) -> Answer<Json<Value>> {
    let (filters, _) = query.read(&["label", "label!", "all"])?;
    let all = filters.boolean("all")?.unwrap_or(false);
    let pruned = state
        .engine
        .prune_volumes(|volume| {
            scope.sees(volume.project.as_deref()) && (all || volume.anonymous) && filters.labels(&volume.labels)
        })
        .await?;
    Ok(Json(json!({"VolumesDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes})))
}

/// The networks that there are belong to the host.
async fn networks(Query(query): Query<PruneQuery>) -> Answer<Json<Value>> {
    query.read(&["label", "label!", "until"])?;
    Ok(Json(json!({"NetworksDeleted": null})))
}
