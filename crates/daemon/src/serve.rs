//! Connections: HTTP/1.1 with upgrades, the version of the API taken off each path before it is routed.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tower_service::Service;

use crate::answer::Refusal;

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
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: Router) {
    let service = service_fn(move |request| answer(router.clone(), request));
    let served = hyper::server::conn::http1::Builder::new()
        // A client that has said all it will say still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(mut router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
    match without_version(request.uri()) {
        Ok(Some(uri)) => *request.uri_mut() = uri,
        Ok(None) => {}
        Err(refusal) => return Ok(refusal.into_response()),
    }
    router.call(request).await
}

/// The same address without `/v1.NN`, if it has that.
fn without_version(uri: &Uri) -> Result<Option<Uri>, Refusal> {
    let (version, path) = atoll_api::docker::strip_version(uri.path())?;
    if version.is_none() {
        return Ok(None);
    }
    let full = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Ok(full.parse().ok())
}
