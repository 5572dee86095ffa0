//! What a registry asks for when it says 401: the header `WWW-Authenticate` (RFC 9110, section 11.6.1).
//!
//! One header may hold several challenges, each a scheme with parameters; a comma separates both challenges and parameters.

/// Longest header that is looked at, in bytes.
const HEADER_MAX: usize = 8 << 10;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token from a token server (distribution specification, token authentication).
    Bearer {
        /// The token server's address.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it is to allow, as `repository:NAME:pull`.
        scope: Option<String>,
    },
}

/// The challenges in a header that are understood, in order.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > HEADER_MAX {
        return Vec::new();
    }
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let value = after.trim_start().strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let Some((value, after)) = value_of(value.trim_start()) else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                challenges.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    challenges.into_iter().filter_map(|(scheme, parameters)| understood(&scheme, &parameters)).collect()
}

fn understood(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") }),
        _ => None,
    }
}

/// A token at the start of `text`, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or quoted string at the start of `text`, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return (!value.is_empty()).then(|| (value.to_owned(), after));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_of_the_field() {
        let check = |header: &str, expected: &[Challenge]| assert_eq!(parse(header), expected, "{header}");
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        check("Basic realm=\"x\"", &[Challenge::Basic]);
        check("basic", &[Challenge::Basic]);
        let docker = "Bearer realm=\"https://a/token\",service=\"r\",scope=\"repository:a/b:pull,push\"";
        check(docker, &[bearer("https://a/token", Some("r"), Some("repository:a/b:pull,push"))]);
        check("BEARER  Realm = https , Service=\"a\\\"b\"", &[bearer("https", Some("a\"b"), None)]);
        check("Negotiate, Basic realm=x, Bearer realm=\"y\"", &[Challenge::Basic, bearer("y", None, None)]);
        check("Negotiate abc==, Basic", &[]);
        check("Bearer service=\"without realm\"", &[]);
        check("Bearer realm=\"never closed", &[]);
        check("realm=\"x\"", &[]);
        check("", &[]);
        check("<html>", &[]);
        check(&format!("Bearer realm=\"{}\"", "x".repeat(HEADER_MAX)), &[]);
    }

    proptest! {
        #[test]
        fn anything_parses_to_something(header in ".{0,200}") {
            parse(&header);
        }

        #[test]
        fn quoted_values_come_back(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let expected = Challenge::Bearer { realm, service: None, scope: None };
            prop_assert_eq!(parse(&format!("Bearer realm=\"{quoted}\"")), vec![expected]);
        }
    }
}
