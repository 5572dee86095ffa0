//! Manners of any text file: no tabs, no trailing white space, a final line end, links in documents that lead somewhere.
//!
//! Binary and foreign files are passed over by name. Left out: links to other sites, which a test must not visit.

use super::Finding;

/// Endings of files that are ours to write.
const OURS: [&str; 7] = [".rs", ".toml", ".md", ".sh", ".json", ".yml", ".css"];
/// Folders whose files are data, not text.
const DATA: [&str; 3] = ["fuzz/corpus/", "fuzz/artifacts/", "testdata/"];

/// Checks the file at `path`; `exists` tells whether a path relative to the root is there.
pub(crate) fn check(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let script = path.starts_with("scripts/") || path.starts_with(".ci/");
    if DATA.iter().any(|folder| path.contains(folder)) || !(script || OURS.iter().any(|end| path.ends_with(end))) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut find = |line: usize, rule, text: String| {
        findings.push(Finding { path: path.to_owned(), line, rule, item: String::new(), amount: 1, text });
    };
    for (at, line) in text.lines().enumerate() {
        if line.contains('\t') {
            find(at + 1, "tab", "a tab: use spaces, or \\t in a string".to_owned());
        }
        if line.ends_with([' ', '\t', '\r']) {
            find(at + 1, "trailing-space", "white space at the end of the line".to_owned());
        }
        if path.ends_with(".md") {
            let broken = links(line).filter_map(|link| target(path, link)).filter(|link| !exists(link));
            broken.for_each(|link| find(at + 1, "dead-link", format!("the link to {link} leads nowhere")));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        find(text.lines().count(), "final-line-end", "the last line has no end".to_owned());
    }
    findings
}

/// Targets of `[text](target)` in a line of Markdown.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
}

/// The path from the root that a link in the document at `path` means; `None` for other sites and places on the page.
fn target(path: &str, link: &str) -> Option<String> {
    let link = link.split(['#', ' ']).next().filter(|link| !link.is_empty())?;
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
