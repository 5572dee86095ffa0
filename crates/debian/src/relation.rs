//! Relations between packages (Debian Policy section 7): `a (>= 1) | b:any [amd64] <!cross>, c`.
//!
//! A field is parsed to groups of alternatives; each alternative tells whether a name and version satisfies it.
//! Architecture and profile restrictions occur in source packages only and are parsed over.

use std::cmp::Ordering;

use crate::version;

/// Comparison operators of Debian Policy section 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=` and the obsolete `<`
    EarlierEqual,
    /// `=`
    Equal,
    /// `>=` and the obsolete `>`
    LaterEqual,
    /// `>>`
    Later,
}

/// One alternative of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Name of a real or virtual package.
    pub name: String,
    /// The qualifier after a colon: `any`, `native` or an architecture.
    pub arch: Option<String>,
    /// The version it must have.
    pub version: Option<(Operator, String)>,
}

impl Relation {
    /// Whether a version satisfies this relation.
    pub fn accepts(&self, version: &str) -> bool {
        let Some((operator, wanted)) = &self.version else { return true };
        let order = version::compare(version, wanted);
        match operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }

    /// Whether the qualifier can be satisfied by a package installed for `arch`.
    pub fn is_for(&self, arch: &str) -> bool {
        self.arch.as_deref().is_none_or(|qualifier| matches!(qualifier, "any" | "native") || qualifier == arch)
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if let Some(arch) = &self.arch {
            write!(f, ":{arch}")?;
        }
        if let Some((operator, version)) = &self.version {
            let operator = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterEqual => ">=",
                Operator::Later => ">>",
            };
            write!(f, " ({operator} {version})")?;
        }
        Ok(())
    }
}

/// Alternatives, of which one must be satisfied.
pub type Group = Vec<Relation>;

/// Parses a field; `None` if any part of it is malformed.
pub fn parse(field: &str) -> Option<Vec<Group>> {
    field
        .split(',')
        .filter(|group| !group.trim().is_empty())
        .map(|group| group.split('|').map(parse_one).collect())
        .collect()
}

fn parse_one(text: &str) -> Option<Relation> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (name, arch) = match name.split_once(':') {
        Some((name, arch)) => (name, Some(arch.to_owned())),
        None => (name, None),
    };
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
    if !valid {
        return None;
    }
    let version = match rest.trim_start().strip_prefix('(') {
        Some(inner) => Some(parse_version(inner.split_once(')')?.0.trim())?),
        None => None,
    };
    Some(Relation { name: name.to_owned(), arch, version })
}

fn parse_version(text: &str) -> Option<(Operator, String)> {
    let end = text.find(|c| !"<>=".contains(c))?;
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterEqual,
        ">>" => Operator::Later,
        _ => return None,
    };
    let version = version.trim();
    (!version.is_empty()).then(|| (operator, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        fn check(field: &str, expected: Option<&str>) {
            let got = parse(field).map(|groups| {
                let groups: Vec<_> = groups
                    .iter()
                    .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
                    .collect();
                groups.join(", ")
            });
            assert_eq!(got.as_deref(), expected, "{field}");
        }
        check("", Some(""));
        check("libc6", Some("libc6"));
        check("libc6 (>= 2.34), adduser", Some("libc6 (>= 2.34), adduser"));
        check("gpgv|gpgv2 | gpgv1,\n x", Some("gpgv | gpgv2 | gpgv1, x"));
        check("perl:any (>>5)", Some("perl:any (>> 5)"));
        check("a(<<1~)", Some("a (<< 1~)"));
        check("a (< 1)", Some("a (<= 1)"));
        check("a [amd64] <!cross>", Some("a"));
        check("a (", None);
        check("a (>= )", None);
        check("a (~ 1)", None);
        check("-a", None);
        check("a ||b", None);
    }

    #[test]
    fn accepts_versions() {
        fn check(relation: &str, version: &str, expected: bool) {
            let relation = parse(relation).unwrap().remove(0).remove(0);
            assert_eq!(relation.accepts(version), expected, "{relation} {version}");
        }
        check("a", "0", true);
        check("a (>= 1)", "1", true);
        check("a (>= 1)", "1~", false);
        check("a (>> 1)", "1", false);
        check("a (= 1)", "1-0", true);
        check("a (<= 1)", "1.1", false);
        check("a (<< 2)", "1.1", true);
    }
}
