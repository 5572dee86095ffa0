//! `POST /images/create`: pulling, and taking in what is sent.

use atoll_api::atoll::ProgressLine;
use atoll_api::docker::{REGISTRY_AUTH, RegistryAuth};
use atoll_engine::{Credentials, ImportRequest, PullRequest};
use atoll_oci::{Digest, Reference};
use axum::extract::{Query, Request, State as Held};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Pairs, State, progress};
use crate::answer::{Answer, Refusal};
use crate::upload::Upload;

pub(super) async fn create(
    Held(state): Held<State>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Answer<Response> {
    let query = Pairs(query);
    match query.last("fromSrc") {
        "" => pull(state, &query, request.headers()).await,
        "-" => import(state, &query, request).await,
        url => {
            let message = format!("importing from {url} is not supported: download it, and import the file");
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message))
        }
    }
}

async fn import(state: State, query: &Pairs, request: Request) -> Answer<Response> {
    let wanted = ImportRequest {
        name: query.reference("repo", "tag")?,
        message: query.last("message").to_owned(),
        changes: query.all("changes"),
        platform: query.platform("platform")?,
    };
    let archive = Upload::of(request.into_body());
    progress::answer(None, move |_| async move {
        let id = state.engine.import(wanted, archive).await?;
        Ok(vec![ProgressLine { status: id.to_string(), ..ProgressLine::default() }])
    })
    .await
}

async fn pull(state: State, query: &Pairs, headers: &HeaderMap) -> Answer<Response> {
    let platform = query.platform("platform")?;
    let name = name(query.last("fromImage"), query.last("tag"))?;
    let request = PullRequest { name: name.clone(), platform, credentials: shown(headers)? };
    let tag = name.tag().map(ToOwned::to_owned).or_else(|| name.digest().map(ToString::to_string));
    let first = ProgressLine {
        id: tag.unwrap_or_default(),
        status: format!("Pulling from {}", name.repository()),
        ..ProgressLine::default()
    };
    progress::answer(Some(first), move |reports| async move {
        let pulled = state.engine.pull(request, reports).await?;
        let what = if pulled.newer { "Downloaded newer image" } else { "Image is up to date" };
        let line = |status| ProgressLine { status, ..ProgressLine::default() };
        Ok(vec![line(format!("Digest: {}", pulled.digest)), line(format!("Status: {what} for {}", name.familiar()))])
    })
    .await
}

/// What is to be pulled: `tag` may be a digest, and the image may bring its own.
fn name(image: &str, tag: &str) -> Answer<Reference> {
    let text = match (tag, tag.parse::<Digest>()) {
        ("", _) => {
            let last = image.rsplit('/').next().unwrap_or(image);
            if !last.contains([':', '@']) {
                let message = format!("pulling all tags of {image} is not supported yet: name one");
                return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message));
            }
            image.to_owned()
        }
        (_, Ok(digest)) => format!("{image}@{digest}"),
        (tag, Err(_)) => format!("{image}:{tag}"),
    };
    Reference::parse(&text).map_err(|error| Refusal::bad(error.to_string()))
}

/// The credentials that come with a request.
pub(super) fn shown(headers: &HeaderMap) -> Answer<Credentials> {
    let header = headers.get(REGISTRY_AUTH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(credentials(RegistryAuth::from_header(header)?))
}

pub(super) fn credentials(auth: RegistryAuth) -> Credentials {
    let RegistryAuth { username, password, identity_token, registry_token, .. } = auth;
    if !registry_token.is_empty() {
        Credentials::RegistryToken(registry_token)
    } else if !identity_token.is_empty() {
        Credentials::IdentityToken(identity_token)
    } else if username.is_empty() {
        Credentials::Anonymous
    } else {
        Credentials::Password { username, password }
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_come_in_two_parts() {
        let check = |image: &str, tag: &str, expected: Option<&str>| {
            let name = name(image, tag).ok().map(|name| name.to_string());
            assert_eq!(name.as_deref(), expected, "{image} {tag}");
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        check("web", "1", Some("docker.io/library/web:1"));
        check("web:1", "", Some("docker.io/library/web:1"));
        check("localhost:5000/web", "1", Some("localhost:5000/web:1"));
        check("localhost:5000/web", "", None);
        check("web", "", None);
        check("web", &digest, Some(&format!("docker.io/library/web@{digest}")));
        check("Web", "1", None);
        check("web", "a b", None);
    }
}
