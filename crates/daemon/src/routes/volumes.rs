//! `/volumes`.

use atoll_api::docker::{Filters, VolumeCreateRequest, VolumeList, VolumeUsage, VolumeView};
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::{ForceQuery, State};
use crate::answer::{Answer, body, is_true};
use crate::projects::Scope;

/// Keys of the list's filters.
const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/{name}", get(inspect).delete(remove))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    filters: Option<String>,
}

async fn list(Held(state): Held<State>, scope: Scope, Query(query): Query<ListQuery>) -> Answer<Json<VolumeList>> {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let dangling = filters.boolean("dangling")?;
    let holds = |view: &atoll_engine::VolumeView| {
        dangling.is_none_or(|dangling| dangling == (view.users == 0))
            && filters.any("driver", |driver| driver == "local")
            && filters.any("name", |name| view.volume.name.contains(name))
            && filters.labels(&view.volume.labels)
    };
    let volumes = scope.volumes(&state.engine).into_iter().filter(holds).map(|view| shown(&view, None)).collect();
    Ok(Json(VolumeList { volumes, warnings: None }))
}

async fn create(Held(state): Held<State>, scope: Scope, request: Request) -> Answer<Response> {
    let wanted: VolumeCreateRequest = body(request).await?;
    wanted.check()?;
    let name = Some(wanted.name).filter(|name| !name.is_empty());
    let view = state.engine.volume_create(name, wanted.labels, scope.project()).await?;
    Ok((StatusCode::CREATED, Json(shown(&view, None))).into_response())
}

async fn inspect(Held(state): Held<State>, Path(name): Path<String>) -> Answer<Json<VolumeView>> {
    Ok(Json(shown(&state.engine.volume(&name)?, None)))
}

async fn remove(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<ForceQuery>,
) -> Answer<StatusCode> {
    state.engine.volume_remove(&name, is_true(query.force.as_deref())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A volume as the API shows it; its size is not known unless somebody measured it.
pub(super) fn shown(view: &atoll_engine::VolumeView, size: Option<u64>) -> VolumeView {
    let users = i64::try_from(view.users).unwrap_or(i64::MAX);
    let size = size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX));
    VolumeView {
        usage_data: Some(VolumeUsage { size, ref_count: users }),
        ..VolumeView::new(&view.volume, view.mountpoint.display().to_string())
    }
}
