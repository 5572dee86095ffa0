//! Image references by Docker's rules (the grammar of `distribution/reference`): `[registry/]repository[:tag][@digest]`.
//!
//! A text from a user, a Dockerfile or an archive is parsed once into a [`Reference`], with Docker's defaults filled in;
//! its [`Display`](fmt::Display) form is canonical and is the key of everything stored. Short-name aliases are left out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError, excerpt};

/// The registry of names that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The folder of official images on the default registry.
const OFFICIAL: &str = "library";
/// The old name of the default registry.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Longest repository, in bytes.
pub const REPOSITORY_MAX: usize = 255;
/// Longest tag, in bytes.
pub const TAG_MAX: usize = 128;
/// Longest text that is looked at, in bytes.
const TEXT_MAX: usize = 1024;

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Empty, or too long to be one.
    #[error("image name {0:?} is empty or too long: write it like debian:13 or registry.example/team/web:1.2")]
    Length(String),
    /// The repository has an upper-case letter.
    #[error("repository name {0:?} must be lowercase: write {1:?}")]
    Uppercase(String, String),
    /// The registry is not a host name or address with an optional port.
    #[error("registry {0:?} must be a host name or address, with :port if it needs one")]
    Registry(String),
    /// The repository has a part that the grammar does not allow.
    #[error(
        "invalid reference format: repository {0:?} may have lower-case letters, digits and single separators (. _ __ -) between them"
    )]
    Repository(String),
    /// The repository is longer than [`REPOSITORY_MAX`].
    #[error("repository name must not be longer than {REPOSITORY_MAX} characters")]
    RepositoryLength,
    /// The tag is malformed.
    #[error("tag {0:?} must have at most {TAG_MAX} letters, digits, _ . - and start with none of . -")]
    Tag(String),
    /// 64 hexadecimal digits: an id, not a name.
    #[error("image name {0:?} looks like an image id: 64 hexadecimal digits cannot be a repository")]
    Id(String),
    /// The digest is malformed.
    #[error("the digest after @ is malformed")]
    Digest(#[from] DigestError),
}

/// A reference with registry and repository, and a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user wrote and fills in Docker's defaults: `debian` is `docker.io/library/debian:latest`.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() || text.len() > TEXT_MAX {
            return Err(ReferenceError::Length(excerpt(text)));
        }
        if text.len() == 64 && is_image_id(text) {
            return Err(ReferenceError::Id(text.into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(check_tag(tag)?)),
            None => (rest, None),
        };
        let registry = check_registry(registry)?;
        check_repository(path)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.into()
        };
        if repository.len() > REPOSITORY_MAX {
            return Err(ReferenceError::RepositoryLength);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.into()),
            (tag, _) => tag,
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// Host and port of the registry: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path on the registry: `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only when there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when it pins one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository under another tag, without a digest.
    ///
    /// # Errors
    /// The tag is malformed.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        Ok(Self { tag: Some(check_tag(tag)?), digest: None, ..self.clone() })
    }

    /// The same repository pinned to `digest`, without a tag: an entry of Docker's `RepoDigests`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository, canonical, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The repository as Docker shows it: without the default registry and `library/`, where that reads back the same.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        if let Some(short) = self.repository.strip_prefix("library/").filter(|rest| !rest.contains('/')) {
            return short.into();
        }
        match self.repository.split_once('/') {
            Some((first, _)) if is_registry(first) => self.name(),
            _ => self.repository.clone(),
        }
    }

    /// The short form that Docker shows: `debian:latest`, `team/web@sha256:…`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// Whether `text` can be an image id or the start of one: 12 to 64 lower-case hexadecimal digits, with or without `sha256:`.
#[must_use]
pub fn is_image_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (12..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Docker's rule for what stands before the first slash: with a dot, a port, an upper-case letter, or `localhost`, it is a
/// registry; otherwise it is part of the repository.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '[']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(text: &str) -> Result<String, ReferenceError> {
    let wrong = || ReferenceError::Registry(excerpt(text));
    if text == LEGACY_REGISTRY {
        return Ok(DEFAULT_REGISTRY.into());
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        (None, (!port.is_empty()).then_some(port))
    } else {
        match text.find(':') {
            Some(at) => (Some(&text[..at]), Some(&text[at..])),
            None => (Some(text), None),
        }
    };
    if let Some(port) = port {
        let digits = port.strip_prefix(':').ok_or_else(wrong)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.parse::<u16>().is_err() {
            return Err(wrong());
        }
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.is_some_and(|host| !host.split('.').all(label)) {
        return Err(wrong());
    }
    Ok(text.into())
}

fn check_repository(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(excerpt(path), excerpt(&path.to_ascii_lowercase())));
    }
    if path.split('/').all(is_component) { Ok(()) } else { Err(ReferenceError::Repository(excerpt(path))) }
}

/// `[a-z0-9]+` groups joined by one dot, one or two underscores, or any number of dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes
            .split(alphanumeric)
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn check_tag(tag: &str) -> Result<String, ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let sound = tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    if sound { Ok(tag.into()) } else { Err(ReferenceError::Tag(excerpt(tag))) }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}
