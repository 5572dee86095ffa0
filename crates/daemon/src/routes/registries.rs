//! What has to do with registries: pushing, logging in, looking, and searching, which there is nothing to do with.

use atoll_api::atoll::{Aux, ProgressLine};
use atoll_api::docker::{
    AuthAnswer, DistributionDescriptor, DistributionInspect, DistributionPlatform, ManifestAttestation, ManifestImage,
    ManifestSize, ManifestSummary, RegistryAuth, UnpackedSize, registry_of,
};
use atoll_engine::{ManifestKind, ManifestView, PushRequest};
use atoll_oci::{Descriptor, Platform, Reference};
use axum::extract::{Path, Request, State as Held};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::images::ChangeQuery;
use super::pull::{credentials, shown};
use super::{State, progress};
use crate::answer::{Answer, Refusal, body};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/auth", post(auth))
        .route("/images/search", get(search))
        .route("/distribution/{*rest}", get(distribution))
}

/// `POST /images/{name}/push`: one tag, or all where the query has none.
pub(super) async fn push(state: State, name: &str, query: &ChangeQuery, headers: &HeaderMap) -> Answer<Response> {
    let malformed = |error: &dyn std::fmt::Display| Refusal::bad(error.to_string());
    let name = Reference::parse(name).map_err(|error| malformed(&error))?;
    let all_tags = query.tag.is_empty() && name.digest().is_none();
    let name = match query.tag.as_str() {
        "" => name,
        tag => name.with_tag(tag).map_err(|error| malformed(&error))?,
    };
    let request =
        PushRequest { name, all_tags, platform: super::platform(&query.platform)?, credentials: shown(headers)? };
    progress::answer(None, move |reports| async move {
        let pushed = state.engine.push(request, reports).await?;
        Ok(pushed.into_iter().flat_map(said).collect())
    })
    .await
}

/// For people, and for programs.
fn said(image: atoll_engine::PushedImage) -> [ProgressLine; 2] {
    let (tag, digest, size) = (image.tag, image.digest.to_string(), image.size);
    let status = format!("{tag}: digest: {digest} size: {size}");
    let aux = Aux { tag, digest, size, ..Aux::default() };
    [
        ProgressLine { status, ..ProgressLine::default() },
        ProgressLine { progress: Some(Default::default()), aux: Some(aux), ..ProgressLine::default() },
    ]
}

async fn auth(Held(state): Held<State>, request: Request) -> Answer<Json<AuthAnswer>> {
    let auth: RegistryAuth = body(request).await?;
    let registry = registry_of(&auth.server_address).to_owned();
    let token = state.engine.login(&registry, &credentials(auth)).await?;
    Ok(Json(AuthAnswer { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() }))
}

async fn search() -> Refusal {
    let message =
        "searching is not supported: registries have no common index to search in; look at the registry's own pages";
    Refusal::new(StatusCode::NOT_IMPLEMENTED, message)
}

async fn distribution(Held(state): Held<State>, Path(rest): Path<String>, headers: HeaderMap) -> Answer<Response> {
    let Some(name) = rest.strip_suffix("/json") else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "page not found"));
    };
    let name = Reference::parse(name).map_err(|error| Refusal::bad(error.to_string()))?;
    let found = state.engine.describe_remote(&name, &shown(&headers)?).await?;
    Ok(Json(DistributionInspect {
        descriptor: described(&found.descriptor),
        platforms: found.platforms.into_iter().map(platform).collect(),
    })
    .into_response())
}

/// A descriptor in an answer.
fn described(descriptor: &Descriptor) -> DistributionDescriptor {
    DistributionDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
    }
}

/// A platform in an answer.
fn platform(platform: Platform) -> DistributionPlatform {
    DistributionPlatform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant.unwrap_or_default(),
    }
}

/// A manifest in an answer; `users` are the containers of its image.
pub(super) fn manifest(view: ManifestView, users: &[String]) -> ManifestSummary {
    let (descriptor, id) = (described(&view.descriptor), view.descriptor.digest.to_string());
    let (kind, total, image_data, attestation_data) = match view.kind {
        ManifestKind::Image { platform: of, unpacked } => {
            let containers = if view.is_here { users.to_vec() } else { Vec::new() };
            let platform = of.map(platform).unwrap_or_default();
            let image = ManifestImage { platform, containers, size: UnpackedSize { unpacked } };
            ("image", view.content + unpacked, Some(image), None)
        }
        ManifestKind::Attestation { about } => {
            let about = about.map(|digest| digest.to_string()).unwrap_or_default();
            ("attestation", view.content, None, Some(ManifestAttestation { about }))
        }
    };
    ManifestSummary {
        id,
        descriptor,
        available: view.is_here,
        size: ManifestSize { content: view.content, total },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
    }
}
