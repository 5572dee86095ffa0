//! Requests to one repository of one registry: where its API is, who we are, redirects, second tries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use atoll_oci::Reference;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Body, Client, Method, Response, StatusCode, Url};

use crate::challenge::{self, Challenge};
use crate::retry::Tries;
use crate::settings::Trust;
use crate::token::{Grant, authorize};
use crate::{Credentials, Error, Registries};

/// How many redirects are followed for one request.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a refusal that are looked at.
const REFUSAL_MAX: u64 = 16 << 10;
/// Letters of a registry's own words that are passed on.
const WORDS_MAX: usize = 300;

/// What a session is for.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Where: host with an optional port.
    pub(crate) host: String,
    /// Which repository; none where only who we are is in question.
    pub(crate) repository: String,
    /// The image, as people write it.
    pub(crate) image: String,
    /// What is to be done there, as scopes of tokens name it.
    pub(crate) actions: &'static str,
}

impl Subject {
    /// An image at a place that is its registry or a mirror of that.
    pub(crate) fn image(host: &str, reference: &Reference, actions: &'static str) -> Self {
        let (repository, image) = (reference.repository().to_owned(), reference.familiar());
        Self { host: host.to_owned(), repository, image, actions }
    }
}

/// Requests to one repository.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    registries: &'a Registries,
    credentials: &'a Credentials,
    subject: Subject,
    client: Client,
    /// `https://HOST`.
    base: Url,
    /// What proves who we are, once that was asked for.
    grant: Mutex<Option<Grant>>,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Makes the body, as often as it has to be sent; such requests follow no redirects.
    pub(crate) body: Option<&'a (dyn Fn() -> Body + Sync)>,
    /// The client for large bodies.
    pub(crate) client: Option<&'a Client>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, client: None }
    }

    /// With a header; a value that none can have is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn body(mut self, body: &'a (dyn Fn() -> Body + Sync)) -> Self {
        self.body = Some(body);
        self
    }
}

impl<'a> Session<'a> {
    /// Finds the registry's API.
    pub(crate) async fn open(
        registries: &'a Registries,
        subject: Subject,
        credentials: &'a Credentials,
    ) -> Result<Self, Error> {
        let client = registries.client(&subject.host)?;
        let mut failure = protocol(&subject.host, "has no address");
        for base in registries.bases(&subject.host) {
            let Ok(base) = Url::parse(&base) else { continue };
            match client.get(format!("{base}v2/")).send().await {
                Ok(response) => {
                    let session = Self { registries, credentials, subject, client, base, grant: Mutex::default() };
                    if response.status() == StatusCode::UNAUTHORIZED {
                        session.answer(response.headers()).await?;
                    }
                    return Ok(session);
                }
                Err(source) => failure = unreachable(&subject.host, source),
            }
        }
        Err(failure)
    }

    /// The refresh token that the token server gave along.
    pub(crate) fn refresh_token(&self) -> Option<String> {
        self.granted().as_ref().and_then(|grant| grant.refresh.clone()).map(|refresh| refresh.0)
    }

    /// A client whose patience does not end while a large body goes out.
    pub(crate) fn sending_client(&self) -> Result<Client, Error> {
        self.registries.sending_client(&self.subject.host)
    }

    /// The address of `path` below the repository, such as `manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Error> {
        let repository = &self.subject.repository;
        let slash = if repository.is_empty() { "" } else { "/" };
        let text = format!("{}v2/{repository}{slash}{path}", self.base);
        Url::parse(&text).map_err(|_| self.protocol("has a malformed address"))
    }

    /// Asks for `path` below the repository from byte `from` on, once.
    pub(crate) async fn get_once(&self, path: &str, accept: &[&str], from: u64) -> Result<Response, Error> {
        let mut ask = Ask::new(Method::GET, self.url(path)?);
        if !accept.is_empty() {
            ask = ask.header(ACCEPT, &accept.join(", "));
        }
        if from > 0 {
            ask = ask.header(RANGE, &format!("bytes={from}-"));
        }
        self.once(&ask).await
    }

    /// Asks for all of `path` below the repository, `limit` bytes at most: what comes after those is not read.
    pub(crate) async fn get(&self, path: &str, accept: &[&str], limit: u64) -> Result<(HeaderMap, Vec<u8>), Error> {
        let mut tries = Tries::default();
        loop {
            let got = async {
                let response = self.get_once(path, accept, 0).await?;
                let headers = response.headers().clone();
                let body = read_bounded(response, limit).await.map_err(|source| self.unreachable(source))?;
                Ok::<_, Error>((headers, body))
            };
            match got.await {
                Ok(got) => return Ok(got),
                Err(error) => {
                    let may_pass = error.is_transient();
                    tries.pause(error, may_pass).await?;
                }
            }
        }
    }

    /// One request, as often as trouble that may pass comes between.
    pub(crate) async fn request(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut tries = Tries::default();
        loop {
            match self.once(ask).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    let may_pass = error.is_transient();
                    tries.pause(error, may_pass).await?;
                }
            }
        }
    }

    /// One request without second tries, but for proving who we are when that is asked for. An answer that is no success is
    /// an error.
    pub(crate) async fn once(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let response = self.send(ask).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.answer(response.headers()).await? {
            return self.succeeded(response, ask).await;
        }
        let response = self.send(ask).await?;
        self.succeeded(response, ask).await
    }

    async fn succeeded(&self, response: Response, ask: &Ask<'_>) -> Result<Response, Error> {
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response, ask).await) }
    }

    /// One request, with its redirects followed; ours alone get the proof of who we are.
    async fn send(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let client = ask.client.unwrap_or(&self.client);
            let mut request = client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
            if url.origin() == self.base.origin()
                && let Some(grant) = self.granted().clone()
            {
                request = request.header(AUTHORIZATION, grant.header);
            }
            if let Some(body) = ask.body {
                request = request.body(body());
            }
            let response = request.send().await.map_err(|source| self.unreachable(source))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(next) = self.location(&url, response.headers())? else { return Ok(response) };
            if ask.body.is_some() {
                return Err(self.protocol("redirects what is sent to it"));
            }
            url = next;
        }
        Err(self.protocol("redirects too often"))
    }

    /// Where the header `Location` of the answer to a request to `from` leads.
    pub(crate) fn location(&self, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, Error> {
        let Some(location) = headers.get(LOCATION) else { return Ok(None) };
        let next = location.to_str().ok().and_then(|location| from.join(location).ok());
        let next = next.ok_or_else(|| self.protocol("redirects to a malformed address"))?;
        match next.scheme() {
            "https" => Ok(Some(next)),
            "http" if self.registries.trust(&self.subject.host) == Trust::Insecure => Ok(Some(next)),
            _ => Err(self.protocol("redirects to an address that is not https")),
        }
    }

    /// Proves who we are to whoever asks so; false where that is not possible.
    async fn answer(&self, headers: &HeaderMap) -> Result<bool, Error> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let Subject { repository, actions, .. } = &self.subject;
        let scope = if repository.is_empty() { String::new() } else { format!("repository:{repository}:{actions}") };
        let grant = authorize(self.registries, &challenges, &scope, self.credentials).await?;
        let found = grant.is_some();
        *self.granted() = grant;
        Ok(found)
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, Option<Grant>> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        unreachable(&self.subject.host, source)
    }

    pub(crate) fn protocol(&self, why: &'static str) -> Error {
        protocol(&self.subject.host, why)
    }

    async fn refusal(&self, response: Response, ask: &Ask<'_>) -> Error {
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let said = read_bounded(response, REFUSAL_MAX).await.map(|body| words(&body)).unwrap_or_default();
        let Subject { host: registry, image, repository, .. } = self.subject.clone();
        // Below the repository: an address may carry a signature.
        let path = ask.url.path();
        let below = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(repository.as_str()));
        let what = below.unwrap_or(path).trim_start_matches('/').to_owned();
        match status {
            StatusCode::NOT_FOUND if what.starts_with("manifests/") => Error::NotFound { image, registry },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied { image, registry, said },
            status => Error::Status { registry, what, status, said, wait: wait.map(Duration::from_secs) },
        }
    }
}

fn unreachable(registry: &str, source: reqwest::Error) -> Error {
    // Its address may carry a signature.
    Error::Unreachable { registry: registry.to_owned(), source: source.without_url() }
}

fn protocol(registry: &str, why: &'static str) -> Error {
    Error::Protocol { registry: registry.to_owned(), why }
}
/// A whole body of at most `limit` bytes; what comes after those is not read.
pub(crate) async fn read_bounded(mut response: Response, limit: u64) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > limit {
            body.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            break;
        }
    }
    Ok(body)
}

/// The words of a refusal (distribution specification, "Error Codes"), after a colon and fit for a terminal.
pub(crate) fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let said: Vec<String> = errors.into_iter().map(|item| format!("{} {}", item.code, item.message)).collect();
    let clean: String = said.join(", ").chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    match clean.trim() {
        "" => String::new(),
        clean => format!(": {clean}"),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn refusals_are_quoted_cleanly() {
        let check = |body: &str, expected: &str| assert_eq!(words(body.as_bytes()), expected, "{body}");
        check(r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J way"}]}"#, ": DENIED no[2J way");
        check(r#"{"errors":[{"code":"A"},{"message":"b","detail":{"x":1}}]}"#, ": A ,  b");
        check(r#"{"errors":[]}"#, "");
        check("<html>", "");
        assert!(words(format!(r#"{{"errors":[{{"code":"{}"}}]}}"#, "x".repeat(9999)).as_bytes()).len() < 400);
    }
}
