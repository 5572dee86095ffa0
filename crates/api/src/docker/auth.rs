//! Credentials for a registry, as clients send them with a request: the header `X-Registry-Auth`.
//!
//! Its value is base64url (with or without padding) of a JSON object, `AuthConfig` in the API reference.

use atoll_oci::reference::DEFAULT_REGISTRY;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::bad::BadRequest;

/// What the default registry is called in `config.json`.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// The header.
pub const REGISTRY_AUTH: &str = "X-Registry-Auth";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client knows for a registry. Its parts are secrets: it has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_debug_implementations, reason = "secrets are not printed")]
pub struct RegistryAuth {
    /// A name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Its password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// The registry that they are for.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server_address: String,
    /// A refresh token in place of a password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// An access token, to be sent as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

/// The answer to `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_debug_implementations, reason = "secrets are not printed")]
pub struct AuthAnswer {
    /// For people.
    pub status: String,
    /// A token to keep in place of the password; empty where there is none.
    pub identity_token: String,
}

/// What a registry (host with an optional port) is called in `config.json` and `serveraddress`: the default one has an address
/// from before it was one among many.
#[must_use]
pub fn registry_key(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DEFAULT_KEY } else { registry }
}

/// The registry that a key of `config.json` or a `serveraddress`, which may be an address, is about.
#[must_use]
pub fn registry_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

impl RegistryAuth {
    /// Reads the header's value; an empty one is no credentials.
    ///
    /// # Errors
    /// When it is not base64url of such an object.
    pub fn from_header(value: &str) -> Result<Self, BadRequest> {
        let wrong = || BadRequest::invalid(REGISTRY_AUTH, "it is not base64url of a JSON object");
        if value.is_empty() {
            return Ok(Self::default());
        }
        let bytes = BASE64.decode(value).map_err(|_| wrong())?;
        match bytes.as_slice() {
            b"" | b"null" => Ok(Self::default()),
            bytes => serde_json::from_slice(bytes).map_err(|_| wrong()),
        }
    }

    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        BASE64.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_clients() {
        let check = |value: &str, expected: Option<(&str, &str, &str)>| {
            let read = RegistryAuth::from_header(value).ok();
            let parts = read.as_ref().map(|auth| (&*auth.username, &*auth.password, &*auth.identity_token));
            assert_eq!(parts, expected, "{value}");
        };
        check("", Some(("", "", "")));
        check("e30=", Some(("", "", "")));
        check("e30", Some(("", "", "")));
        check("bnVsbA==", Some(("", "", "")));
        // {"username":"a","password":"b?>","email":"x"}
        check("eyJ1c2VybmFtZSI6ImEiLCJwYXNzd29yZCI6ImI_PiIsImVtYWlsIjoieCJ9", Some(("a", "b?>", "")));
        check("eyJpZGVudGl0eXRva2VuIjoidCJ9", Some(("", "", "t")));
        check("not base64!", None);
        check("W10=x", None);
        check("YWJj", None);
        let auth = RegistryAuth { username: "a".to_owned(), password: "ü".to_owned(), ..RegistryAuth::default() };
        assert!(RegistryAuth::from_header(&auth.to_header()).is_ok_and(|read| read == auth));
    }
}
