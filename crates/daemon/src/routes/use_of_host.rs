//! `/containers/{name}/stats`, `/top` and `/update`: what workloads use, and what they may.

use std::time::Duration;

use atoll_api::docker::{ContainerStats, TopResponse, UpdateRequest, UpdateResponse, container_stats};
use atoll_engine::Engine;
use atoll_model::Sample;
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::State;
use crate::answer::{Answer, Refusal, body, is_true, pieces};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/{name}/stats", get(stats))
        .route("/containers/{name}/top", get(top))
        .route("/containers/{name}/update", post(update))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatsQuery {
    stream: Option<String>,
    #[serde(rename = "one-shot")]
    one_shot: Option<String>,
}

async fn stats(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<StatsQuery>,
) -> Answer<Response> {
    let stream = query.stream.is_none() || is_true(query.stream.as_deref());
    let one_shot = is_true(query.one_shot.as_deref());
    if stream && one_shot {
        return Err(Refusal::bad("cannot have stream=true and one-shot=true"));
    }
    // A later container of the same name is another one.
    let id = state.engine.inspect(&name)?.workload.id.to_string();
    let mut samples = Samples { engine: state.engine, id, before: None };
    let first = samples.next().await?;
    if !stream {
        let wants_another = !one_shot && samples.before.is_some();
        if wants_another {
            tokio::time::sleep(INTERVAL).await;
        }
        return Ok(Json(if wants_another { samples.next().await? } else { first }).into_response());
    }
    let body = pieces((Some(first), samples), |(first, mut samples)| async move {
        let stats = match first {
            Some(first) => first,
            None => {
                tokio::time::sleep(INTERVAL).await;
                // It was removed: that is the end.
                samples.next().await.ok()?
            }
        };
        let mut line = serde_json::to_vec(&stats).ok()?;
        line.push(b'\n');
        Some((line, (None, samples)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// One sample after the other, each held against the one before.
struct Samples {
    engine: Engine,
    id: String,
    before: Option<Sample>,
}

impl Samples {
    async fn next(&mut self) -> Answer<ContainerStats> {
        let (workload, now) = self.engine.sample(&self.id).await?;
        let stats = container_stats(&workload, self.before.as_ref(), now.as_ref());
        self.before = now;
        Ok(stats)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TopQuery {
    ps_args: String,
}

async fn top(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<TopQuery>,
) -> Answer<Json<TopResponse>> {
    let found = state.engine.top(&name, &query.ps_args).await?;
    Ok(Json(TopResponse { titles: found.titles, processes: found.rows }))
}

async fn update(Held(state): Held<State>, Path(name): Path<String>, request: Request) -> Answer<Json<UpdateResponse>> {
    let wanted: UpdateRequest = body(request).await?;
    let restart = wanted.restart()?;
    let warnings = state.engine.update(&name, |before| wanted.applied(before).map_err(Refusal::from)).await?;
    if let Some(restart) = restart {
        state.engine.set_restart(&name, restart).await?;
    }
    Ok(Json(UpdateResponse { warnings }))
}
