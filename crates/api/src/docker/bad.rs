//! Why a request is refused before anybody is asked, and how JSON of clients is read.

use atoll_model::BadLog;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a request is refused before the engine is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The body is not the JSON that belongs there.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// An option that is understood and cannot be done, by its name in the API.
    #[error("{option} is not supported by Atoll yet: leave it out ({given})")]
    Unsupported {
        /// Its name, as `HostConfig.PortBindings`.
        option: String,
        /// What was asked for, shortened.
        given: String,
    },
    /// An option whose value makes no sense.
    #[error("invalid {option}: {why}")]
    Invalid {
        /// Its name.
        option: String,
        /// What is wrong with it.
        why: String,
    },
    /// Options that contradict each other, in Docker's words.
    #[error("{0}")]
    Contradiction(String),
    /// A log that there is not.
    #[error("{0}")]
    Log(#[from] BadLog),
    /// A version of the API that is not spoken.
    #[error("{0}")]
    Version(String),
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// The sentence.
    pub message: String,
}

impl BadRequest {
    /// An option whose value makes no sense.
    pub fn invalid(option: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { option: option.into(), why: why.into() }
    }

    /// An option that cannot be done.
    pub fn unsupported(option: impl Into<String>, given: &Value) -> Self {
        /// Characters of a value that an error repeats.
        const SHOWN: usize = 80;
        let text = given.to_string();
        let mut given: String = text.chars().take(SHOWN).collect();
        if given.len() < text.len() {
            given.push('…');
        }
        Self::Unsupported { option: option.into(), given }
    }

    /// The HTTP status that Docker answers with.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unsupported { .. } => 501,
            _ => 400,
        }
    }
}

/// Reads a body as Go's decoder would: `null` is the same as absent.
///
/// # Errors
/// [`BadRequest::Json`] with where it stops making sense. Nesting is bounded by the parser (128 levels).
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRequest> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| BadRequest::Json(error.to_string()))?;
    drop_nulls(&mut value);
    if value.is_null() {
        // As a field of that value, it is the same as absent.
        value = Value::Object(serde_json::Map::new());
    }
    if !value.is_object() {
        return Err(BadRequest::Json("an object is expected".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| BadRequest::Json(error.to_string()))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object_or_nothing() {
        let check = |body: &str, fine: bool| assert_eq!(parse::<ErrorBody>(body.as_bytes()).is_ok(), fine, "{body}");
        check("{}", true);
        check("null", true);
        check("{\"message\":null}", true);
        check("[]", false);
        check("[\"text\"]", false);
        check("5", false);
        check("", false);
    }
}
