//! Whether a registry takes somebody's credentials (`docker login`).

use reqwest::Method;

use crate::session::{Ask, Session, Subject};
use crate::{Credentials, Error, Registries};

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry or its token server refuses the credentials.
    #[error("login attempt to {address} failed with status: 401 Unauthorized: check the name and the password")]
    Refused {
        /// The address that was asked.
        address: String,
    },
    /// It could not be asked.
    #[error(transparent)]
    Registry(#[from] Error),
}

/// Shows `credentials` to a registry (host with an optional port). A token server may give a token to keep in place of the
/// password.
///
/// # Errors
/// They are refused, or the registry cannot be asked.
pub async fn login(
    registries: &Registries,
    registry: &str,
    credentials: &Credentials,
) -> Result<Option<String>, LoginError> {
    let refused = |address: String| {
        move |error| match error {
            Error::Denied { .. } | Error::Token { refused: true, .. } => LoginError::Refused { address },
            other => LoginError::Registry(other),
        }
    };
    let subject =
        Subject { host: registry.to_owned(), repository: String::new(), image: registry.to_owned(), actions: "" };
    let session = Session::open(registries, subject, credentials).await.map_err(refused(registry.to_owned()))?;
    let url = session.url("")?;
    session.request(&Ask::new(Method::GET, url.clone())).await.map_err(refused(url.to_string()))?;
    Ok(session.refresh_token())
}
