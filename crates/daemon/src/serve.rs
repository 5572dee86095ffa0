//! Connections: HTTP/1.1 with upgrades, the version of the API taken off each path before it is routed.
//!
//! What follows a request that asks for an upgrade is never read as a request: either it is the upgraded stream's, or the
//! connection ends with the answer. A body that is not an archive is received before anybody looks at the request: a client that
//! is refused while it sends would see a broken connection in place of the reason. On a loopback address no browser is answered,
//! whatever page it is on.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use atoll_api::docker::{API_VERSION, ApiVersion};
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::answer::{BODY_MAX, Refusal, whole_body};
use crate::audit::{Audit, Entry};
use crate::confine::Wall;
use crate::listen::{Arrival, Listener};
use crate::older;
use crate::stream::{Peer, Stream};

/// How long a connection may be without a whole request's head, as dockerd has it.
const HEAD_TIME: Duration = Duration::from_secs(300);

/// What answers on a listener's connections.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) router: Router,
    pub(crate) audit: Option<Audit>,
    /// Between those who come; none where nothing is told but numbers.
    pub(crate) wall: Option<Wall>,
}

/// Serves connections for ever.
pub(crate) async fn serve(listener: Listener, face: Face) {
    loop {
        match listener.accept().await {
            Ok(arrival) => {
                let face = face.clone();
                tokio::spawn(async move { connection(arrival, face).await });
            }
            Err(error) => {
                // Out of descriptors, most likely: what is open may end meanwhile.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(arrival: Arrival, face: Face) {
    if let Some((stream, peer)) = arrival.admit().await {
        speak(stream, peer, face).await;
    }
}

async fn speak(stream: Stream, peer: Peer, face: Face) {
    let service = service_fn(move |request| answer(face.clone(), peer.clone(), request));
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

async fn answer(face: Face, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
    let began = Instant::now();
    let address = request.uri().path_and_query().map_or("", |address| address.as_str());
    let audited = face.audit.as_ref().and_then(|_| Entry::of(&peer, request.method(), address, request.headers()));
    let asks_upgrade = request.headers().contains_key(header::UPGRADE);
    let mut response = match prepare(&face, &peer, request).await {
        Ok((version, request)) => older::call(face.router, version, request).await,
        Err(refusal) => refusal.into_response(),
    };
    let ends = response.status() == StatusCode::PAYLOAD_TOO_LARGE
        || (asks_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS);
    mark(response.headers_mut(), ends);
    if let (Some(audit), Some(entry)) = (&face.audit, &audited) {
        audit.say(entry, response.status(), began.elapsed().as_millis());
    }
    Ok(response)
}

/// The headers that every answer has; `ends`: whether it is the connection's last.
fn mark(headers: &mut HeaderMap, ends: bool) {
    for (name, value) in [
        ("api-version", API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", concat!("Atoll/", env!("CARGO_PKG_VERSION"), " (linux)")),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if ends {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Takes the version off, receives what is not an archive, and refuses what is not to be looked at.
async fn prepare(face: &Face, peer: &Peer, request: Request<Incoming>) -> Result<(ApiVersion, Request<Body>), Refusal> {
    if matches!(peer, Peer::Loopback { .. }) {
        refuse_browsers(request.headers())?;
    }
    let addressed = without_version(request.uri());
    let is_archive = addressed.as_ref().is_ok_and(|(_, uri)| takes_archive(request.method(), uri.path()));
    let (mut parts, body) = request.into_parts();
    let body = if is_archive { Body::new(body) } else { received(body).await? };
    let (version, uri) = addressed?;
    parts.uri = uri;
    if let Some(wall) = &face.wall {
        wall.confine(peer, &mut parts)?;
    }
    Ok((version, Request::from_parts(parts, body)))
}

async fn received(body: Incoming) -> Result<Body, Refusal> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(Refusal::too_large());
    }
    whole_body(Body::new(body)).await.map(Body::from)
}

/// A page in a browser of this host reaches loopback addresses too: directly, and by a name of its own that leads there.
fn refuse_browsers(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let is_own = name.is_empty() || ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    if is_own && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, "this address is not for browsers: no Origin, and localhost as Host"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_by_their_headers() {
        let check = |host: &str, origin: Option<&str>, fine: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a value"));
            }
            assert_eq!(refuse_browsers(&headers).is_ok(), fine, "{host} {origin:?}");
        };
        check("localhost:2375", None, true);
        check("127.0.0.1", None, true);
        check("[::1]:2375", None, true);
        check("evil.example:2375", None, false);
        check("127.0.0.1.evil.example", None, false);
        check("localhost:2375", Some("http://evil.example"), false);
        check("localhost:2375", Some("null"), false);
    }
}
