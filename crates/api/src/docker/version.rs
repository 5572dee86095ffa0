//! Versions of the API, and how a path names one: `/v1.44/info`.

use super::BadRequest;

/// The newest version that is spoken.
pub const API_VERSION: &str = "1.50";
/// The oldest version that is spoken.
pub const MIN_API_VERSION: &str = "1.24";

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// [`API_VERSION`]: what a path without a version means.
    pub const NEWEST: Self = Self::minor(50);
    /// [`MIN_API_VERSION`].
    pub const OLDEST: Self = Self::minor(24);

    /// Version 1.`minor`.
    #[must_use]
    pub const fn minor(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// What stands after `/v`: numbers and points, of which the first two count. A number too large to read is larger than any.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        let mut numbers = text.split('.').map(|part| match part {
            "" => 0,
            digits => digits.parse().unwrap_or(u32::MAX),
        });
        Some(Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) })
    }
}

/// The version that a path asks for, and the rest of the path.
///
/// # Errors
/// [`BadRequest::Version`] when that version is not spoken.
pub fn strip_version(path: &str) -> Result<(ApiVersion, &str), BadRequest> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok((ApiVersion::NEWEST, path)) };
    let (text, rest) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let Some(version) = ApiVersion::parse(text) else { return Ok((ApiVersion::NEWEST, path)) };
    if version > ApiVersion::NEWEST {
        return Err(BadRequest::Version(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if version < ApiVersion::OLDEST {
        return Err(BadRequest::Version(format!(
            "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client to a newer version"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_stripped_from_paths() {
        let check = |path: &str, minor: u32, rest: &str| {
            let expected = (ApiVersion::minor(minor), rest);
            assert_eq!(strip_version(path).expect("a version that is spoken"), expected, "{path}");
        };
        check("/info", 50, "/info");
        check("/v1.44/info", 44, "/info");
        check("/v1.24/containers/v1/json", 24, "/containers/v1/json");
        check("/volumes/x", 50, "/volumes/x");
        check("/v1.44", 44, "/");
        check("/v1.x/info", 50, "/v1.x/info");
        check("/version", 50, "/version");
        check("/v1.30.7/info", 30, "/info");
    }

    #[test]
    fn what_is_not_spoken_is_refused_with_what_is() {
        let check = |path: &str, expected: &str| {
            let error = strip_version(path).expect_err("a version that is not spoken").to_string();
            assert!(error.contains(expected), "{path}: {error}");
        };
        check("/v1.51/info", "client version 1.51 is too new. Maximum supported API version is 1.50");
        check("/v2.0/info", "too new");
        check("/v99999999999.1/info", "too new");
        check("/v1.23/info", "client version 1.23 is too old. Minimum supported API version is 1.24");
        check("/v0.9/info", "too old");
        check("/v1/info", "too old");
        check("/v./info", "too old");
    }
}
