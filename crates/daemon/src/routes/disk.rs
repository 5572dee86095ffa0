//! `GET /system/df`: what things take on the disk. Sizes are what `du -s -B1` says, an image's too, unlike those of its list,
//! which are the same on every host.

use std::time::SystemTime;

use atoll_api::atoll;
use atoll_api::docker::{DiskUsage, ImageSummary};
use axum::extract::{Query, State as Held};
use axum::routing::get;
use axum::{Json, Router};

use super::{Pairs, State, containers, images, volumes};
use crate::answer::{Answer, Refusal};
use crate::projects::Scope;

/// What can be asked for.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub(super) fn routes() -> Router<State> {
    Router::new().route("/system/df", get(usage)).route("/atoll/v1/system/df", get(rest))
}

/// `type` may be given more than once; none is all.
async fn usage(
    Held(state): Held<State>,
    scope: Scope,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer<Json<DiskUsage>> {
    let kinds = Pairs(query).all("type");
    if let Some(kind) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(Refusal::bad(format!("unknown object type: {kind}")));
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind);
    let mut answer = DiskUsage::default();
    if wanted("image") {
        let usage = state.engine.image_usage().await?;
        answer.layers_size = usage.bytes;
        let views = scope.list(&state.engine);
        let summary = |image: &atoll_engine::ImageView| {
            let users = views.iter().filter(|view| view.workload.image.id == image.id).count();
            let names = image.names.iter().map(|name| name.familiar()).collect();
            let own = usage.each.get(&image.id).copied().unwrap_or_default();
            let shared_size = i64::try_from(own.shared).unwrap_or(i64::MAX);
            ImageSummary { size: own.bytes, shared_size, ..images::summary(image, names, users) }
        };
        answer.images = Some(state.engine.images().await?.iter().map(summary).collect());
    }
    if wanted("container") {
        let (sizes, now) = (containers::sizes(&state).await?, SystemTime::now().into());
        let views = scope.list(&state.engine);
        answer.containers = Some(views.iter().map(|view| containers::summary(&state, view, &sizes, now)).collect());
    }
    if wanted("volume") {
        let sizes = state.engine.volume_sizes().await?;
        let views = scope.volumes(&state.engine);
        let sized = |view| volumes::shown(view, sizes.get(&view.volume.name).copied());
        answer.volumes = Some(views.iter().map(sized).collect());
    }
    answer.build_cache = wanted("build-cache").then(Vec::new);
    Ok(Json(answer))
}

/// What Docker's kinds have no place for.
async fn rest(Held(state): Held<State>) -> Answer<Json<atoll::RestUsage>> {
    let atoll_engine::RestUsage { logs, transfers, other } = state.engine.rest_usage().await?;
    Ok(Json(atoll::RestUsage { logs, transfers, other }))
}
