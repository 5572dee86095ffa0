//! `/atoll/v1`: what the Docker API has no word for.

use atoll_api::atoll::{Aux, BootstrapRequest, Finding, ProgressLine};
use axum::extract::{Request, State as Held};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::{State, progress};
use crate::answer::{Answer, Refusal, body};
use crate::doctor;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/atoll/v1/images/bootstrap", post(bootstrap)).route("/atoll/v1/system/doctor", get(doctor))
}

async fn doctor(Held(state): Held<State>) -> Answer<Json<Vec<Finding>>> {
    Ok(Json(doctor::examine(&state.engine).await?))
}

async fn bootstrap(Held(state): Held<State>, request: Request) -> Answer<Response> {
    let wanted: BootstrapRequest = body(request).await?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let variant = if wanted.variant.is_empty() { "minimal" } else { &wanted.variant };
    let request = atoll_engine::BootstrapRequest {
        suite: wanted.suite,
        arch: given(wanted.arch),
        include: wanted.include,
        variant: variant.parse().map_err(|error: atoll_engine::UnknownVariant| Refusal::bad(error.to_string()))?,
        mirror: given(wanted.mirror),
        keyring: given(wanted.keyring).map(Into::into),
        name: wanted.name,
    };
    progress::answer(None, move |reports| async move {
        let image = state.engine.bootstrap(request, reports).await?;
        Ok(vec![ProgressLine {
            aux: Some(Aux { id: image.id.to_string(), ..Aux::default() }),
            ..ProgressLine::default()
        }])
    })
    .await
}
