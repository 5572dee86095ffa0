//! What the Docker API has no word for: `/atoll/v1`.
//!
//! A request is one JSON object; its answer is a stream of JSON objects, one per line, the last of which carries
//! either the image or the error.

use serde::{Deserialize, Serialize};

/// `POST /atoll/v1/images/bootstrap`: make a base image from a Debian mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapRequest {
    /// The suite: `bookworm`, `trixie`, `sid` …
    pub suite: String,
    /// Debian's name of the architecture; empty is the host's.
    pub arch: String,
    /// Packages beyond those of the variant.
    pub include: Vec<String>,
    /// `minimal` or `apt`; empty is `minimal`.
    pub variant: String,
    /// The mirror's address; empty is what the host's apt is configured with.
    pub mirror: String,
    /// What to call the image.
    pub name: String,
    /// Path on the host of the keyring that the suite is verified against; empty is Debian's.
    pub keyring: String,
}

/// `GET /atoll/v1/system/df`: bytes on the disk that `GET /system/df` has no place for. Both together are the whole state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestUsage {
    /// Logs of containers, and the files that are mounted over their `/etc`.
    pub logs: u64,
    /// What is on its way, and what is left of transfers that broke off.
    pub transfers: u64,
    /// The metadata and the folders themselves.
    pub other: u64,
}

/// One of `GET /atoll/v1/system/doctor`: what a check of the host found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name.
    pub check: String,
    /// How much it matters.
    pub level: Level,
    /// What is so.
    pub found: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Fine,
    /// It matters to who wants what is missing.
    Note,
    /// Something works less well than it could.
    Warning,
    /// Something does not work, or soon will not.
    Problem,
}

impl Level {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of a stream of progress, as Docker's `pull` and `load` have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressLine {
    /// What the line is about: a layer, a package.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What happens to it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressDetail>,
    /// A text for people, with its line end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Why it failed; nothing follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same, as an object.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// What came of it; nothing follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Bytes in all, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Why something failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// The sentence.
    pub message: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aux {
    /// An image's id.
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The tag that was pushed.
    #[serde(rename = "Tag", skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The digest that its registry knows it by.
    #[serde(rename = "Digest", skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Bytes of its manifest.
    #[serde(rename = "Size", skip_serializing_if = "is_zero")]
    pub size: u64,
}

impl ProgressLine {
    /// The last line of a stream that failed.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { error: Some(message.clone()), error_detail: Some(ErrorDetail { message }), ..Self::default() }
    }

    /// A line of text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { stream: Some(text.into()), ..Self::default() }
    }

    /// As one line of JSON.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a line is plain data with string keys");
        line.extend_from_slice(b"\r\n");
        line
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_docker_prints() {
        let check = |line: &ProgressLine, expected: &str| {
            assert_eq!(String::from_utf8(line.to_line()).expect("JSON is text"), format!("{expected}\r\n"));
        };
        check(&ProgressLine::text("Loaded image: a\n"), r#"{"stream":"Loaded image: a\n"}"#);
        check(&ProgressLine::failure("no"), r#"{"error":"no","errorDetail":{"message":"no"}}"#);
        let line = ProgressLine {
            id: "x".to_owned(),
            status: "Extracting".to_owned(),
            progress: Some(ProgressDetail { current: 3, total: Some(9) }),
            ..ProgressLine::default()
        };
        check(&line, r#"{"id":"x","status":"Extracting","progressDetail":{"current":3,"total":9}}"#);
    }

    #[test]
    fn unknown_wishes_are_refused() {
        assert!(serde_json::from_str::<BootstrapRequest>(r#"{"suite":"sid","colour":"red"}"#).is_err());
    }
}
