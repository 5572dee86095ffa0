//! Requests and answers.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::hijack::{self, HijackReader, HijackWriter};
use crate::{Error, Launch};

/// The version of the API that this client speaks.
const VERSION: &str = "/v1.50";
/// Bytes of a daemon's refusal that are read.
const REFUSAL_MAX: usize = 64 << 10;

type Body = BoxBody<Bytes, std::io::Error>;

/// Talks to a daemon.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    launch: Option<Launch>,
    kept: Mutex<Option<SendRequest<Body>>>,
}

/// An answer whose body comes piece by piece.
#[derive(Debug)]
pub struct Answer {
    headers: hyper::HeaderMap,
    body: Incoming,
    pending: Vec<u8>,
}

impl Client {
    /// A client of the daemon at `address` (`unix:///PATH`); `launch`: how to start it when it does not answer.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(address: &str, launch: Option<Launch>) -> Result<Self, Error> {
        let path = address.strip_prefix("unix://").filter(|path| path.starts_with('/'));
        let socket = path.map(PathBuf::from).ok_or_else(|| Error::Address(address.to_owned()))?;
        Ok(Self { socket, launch, kept: Mutex::default() })
    }

    /// `GET`, answered by JSON.
    ///
    /// # Errors
    /// As [`Error`] has them; so for all calls.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(Method::GET, path, empty()).await
    }

    /// `POST` of JSON, answered by JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.json(Method::POST, path, json(body)?).await
    }

    /// `POST` without a body, answered by nothing; whether something was to be done (not 304).
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn order(&self, path: &str) -> Result<bool, Error> {
        Ok(self.plain(Method::POST, path, empty()).await?.0 != StatusCode::NOT_MODIFIED)
    }

    /// `DELETE`, answered by JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(Method::DELETE, path, empty()).await
    }

    /// `DELETE`, answered by nothing.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn remove(&self, path: &str) -> Result<(), Error> {
        self.plain(Method::DELETE, path, empty()).await.map(drop)
    }

    /// A call on a connection of its own whose answer comes piece by piece; returns when it begins.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn stream(&self, method: Method, path: &str) -> Result<Answer, Error> {
        self.open(request(method, path, empty())?).await
    }

    /// `POST` with a header that may be secret, answered as [`Client::stream`].
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn stream_with(&self, path: &str, header: &'static str, value: &str) -> Result<Answer, Error> {
        let mut request = request(Method::POST, path, empty())?;
        let mut value = hyper::header::HeaderValue::from_str(value).map_err(Error::broken)?;
        value.set_sensitive(true);
        let name = hyper::header::HeaderName::try_from(header).map_err(Error::broken)?;
        request.headers_mut().insert(name, value);
        self.open(request).await
    }

    /// As [`Client::stream`], with a JSON body.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn stream_json(&self, path: &str, body: &impl Serialize) -> Result<Answer, Error> {
        self.open(request(Method::POST, path, json(body)?)?).await
    }

    /// As [`Client::stream`], with a body that is read from `source` while it is sent.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn upload(
        &self,
        method: Method,
        path: &str,
        source: impl tokio::io::AsyncRead + Send + Sync + 'static,
    ) -> Result<Answer, Error> {
        let chunks = futures_util::stream::unfold(Some(Box::pin(source)), |source| async {
            use tokio::io::AsyncReadExt;
            let mut source = source?;
            let mut chunk = vec![0; 256 << 10];
            match source.read(&mut chunk).await {
                Ok(0) => None,
                Ok(count) => {
                    chunk.truncate(count);
                    Some((Ok(Frame::data(Bytes::from(chunk))), Some(source)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        self.open(request(method, path, BodyExt::boxed(StreamBody::new(chunks)))?).await
    }

    /// A call after which the connection carries a workload's streams.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn hijack(&self, path: &str, body: &impl Serialize) -> Result<(HijackReader, HijackWriter), Error> {
        let mut request = request(Method::POST, path, json(body)?)?;
        let headers = request.headers_mut();
        headers.insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("Upgrade"));
        headers.insert(hyper::header::UPGRADE, hyper::header::HeaderValue::from_static("tcp"));
        let response = self.connect().await?.send_request(request).await.map_err(Error::broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(Error::broken)?;
        hijack::split(upgraded)
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, Error> {
        let (_, bytes) = self.plain(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(Error::Answer)
    }

    /// A call on the connection that is kept. One that was kept too long is replaced before anything is sent on it.
    async fn plain(&self, method: Method, path: &str, body: Body) -> Result<(StatusCode, Bytes), Error> {
        let mut kept = self.kept.lock().await;
        let open = match kept.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request(method, path, body)?).await.map_err(Error::broken)?;
        if !is_success(response.status()) {
            return Err(refusal(response).await);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(Error::broken)?.to_bytes();
        *kept = Some(sender);
        Ok((status, bytes))
    }

    async fn open(&self, request: Request<Body>) -> Result<Answer, Error> {
        let response = self.connect().await?.send_request(request).await.map_err(Error::broken)?;
        if !is_success(response.status()) {
            return Err(refusal(response).await);
        }
        let (parts, body) = response.into_parts();
        Ok(Answer { headers: parts.headers, body, pending: Vec::new() })
    }

    /// A connection on which nothing has been said yet.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn dial(&self) -> Result<UnixStream, Error> {
        match (UnixStream::connect(&self.socket).await, &self.launch) {
            (Ok(stream), _) => Ok(stream),
            (Err(error), Some(launch)) if nobody_there(&error) => launch.start(&self.socket).await,
            (Err(source), _) => Err(Error::Unreachable { socket: self.socket.clone(), source }),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let stream = self.dial().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::broken)?;
        // What breaks it is reported to the call that waits on it.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Broken`] when the daemon went away before it was done.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(Error::broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next line of a stream of JSON objects; `None` at the end.
    ///
    /// # Errors
    /// As [`Answer::chunk`], or when the line is not what was expected.
    pub async fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(Error::Answer);
            }
            match self.chunk().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None if self.pending.trim_ascii().is_empty() => return Ok(None),
                None => {
                    let rest = std::mem::take(&mut self.pending);
                    return serde_json::from_slice(&rest).map(Some).map_err(Error::Answer);
                }
            }
        }
    }
}

/// Whether nobody listens: as opposed to a socket that this user may not use.
fn nobody_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn is_success(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::NOT_MODIFIED
}

fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>, Error> {
    // Our own part of the API has its own version in its path.
    let full = if path.starts_with("/atoll/") { path.to_owned() } else { format!("{VERSION}{path}") };
    tracing::debug!(%method, path = full, "request");
    Request::builder()
        .method(method)
        .uri(full)
        .header(hyper::header::HOST, "atoll")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(Error::broken)
}

fn empty() -> Body {
    whole(Bytes::new())
}

fn json(body: &impl Serialize) -> Result<Body, Error> {
    Ok(whole(serde_json::to_vec(body).map_err(Error::Answer)?.into()))
}

fn whole(bytes: Bytes) -> Body {
    BodyExt::boxed(Full::new(bytes).map_err(|never| match never {}))
}

async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), REFUSAL_MAX);
    let bytes = limited.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = match serde_json::from_slice::<atoll_api::docker::ErrorBody>(&bytes) {
        Ok(body) => body.message,
        Err(_) => format!("the daemon answered {status}: {}", String::from_utf8_lossy(&bytes).trim()),
    };
    Error::Refused { status: status.as_u16(), message }
}
