//! The `filters` parameter: which of a list's items somebody wants to see.
//!
//! A JSON object whose values are lists of texts (`{"name":["a"]}`) or, from old clients, sets (`{"name":{"a":true}}`).
//! Values of one key are alternatives, except labels, all of which must hold; keys must all hold.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Most filters that one request may carry.
const MAX_VALUES: usize = 1000;

/// What somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// A `filters` parameter that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Not JSON of either form.
    #[error("invalid filters: {0}")]
    Json(String),
    /// A key that this list does not have.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// A value that the key does not have.
    #[error("invalid filter '{key}={value}'")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// More of them than anybody means.
    #[error("too many filters: {MAX_VALUES} values are allowed")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the parameter; none or empty is no filter. `allowed` are the keys of this list.
    ///
    /// # Errors
    /// [`InvalidFilter`] when it does not parse, has too many values, or has a key that is not allowed.
    pub fn parse(text: Option<&str>, allowed: &[&str]) -> Result<Self, InvalidFilter> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let raw: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|error| InvalidFilter::Json(error.to_string()))?;
        let mut filters = BTreeMap::new();
        let mut count = 0;
        for (key, values) in raw {
            if !allowed.contains(&key.as_str()) {
                return Err(InvalidFilter::Key(key));
            }
            let values: Vec<String> = match values {
                Values::List(list) => list,
                Values::Set(set) => set.into_iter().filter_map(|(value, wanted)| wanted.then_some(value)).collect(),
            };
            count += values.len();
            if !values.is_empty() {
                filters.insert(key, values);
            }
        }
        if count > MAX_VALUES { Err(InvalidFilter::TooMany) } else { Ok(Self(filters)) }
    }

    /// Adds a value, as a command line does.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// As the parameter carries it; none when there is no filter.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        Some(serde_json::to_string(&self.0).expect("lists of texts are JSON"))
    }

    /// The values of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the key is absent, or one of its values satisfies `holds`.
    pub fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.iter().any(|value| holds(value)))
    }

    /// Whether all `label` filters (`name` or `name=value`) hold.
    #[must_use]
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |filter: &str| match filter.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(filter),
        };
        self.get("label").iter().all(|filter| holds(filter)) && !self.get("label!").iter().any(|filter| holds(filter))
    }

    /// Whether the key is absent, or one of its patterns is found in the name (see [`check_pattern`]).
    #[must_use]
    pub fn pattern(&self, key: &str, name: &str) -> bool {
        self.any(key, |pattern| is_found(pattern, name))
    }

    /// A filter that is `true`, `false`, `1` or `0`; none when it is absent.
    ///
    /// # Errors
    /// [`InvalidFilter::Value`] for anything else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidFilter> {
        match self.get(key).first().map(String::as_str) {
            None => Ok(None),
            Some("true" | "1" | "True" | "TRUE") => Ok(Some(true)),
            Some("false" | "0" | "False" | "FALSE") => Ok(Some(false)),
            Some(value) => Err(InvalidFilter::Value { key: key.to_owned(), value: value.to_owned() }),
        }
    }
}

/// Refuses a pattern that uses more of regular expressions than Atoll has: `^`, `$`, `.` and `.*`.
///
/// # Errors
/// [`InvalidFilter::Value`] with the pattern.
pub fn check_pattern(filters: &Filters, key: &str) -> Result<(), InvalidFilter> {
    let refused = |pattern: &&String| {
        let stars = pattern.replace(".*", "");
        stars.bytes().any(|byte| b"*+?()[]{}|\\".contains(&byte))
    };
    match filters.get(key).iter().find(refused) {
        Some(value) => Err(InvalidFilter::Value { key: key.to_owned(), value: value.clone() }),
        None => Ok(()),
    }
}

/// Whether a pattern is found anywhere in a name, or in the name after a `/`.
fn is_found(pattern: &str, name: &str) -> bool {
    let slashed = format!("/{name}");
    let whole = slashed.as_bytes();
    let (pattern, from_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let pattern = pattern.as_bytes();
    // The name itself starts at 1; Docker's patterns may or may not write the slash.
    let starts = if from_start { 0..=1 } else { 0..=whole.len() };
    starts.into_iter().any(|start| matches_here(pattern, &whole[start..], to_end))
}

/// Whether a pattern of literals, `.` and `.*` matches at the beginning; linear in the product of the lengths.
fn matches_here(pattern: &[u8], text: &[u8], to_end: bool) -> bool {
    // Reachable positions of the pattern, as in Thompson's construction.
    let mut reachable = vec![false; pattern.len() + 1];
    reachable[0] = true;
    skip_stars(pattern, &mut reachable);
    for &byte in text {
        if reachable[pattern.len()] && !to_end {
            return true;
        }
        let mut after = vec![false; pattern.len() + 1];
        let mut at = 0;
        while at < pattern.len() {
            let star = pattern[at] == b'.' && pattern.get(at + 1) == Some(&b'*');
            if reachable[at] && star {
                after[at] = true;
            } else if reachable[at] && (pattern[at] == b'.' || pattern[at] == byte) {
                after[at + 1] = true;
            }
            at += if star { 2 } else { 1 };
        }
        skip_stars(pattern, &mut after);
        reachable = after;
    }
    reachable[pattern.len()]
}

fn skip_stars(pattern: &[u8], reachable: &mut [bool]) {
    let mut at = 0;
    while at < pattern.len() {
        let star = pattern[at] == b'.' && pattern.get(at + 1) == Some(&b'*');
        if star && reachable[at] {
            reachable[at + 2] = true;
        }
        at += if star { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let list = Filters::parse(Some(r#"{"name":["a","b"]}"#), &["name"]).expect("a list");
        let set = Filters::parse(Some(r#"{"name":{"a":true,"b":true,"c":false}}"#), &["name"]).expect("a set");
        assert_eq!(list, set);
        assert_eq!(list.to_json().as_deref(), Some(r#"{"name":["a","b"]}"#));
        assert_eq!(Filters::parse(None, &[]), Ok(Filters::default()));
        assert_eq!(Filters::parse(Some(""), &[]), Ok(Filters::default()));
        assert_eq!(Filters::parse(Some("{}"), &[]).map(|filters| filters.to_json()), Ok(None));
    }

    #[test]
    fn bad_ones_are_refused() {
        assert_eq!(
            Filters::parse(Some(r#"{"colour":["a"]}"#), &["name"]),
            Err(InvalidFilter::Key("colour".to_owned()))
        );
        for bad in ["[", "[]", r#"{"name":"a"}"#, r#"{"name":[1]}"#] {
            assert!(matches!(Filters::parse(Some(bad), &["name"]), Err(InvalidFilter::Json(_))), "{bad}");
        }
        let many = format!(r#"{{"name":[{}"x"]}}"#, r#""x","#.repeat(MAX_VALUES));
        assert_eq!(Filters::parse(Some(&many), &["name"]), Err(InvalidFilter::TooMany));
    }

    #[test]
    fn names_match_as_docker_patterns_do() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let mut filters = Filters::default();
            filters.add("name", pattern);
            assert_eq!(filters.pattern("name", name), expected, "{pattern} in {name}");
        };
        check("web", "my-web-1", true);
        check("^web", "my-web", false);
        check("^web", "web-1", true);
        check("^/web$", "web", true);
        check("^/web$", "web2", false);
        check("web$", "my-web", true);
        check("web$", "web1", false);
        check("w.b", "wxb", true);
        check("^w.*b$", "wheelb", true);
        check("^w.*b$", "wheels", false);
        check("^.*$", "x", true);
        check("", "x", true);
    }

    #[test]
    fn regular_expressions_beyond_that_are_refused() {
        let check = |pattern: &str, fine: bool| {
            let mut filters = Filters::default();
            filters.add("name", pattern);
            assert_eq!(check_pattern(&filters, "name").is_ok(), fine, "{pattern}");
        };
        check("^/web.*$", true);
        check("a|b", false);
        check("a*", false);
        check("[ab]", false);
    }

    #[test]
    fn labels_must_all_hold() {
        let labels: BTreeMap<_, _> = [("a", "1"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let check = |wanted: &[&str], expected: bool| {
            let mut filters = Filters::default();
            wanted.iter().for_each(|label| filters.add("label", label));
            assert_eq!(filters.labels(&labels), expected, "{wanted:?}");
        };
        check(&[], true);
        check(&["a"], true);
        check(&["a=1", "b"], true);
        check(&["a=2"], false);
        check(&["a", "c"], false);
    }

    #[test]
    fn booleans() {
        let check = |value: &str, expected: Result<Option<bool>, ()>| {
            let mut filters = Filters::default();
            filters.add("dangling", value);
            assert_eq!(filters.boolean("dangling").map_err(|_| ()), expected);
        };
        check("true", Ok(Some(true)));
        check("0", Ok(Some(false)));
        check("maybe", Err(()));
    }
}
