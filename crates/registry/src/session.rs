//! Requests to one repository of one registry: where its API is, who we are, redirects, second tries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use atoll_oci::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};

use crate::challenge::{self, Challenge};
use crate::settings::Trust;
use crate::token::authorize;
use crate::{Credentials, Error, Registries};

/// How often a transient failure is tried in all.
pub(crate) const ATTEMPTS_MAX: u32 = 4;
/// How long the first wait before another try is; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(250);
/// Longest wait that a registry may ask for.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How many redirects are followed for one request.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a refusal that are looked at.
const REFUSAL_MAX: u64 = 16 << 10;
/// Letters of a registry's own words that are passed on.
const WORDS_MAX: usize = 300;

/// Requests to one repository.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    registries: &'a Registries,
    reference: &'a Reference,
    credentials: &'a Credentials,
    client: Client,
    /// `https://HOST`.
    base: Url,
    /// What proves who we are, once that was asked for.
    authorization: Mutex<Option<HeaderValue>>,
}

impl<'a> Session<'a> {
    /// Finds the registry's API.
    pub(crate) async fn open(
        registries: &'a Registries,
        reference: &'a Reference,
        credentials: &'a Credentials,
    ) -> Result<Self, Error> {
        let registry = reference.registry();
        let client = registries.client(registry)?;
        let mut failure = None;
        for base in registries.bases(registry) {
            let ping = format!("{base}/v2/");
            let base = Url::parse(&base).map_err(|_| Error::Redirect { registry: registry.into(), why: "nowhere" })?;
            match client.get(ping).send().await {
                Ok(response) => {
                    let authorization = Mutex::default();
                    let session = Self { registries, reference, credentials, client, base, authorization };
                    if response.status() == StatusCode::UNAUTHORIZED {
                        session.answer(response.headers()).await?;
                    }
                    return Ok(session);
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(source) => Err(Error::Unreachable { registry: registry.to_owned(), source: source.without_url() }),
            None => Err(Error::Redirect { registry: registry.to_owned(), why: "nowhere" }),
        }
    }

    pub(crate) fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// Asks for `path` below the repository, such as `manifests/latest`, from byte `from` on.
    pub(crate) async fn get(&self, path: &str, accept: &[&str], from: u64) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&accept.join(", "))
            && !accept.is_empty()
        {
            headers.insert(ACCEPT, value);
        }
        if from > 0 {
            headers.insert(
                RANGE,
                HeaderValue::from_str(&format!("bytes={from}-")).unwrap_or(HeaderValue::from_static("")),
            );
        }
        let url = format!("{}v2/{}/{path}", self.base, self.reference.repository());
        let url = Url::parse(&url).map_err(|_| self.redirect("to a malformed address"))?;
        let mut answered = false;
        for attempt in 1.. {
            let response = match self.send(url.clone(), &headers).await {
                Ok(response) => response,
                Err(Error::Unreachable { .. }) if attempt < ATTEMPTS_MAX => {
                    pause(attempt, None).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = response.status();
            let transient = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            if status.is_success() {
                return Ok(response);
            } else if status == StatusCode::UNAUTHORIZED && !answered && self.answer(response.headers()).await? {
                answered = true;
            } else if transient && attempt < ATTEMPTS_MAX {
                pause(attempt, response.headers().get(RETRY_AFTER)).await;
            } else {
                return Err(self.refusal(response, path).await);
            }
        }
        Err(self.redirect("without end"))
    }

    /// One request, with its redirects followed; ours alone get the proof of who we are.
    async fn send(&self, mut url: Url, headers: &HeaderMap) -> Result<Response, Error> {
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if url.origin() == self.base.origin()
                && let Some(value) = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
            {
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().await.map_err(|source| self.unreachable(source))?;
            let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(location) = location else { return Ok(response) };
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| self.redirect("to a malformed address"))?;
            match next.scheme() {
                "https" => {}
                "http" if self.registries.trust(self.registry()) == Trust::Insecure => {}
                _ => return Err(self.redirect("to an address that is not https")),
            }
            url = next;
        }
        Err(self.redirect("too often"))
    }

    /// Proves who we are, as the headers of a refusal ask for. False when there is no way to.
    async fn answer(&self, headers: &HeaderMap) -> Result<bool, Error> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let scope = format!("repository:{}:pull", self.reference.repository());
        let authorization = authorize(self.registries, &challenges, &scope, self.credentials).await?;
        let found = authorization.is_some();
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
        Ok(found)
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        // Its address may carry a signature.
        Error::Unreachable { registry: self.registry().to_owned(), source: source.without_url() }
    }

    fn redirect(&self, why: &'static str) -> Error {
        Error::Redirect { registry: self.registry().to_owned(), why }
    }

    async fn refusal(&self, response: Response, path: &str) -> Error {
        let status = response.status();
        let said = read_bounded(response, REFUSAL_MAX).await.map(|body| words(&body)).unwrap_or_default();
        let (registry, image) = (self.registry().to_owned(), self.reference.familiar());
        match status {
            StatusCode::NOT_FOUND if path.starts_with("manifests/") => Error::NotFound { image, registry },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied { image, registry, said },
            status => Error::Status { registry, what: path.to_owned(), status, said },
        }
    }
}

/// Waits before another try: as long as the server asks for, within bounds, or a little longer each time.
pub(crate) async fn pause(attempt: u32, asked: Option<&HeaderValue>) {
    let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    tokio::time::sleep(asked.unwrap_or(WAIT * 2u32.pow(attempt.min(6) - 1)).min(WAIT_MAX)).await;
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
