//! apt's configured sources (sources.list(5)), read to find the mirror this host already uses.
//!
//! `/etc/apt/sources.list` and the files of `sources.list.d` are read in apt's order, one-line and deb822 style; the first
//! enabled binary source that looks like Debian's main archive wins, else the well-known address. Left out: `apt.conf`
//! options, `cdrom:` and `mirror+` sources, sources that need credentials.

use std::fs;
use std::path::Path;

use crate::control;

/// Where Debian is found when the host's apt says nothing.
pub const FALLBACK_MIRROR: &str = "http://deb.debian.org/debian";

/// The mirror that apt under `etc` (normally `/etc/apt`) is configured with, without a trailing slash.
/// A source whose path ends in `/debian` wins; one that names `suite` exactly is the second choice.
pub fn default_mirror(etc: &Path, suite: &str) -> String {
    let mut second = None;
    for text in texts(etc) {
        for source in parse(&text) {
            let uri = source.uri.trim_end_matches('/');
            if uri.ends_with("/debian") {
                return uri.to_owned();
            }
            let is_debian =
                uri.rsplit('/').next().is_some_and(|last| last.starts_with("debian")) && !uri.contains("security");
            if is_debian && second.is_none() && source.suites.iter().any(|name| name == suite) {
                second = Some(uri.to_owned());
            }
        }
    }
    second.unwrap_or_else(|| FALLBACK_MIRROR.to_owned())
}

/// One archive of binary packages.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
}

/// The contents of apt's source files; unreadable ones are as good as absent for a default.
fn texts(etc: &Path) -> Vec<String> {
    let mut paths = vec![etc.join("sources.list")];
    if let Ok(folder) = fs::read_dir(etc.join("sources.list.d")) {
        let mut found: Vec<_> = folder
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "list" || end == "sources"))
            .collect();
        found.sort();
        paths.extend(found);
    }
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// Parses either style: a line that starts with `deb` decides for the one-line style.
fn parse(text: &str) -> Vec<Source> {
    let one_line =
        text.lines().any(|line| line.trim_start().starts_with("deb ") || line.trim_start().starts_with("deb\t"));
    if one_line { text.lines().filter_map(parse_line).collect() } else { parse_deb822(text) }
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_ascii_whitespace();
    let uri = words.next().filter(|uri| is_supported(uri))?;
    Some(Source { uri: uri.to_owned(), suites: vec![words.next()?.to_owned()] })
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for paragraph in control::paragraphs(text) {
        let words = |field| paragraph.get(field).unwrap_or_default().split_ascii_whitespace();
        let enabled = !matches!(paragraph.get("Enabled"), Some("no" | "false" | "0"));
        if enabled && words("Types").any(|kind| kind == "deb") {
            let suites: Vec<_> = words("Suites").map(str::to_owned).collect();
            sources.extend(
                words("URIs")
                    .filter(|uri| is_supported(uri))
                    .map(|uri| Source { uri: uri.to_owned(), suites: suites.clone() }),
            );
        }
    }
    sources
}

fn is_supported(uri: &str) -> bool {
    ["http://", "https://", "file:"].iter().any(|scheme| uri.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror() {
        fn check(files: &[(&str, &str)], expected: &str) {
            let etc = tempfile::tempdir().unwrap();
            fs::create_dir(etc.path().join("sources.list.d")).unwrap();
            for (name, text) in files {
                fs::write(etc.path().join(name), text).unwrap();
            }
            assert_eq!(default_mirror(etc.path(), "trixie"), expected, "{files:?}");
        }
        check(&[], FALLBACK_MIRROR);
        check(&[("sources.list", "deb http://m.example/debian/ bookworm main")], "http://m.example/debian");
        check(&[("sources.list", "# deb http://m.example/debian bookworm main\n")], FALLBACK_MIRROR);
        check(&[("sources.list", "deb-src http://m.example/debian bookworm main\n")], FALLBACK_MIRROR);
        check(
            &[("sources.list", "deb [signed-by=/k arch=amd64] https://m.example/debian sid main # x\n")],
            "https://m.example/debian",
        );
        check(&[("sources.list", "deb https://packages.example/apt cloud main")], FALLBACK_MIRROR);
        check(&[("sources.list", "deb http://m.example/debian-security trixie-security main")], FALLBACK_MIRROR);
        check(&[("sources.list", "deb http://m.example/debian-all trixie main")], "http://m.example/debian-all");
        check(&[("sources.list", "deb cdrom:[Debian]/debian bookworm main")], FALLBACK_MIRROR);
        check(
            &[(
                "sources.list.d/a.sources",
                "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nEnabled: no\n\nTypes: deb deb-src\nURIs: http://b.example/x\n http://b.example/debian\nSuites: bookworm\n",
            )],
            "http://b.example/debian",
        );
        check(
            &[
                ("sources.list.d/z.ignored", "deb http://a.example/debian sid main"),
                ("sources.list.d/b.list", "deb http://c.example/debian sid main"),
            ],
            "http://c.example/debian",
        );
    }
}
