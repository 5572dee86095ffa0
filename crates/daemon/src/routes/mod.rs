//! The routes of the API, a module for each of its groups.

mod absent;
mod archive;
mod atoll;
mod capture;
mod containers;
mod disk;
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
use atoll_oci::{Platform, Reference};

use crate::answer::{Answer, Refusal};
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

/// A query in which a name may come several times.
#[derive(Debug, Default)]
struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The last value of a name, empty if there is none.
    fn last(&self, name: &str) -> &str {
        self.0.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Every value of a name.
    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// A name for an image, from its repository and its tag; none where there is no repository.
    fn reference(&self, repository: &str, tag: &str) -> Answer<Option<Reference>> {
        let text = match (self.last(repository), self.last(tag)) {
            ("", _) => return Ok(None),
            (repository, "") => repository.to_owned(),
            (repository, tag) => format!("{repository}:{tag}"),
        };
        let reference = Reference::parse(&text).map_err(|error| Refusal::bad(error.to_string()))?;
        if reference.digest().is_some() {
            return Err(Refusal::bad("refusing to create a tag with a digest reference"));
        }
        Ok(Some(reference))
    }

    /// The platform of a name.
    fn platform(&self, name: &str) -> Answer<Option<Platform>> {
        platform(self.last(name))
    }
}

/// A platform, as text or as JSON; none where it is empty.
fn platform(text: &str) -> Answer<Option<Platform>> {
    match text {
        "" => Ok(None),
        json if json.starts_with('{') => {
            serde_json::from_str(json).map(Some).map_err(|error| Refusal::bad(format!("invalid platform: {error}")))
        }
        text => {
            text.parse().map(Some).map_err(|error: atoll_oci::platform::PlatformError| Refusal::bad(error.to_string()))
        }
    }
}

/// All routes.
pub(crate) fn router(state: State) -> Router {
    let counted = state.metrics.clone();
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .merge(system::routes())
        .merge(disk::routes())
        .merge(containers::routes())
        .merge(archive::routes())
        .merge(capture::routes())
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
