//! Answering a challenge: basic credentials, or a token from the token server that the registry names.
//!
//! Distribution specification, "Token Authentication" and "OAuth2 Token Authentication". A token server is trusted as a
//! registry of its name would be: by plain HTTP only where that is allowed.

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::session::{read_bounded, words};
use crate::{Credentials, Error, Registries, Trust};

/// Longest answer of a token server, in bytes.
const ANSWER_MAX: u64 = 1 << 20;
/// What we call ourselves.
const CLIENT_ID: &str = "atoll";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
}

/// What proves who we are.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The value of the header `Authorization`; a secret, and marked as one.
    pub(crate) header: HeaderValue,
    /// A token for further tokens, in place of a password, where the server gave one; it is not printed.
    pub(crate) refresh: Option<Refresh>,
}

/// A refresh token.
#[derive(Clone)]
pub(crate) struct Refresh(pub(crate) String);

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresh(…)")
    }
}

/// What answers one of `challenges`; `None` when the credentials have no answer to any of them. `scope` is what a token is to
/// allow where the challenge names nothing; without any, a refresh token is asked for too.
pub(crate) async fn authorize(
    registries: &Registries,
    challenges: &[Challenge],
    scope: &str,
    credentials: &Credentials,
) -> Result<Option<Grant>, Error> {
    let plain = |header| Grant { header, refresh: None };
    if let Credentials::RegistryToken(token) = credentials {
        return Ok(bearer(token).map(plain));
    }
    for challenge in challenges {
        match (challenge, credentials) {
            (Challenge::Bearer { realm, service, scope: asked }, _) => {
                let scope = asked.as_deref().unwrap_or(scope);
                return fetch(registries, realm, service.as_deref(), scope, credentials).await.map(Some);
            }
            (Challenge::Basic, Credentials::Password { username, password }) => {
                return Ok(basic(username, password).map(plain));
            }
            (Challenge::Basic, _) => {}
        }
    }
    Ok(None)
}

async fn fetch(
    registries: &Registries,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: &Credentials,
) -> Result<Grant, Error> {
    let shown: String = realm.chars().filter(|c| !c.is_control()).collect();
    let failed = |why: String| Error::Token { realm: shown.clone(), why, refused: false };
    let url = Url::parse(realm).map_err(|_| failed("its address is malformed".to_owned()))?;
    let server = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(failed("its address names no host".to_owned())),
    };
    match url.scheme() {
        "https" => {}
        "http" if registries.trust(&server) == Trust::Insecure => {}
        _ => return Err(failed("its address is not https, and it is not among the insecure registries".to_owned())),
    }
    let client = registries.client(&server)?;
    let mut fields: Vec<_> = scope.split(' ').filter(|part| !part.is_empty()).map(|part| ("scope", part)).collect();
    fields.extend(service.map(|service| ("service", service)));
    let request: RequestBuilder = match credentials {
        Credentials::IdentityToken(token) => {
            // Here they are one field, apart by blanks.
            fields.retain(|(name, _)| *name != "scope");
            fields.extend((!scope.is_empty()).then_some(("scope", scope)));
            fields.extend([("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", token)]);
            client.post(url).form(&fields)
        }
        Credentials::Password { username, password } => {
            fields.extend([("account", username.as_str()), ("client_id", CLIENT_ID)]);
            fields.extend(scope.is_empty().then_some(("offline_token", "true")));
            client.get(with_query(url, &fields)).basic_auth(username, Some(password))
        }
        _ => client.get(with_query(url, &fields)),
    };
    let response = request.send().await.map_err(|error| failed(error.without_url().to_string()))?;
    let status = response.status();
    let body = read_bounded(response, ANSWER_MAX).await.map_err(|_| failed("its answer broke off".to_owned()))?;
    if !status.is_success() {
        let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        return Err(Error::Token { realm: shown, why: format!("it answered {status}{}", words(&body)), refused });
    }
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| failed("its answer is no token response".to_owned()))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    let header = bearer(&token).filter(|_| !token.is_empty());
    let header = header.ok_or_else(|| failed("its answer has no token".to_owned()))?;
    Ok(Grant { header, refresh: Some(answer.refresh_token).filter(|token| !token.is_empty()).map(Refresh) })
}

fn with_query(mut url: Url, fields: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(fields);
    url
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

/// The header is written by the HTTP library, and read back.
fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let request = reqwest::Client::new().get("http://localhost").basic_auth(username, Some(password)).build().ok()?;
    request.headers().get(AUTHORIZATION).cloned()
}
