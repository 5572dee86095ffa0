//! Answers: statuses and sentences of refusals, and bodies that come piece by piece.

use std::time::Duration;

use atoll_api::docker::{BadRequest, BadUpdate, ErrorBody, InvalidFilter, InvalidKey, InvalidTime};
use atoll_engine::{ByteStream, Kind, LoginError};
use atoll_model::sentence;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

/// Bytes of a body that is not an archive.
pub(crate) const BODY_MAX: usize = 4 << 20;
/// How long such a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The answer to a body above [`BODY_MAX`].
    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("request body above {BODY_MAX} bytes"))
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        (self.status, Json(ErrorBody { message: self.message })).into_response()
    }
}

impl From<atoll_engine::Error> for Refusal {
    fn from(error: atoll_engine::Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, sentence(&error))
    }
}

impl From<LoginError> for Refusal {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused { .. } => Self::new(StatusCode::UNAUTHORIZED, error.to_string()),
            LoginError::Registry(error) => atoll_engine::Error::from(error).into(),
        }
    }
}

impl From<BadRequest> for Refusal {
    fn from(error: BadRequest) -> Self {
        let status = match error {
            BadRequest::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<BadUpdate> for Refusal {
    fn from(error: BadUpdate) -> Self {
        match error {
            BadUpdate::Bad(error) => error.into(),
            BadUpdate::Conflict(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

impl From<InvalidFilter> for Refusal {
    fn from(error: InvalidFilter) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<InvalidTime> for Refusal {
    fn from(error: InvalidTime) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<InvalidKey> for Refusal {
    fn from(error: InvalidKey) -> Self {
        Self::bad(error.to_string())
    }
}

/// A request's whole body as JSON; no body is the value of an empty object.
pub(crate) async fn body<T: DeserializeOwned>(request: Request) -> Answer<T> {
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        json_only(kind)?;
    }
    let bytes = whole_body(request.into_body()).await?;
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    Ok(atoll_api::docker::parse(&bytes)?)
}

fn json_only(kind: &HeaderValue) -> Answer<()> {
    let text = kind.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.is_empty() || media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::bad(format!("Content-Type specified ({text}) must be 'application/json'")))
}

/// All of a body that is not an archive.
pub(crate) async fn whole_body(body: Body) -> Answer<Bytes> {
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(Refusal::too_large()),
        Ok(Err(error)) => Err(Refusal::bad(format!("the request's body broke off: {error}"))),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// A body of pieces; `next` gives one after the other.
pub(crate) fn pieces<S: Send + 'static, F>(state: S, next: impl FnMut(S) -> F + Send + 'static) -> Body
where
    F: Future<Output = Option<(Vec<u8>, S)>> + Send + 'static,
{
    use futures_util::StreamExt;
    let stream = futures_util::stream::unfold(state, next);
    Body::from_stream(stream.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))))
}

/// An archive as a body; one that fails on its way ends without the end that HTTP gives it, so that nobody takes it for whole.
pub(crate) fn archive(stream: ByteStream) -> Body {
    Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        if let Err(error) = &piece {
            tracing::warn!(%error, "an archive breaks off");
        }
        Some((piece.map(Bytes::from), stream))
    }))
}

/// Whether a parameter means yes: what Docker's clients write for that.
pub(crate) fn is_true(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "true" | "True" | "t" | "T" | "TRUE"))
}
