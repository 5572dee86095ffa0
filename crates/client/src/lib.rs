//! A typed client of the Docker Engine API over a unix socket, as `atoll` speaks it.
//!
//! A [`Client`] knows where the daemon is and, when it is our own, how to start one that does not answer. Plain calls
//! share one connection that is kept; streams and hijacked connections get their own. Left out on purpose: TCP, and
//! what a command line makes of the answers.

#![forbid(unsafe_code)]

mod connection;
mod error;
mod hijack;
mod launch;

pub use connection::{Answer, Client};
pub use error::Error;
pub use hijack::{HijackReader, HijackWriter};
pub use launch::Launch;

/// `text` as one segment of a path or one value of a query (RFC 3986, section 2).
#[must_use]
pub fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    escaped
}

/// A path with a query: pairs whose value is empty are left out.
#[must_use]
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut full = path.to_owned();
    let mut separator = '?';
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        full.push(separator);
        full.push_str(key);
        full.push('=');
        full.push_str(&escape(value));
        separator = '&';
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries() {
        assert_eq!(escape("a/b c%é"), "a%2Fb%20c%25%C3%A9");
        assert_eq!(with_query("/x", &[("a", ""), ("b", "1&2"), ("c", "3")]), "/x?b=1%262&c=3");
        assert_eq!(with_query("/x", &[]), "/x");
    }
}
