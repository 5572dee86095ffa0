//! `/atoll/v1`: what the Docker API has no word for.

use atoll_api::atoll::{Aux, BootstrapRequest, ProgressLine};
use axum::Router;
use axum::extract::{Request, State as Held};
use axum::response::Response;
use axum::routing::post;

use super::{State, progress};
use crate::answer::{Answer, Refusal, body};

pub(super) fn routes() -> Router<State> {
    Router::new().route("/atoll/v1/images/bootstrap", post(bootstrap))
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
