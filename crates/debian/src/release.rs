//! Release files: what a suite of a Debian archive contains (the signed text of `InRelease`).
//!
//! The text is checked to be the suite that was asked for and to be fresh, and gives the size and SHA256 of each index.
//! Left out: MD5 and SHA1 tables (not to be trusted), `SHA512` (Debian writes none), pdiffs.

use std::collections::BTreeMap;

use crate::control::Paragraph;
use crate::time;

/// A mirror's clock may be this many seconds ahead of ours.
const CLOCK_SKEW_MAX: i64 = 24 * 3600;

/// Why a Release file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is not there or cannot be read.
    #[error("the Release file of {suite} has no usable field {field}")]
    Field {
        /// The suite asked for.
        suite: String,
        /// The field's name.
        field: &'static str,
    },
    /// The file describes another suite.
    #[error(
        "asked the mirror for {asked}, but its Release file is of {suite} ({codename}): name the suite by its codename, or try another mirror"
    )]
    OtherSuite {
        /// The suite asked for.
        asked: String,
        /// `Suite`.
        suite: String,
        /// `Codename`.
        codename: String,
    },
    /// `Valid-Until` has passed.
    #[error(
        "the Release file of {suite} was valid until {until}: the mirror is out of date, try another with --mirror"
    )]
    Expired {
        /// The suite asked for.
        suite: String,
        /// `Valid-Until`.
        until: String,
    },
    /// `Date` lies ahead of this machine's clock.
    #[error("the Release file of {suite} is dated {date}, ahead of this machine's clock: set the clock")]
    FromTheFuture {
        /// The suite asked for.
        suite: String,
        /// `Date`.
        date: String,
    },
}

/// Size and hash of one file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// SHA256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A parsed and checked Release file.
#[derive(Debug, Clone)]
pub struct Release {
    /// `Suite`, such as `stable`.
    pub suite: String,
    /// `Codename`, such as `trixie`.
    pub codename: String,
    /// `Version`, such as `13.2`; testing and unstable have none.
    pub version: Option<String>,
    /// `Date` in seconds since 1970.
    pub date: i64,
    /// `Architectures`, without `all`.
    pub architectures: Vec<String>,
    /// `Acquire-By-Hash`.
    pub by_hash: bool,
    /// `Description`.
    pub description: Option<String>,
    /// `Origin`, normally `Debian`.
    pub origin: Option<String>,
    /// The SHA256 table: path below the suite's folder to size and hash.
    pub files: BTreeMap<String, FileEntry>,
}

impl Release {
    /// Parses the signed text of the Release file of `asked`; freshness is for [`Release::check_fresh`].
    pub fn parse(asked: &str, text: &str) -> Result<Self, Error> {
        let missing = |field| Error::Field { suite: asked.to_owned(), field };
        let paragraph = Paragraph::new(text);
        let field = |name| paragraph.get(name).map(str::to_owned);
        let codename = field("Codename").unwrap_or_default();
        let suite = field("Suite").unwrap_or_else(|| codename.clone());
        if asked != suite && asked != codename {
            return Err(Error::OtherSuite { asked: asked.to_owned(), suite, codename });
        }
        let date = paragraph.get("Date").and_then(time::parse_release_date).ok_or_else(|| missing("Date"))?;
        let architectures = paragraph.get("Architectures").ok_or_else(|| missing("Architectures"))?;
        let files =
            parse_table(paragraph.get("SHA256").ok_or_else(|| missing("SHA256"))?).ok_or_else(|| missing("SHA256"))?;
        Ok(Self {
            suite,
            codename,
            version: field("Version"),
            date,
            architectures: architectures
                .split_ascii_whitespace()
                .filter(|name| *name != "all")
                .map(str::to_owned)
                .collect(),
            by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
            description: field("Description"),
            origin: field("Origin"),
            files,
        })
    }

    /// Checks `Valid-Until` and `Date` of the signed `text` against the clock (`now` in seconds since 1970).
    pub fn check_fresh(&self, asked: &str, text: &str, now: i64) -> Result<(), Error> {
        let suite = || asked.to_owned();
        let paragraph = Paragraph::new(text);
        if self.date > now.saturating_add(CLOCK_SKEW_MAX) {
            return Err(Error::FromTheFuture { suite: suite(), date: time::rfc3339(self.date) });
        }
        if let Some(until) = paragraph.get("Valid-Until") {
            let end =
                time::parse_release_date(until).ok_or_else(|| Error::Field { suite: suite(), field: "Valid-Until" })?;
            if now > end {
                return Err(Error::Expired { suite: suite(), until: until.to_owned() });
            }
        }
        Ok(())
    }
}

/// Parses ` HASH SIZE PATH` lines; `None` if a line is malformed.
fn parse_table(text: &str) -> Option<BTreeMap<String, FileEntry>> {
    let mut files = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
        if !is_sha256(sha256) || words.next().is_some() {
            return None;
        }
        files.insert(path.to_owned(), FileEntry { size: size.parse().ok()?, sha256: sha256.to_owned() });
    }
    Some(files)
}

/// Whether a text is a SHA256 in lower-case hexadecimal.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0ed6d4c8891eb86358b94bb35d9e4da40ed6d4c8891eb86358b94bb35d9e4da4";

    fn text(extra: &str) -> String {
        format!(
            "Origin: Debian\nSuite: stable\nCodename: trixie\nVersion: 13.8\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n{extra}\
             Architectures: all amd64 riscv64\nSHA256:\n {HASH} 12 main/binary-amd64/Packages.xz\n"
        )
    }

    #[test]
    fn parses() {
        let release = Release::parse("trixie", &text("Acquire-By-Hash: yes\n")).unwrap();
        assert_eq!(release.architectures, ["amd64", "riscv64"]);
        assert!(release.by_hash);
        assert_eq!(release.files["main/binary-amd64/Packages.xz"], FileEntry { size: 12, sha256: HASH.to_owned() });
        assert_eq!(Release::parse("stable", &text("")).unwrap().codename, "trixie");
    }

    #[test]
    fn refuses() {
        fn check(asked: &str, text: &str, expected: &str) {
            let error = Release::parse(asked, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("sid", &text(""), "asked the mirror for sid");
        check("trixie", &text("").replace("Date", "Dote"), "field Date");
        check("trixie", &text("").replace("SHA256", "MD5Sum"), "field SHA256");
        check("trixie", &text("").replace(HASH, "zz"), "field SHA256");
        check("trixie", &text("").replace(" 12 ", " x "), "field SHA256");
        check("trixie", &text("").replace("Architectures", "X"), "field Architectures");
    }

    #[test]
    fn checks_the_clock() {
        fn check(extra: &str, now: i64, expected: Option<&str>) {
            let text = text(extra);
            let result = Release::parse("trixie", &text).unwrap().check_fresh("trixie", &text, now);
            match expected {
                None => result.unwrap(),
                Some(words) => assert!(result.unwrap_err().to_string().contains(words)),
            }
        }
        let date = time::parse_release_date("Sat, 21 Nov 2026 09:15:44 UTC").unwrap();
        check("", date, None);
        check("", date + 10 * 365 * 86_400, None);
        check("", date - 2 * 86_400, Some("set the clock"));
        check("Valid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n", date + 86_400, None);
        check("Valid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n", date + 8 * 86_400, Some("valid until"));
        check("Valid-Until: soon\n", date, Some("field Valid-Until"));
    }
}
