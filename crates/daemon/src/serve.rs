//! Connections: HTTP/1.1 with upgrades, the version of the API taken off each path before it is routed.
//!
//! What follows a request that asks for an upgrade is never read as a request: either it is the upgraded stream's, or the
//! connection ends with the answer. A body above the limit is refused before anybody looks at the request.

use std::convert::Infallible;
use std::time::Duration;

use atoll_api::docker::{API_VERSION, ApiVersion};
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;

use crate::answer::{BODY_MAX, Refusal};
use crate::older;
use crate::stream::Stream;

/// How long a connection may be without a whole request's head, as dockerd has it.
const HEAD_TIME: Duration = Duration::from_secs(300);

/// Serves connections for ever.
pub(crate) async fn serve(listener: UnixListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move { connection(stream, router).await });
            }
            Err(error) => {
                // Out of descriptors, most likely: what is open may end meanwhile.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: Stream, router: Router) {
    let service = service_fn(move |request| answer(router.clone(), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        // A client that has said all it will say still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
    let asks_upgrade = request.headers().contains_key(header::UPGRADE);
    let mut response = match prepare(request) {
        Ok((version, request)) => older::call(router, version, request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("api-version", API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", concat!("Atoll/", env!("CARGO_PKG_VERSION"), " (linux)")),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE
        || (asks_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS)
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Takes the version off, and refuses what is too large to be looked at.
fn prepare(request: Request<Incoming>) -> Result<(ApiVersion, Request<Body>), Refusal> {
    let (version, uri) = without_version(request.uri())?;
    let length = request.body().size_hint().lower();
    if length > BODY_MAX as u64 && !takes_archive(request.method(), uri.path()) {
        return Err(Refusal::too_large());
    }
    let mut request = request.map(Body::new);
    *request.uri_mut() = uri;
    Ok((version, request))
}

/// Whether a request's body is an archive, which is read while it comes.
fn takes_archive(method: &Method, path: &str) -> bool {
    let import = matches!(path, "/images/load" | "/images/create" | "/build");
    (*method == Method::POST && import) || (*method == Method::PUT && path.ends_with("/archive"))
}

/// The version that an address asks for, and the address without it.
fn without_version(uri: &Uri) -> Result<(ApiVersion, Uri), Refusal> {
    let (version, path) = atoll_api::docker::strip_version(uri.path())?;
    let full = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let uri = full.parse().map_err(|_| Refusal::bad(format!("{full:?} is no address")))?;
    Ok((version, uri))
}
