//! Requests of older versions of the API: translated, answered by the same handlers, translated back.
//!
//! What differs stands in [`atoll_api::docker::Route`]; here are only bodies and headers. A request of the newest version
//! passes untouched, and so does every stream.

use atoll_api::docker::{ApiVersion, MULTIPLEXED_STREAM, RAW_STREAM, Route};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tower_service::Service;

use crate::answer::{Answer, Refusal, whole_body};

/// Before this version, output with headers was not told apart from a terminal's.
const STREAM_TYPES: ApiVersion = ApiVersion::minor(42);

/// Answers a request as `version` has it.
pub(crate) async fn call(mut router: Router, version: ApiVersion, mut request: Request) -> Response {
    request.extensions_mut().insert(version);
    let Some(route) = Route::of(request.method().as_str(), request.uri().path()).filter(|_| is_old(version)) else {
        return stream_type(version, unwrap(router.call(request).await));
    };
    match ask(route, version, request).await {
        Ok(request) => {
            let response = stream_type(version, unwrap(router.call(request).await));
            answer(route, version, response).await.unwrap_or_else(IntoResponse::into_response)
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn is_old(version: ApiVersion) -> bool {
    version < ApiVersion::NEWEST
}

fn unwrap(result: Result<Response, std::convert::Infallible>) -> Response {
    match result {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn ask(route: Route, version: ApiVersion, request: Request) -> Answer<Request> {
    let (mut parts, body) = request.into_parts();
    if let Some(query) = route.query(version, parts.uri.query().unwrap_or_default()) {
        let address = format!("{}?{query}", parts.uri.path());
        parts.uri = address.parse().map_err(|_| Refusal::bad(format!("{query:?} is no query")))?;
    }
    let Some(change) = route.ask(version) else { return Ok(Request::from_parts(parts, body)) };
    let bytes = whole_body(body).await?;
    // What is not JSON is left to the handler, which says so.
    let bytes = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut value) => {
            change(&mut value);
            value.to_string().into()
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn answer(route: Route, version: ApiVersion, response: Response) -> Answer<Response> {
    let Some(change) = route.answer(version).filter(|_| response.status().is_success()) else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    // Our own answer: as large as the handler made it.
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(broken)?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(broken)?;
    change(&mut value);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(value.to_string())))
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("an answer could not be translated: {error}"))
}

fn stream_type(version: ApiVersion, mut response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if version < STREAM_TYPES && kind.is_some_and(|kind| kind == MULTIPLEXED_STREAM) {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(RAW_STREAM));
    }
    response
}
