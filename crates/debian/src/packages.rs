//! Package indices (`Packages` of one architecture): which packages a suite has, by real and by virtual name.
//!
//! The text is walked once to note where each paragraph lies and which names it provides; a package is parsed in full only
//! when the resolver asks for it. Left out: descriptions, tags, MD5, everything that choosing packages does not need.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::control::{self, Paragraph};
use crate::relation::{self, Group, Relation};
use crate::release::{FileEntry, is_sha256};
use crate::version;

/// No index may hold more packages than this (sid has about 70,000).
pub const PACKAGES_MAX: usize = 500_000;
/// No package may be larger than this.
pub const DEB_MAX: u64 = 4 << 30;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A paragraph lacks a field or has one that cannot be read.
    #[error("package {package} in the mirror's index has no usable field {field}")]
    Field {
        /// Name of the package, or `?`.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// There are more than [`PACKAGES_MAX`].
    #[error("the mirror's index lists more than {PACKAGES_MAX} packages")]
    TooMany,
    /// The index is not UTF-8 text.
    #[error("the mirror's index is not text")]
    NotText,
}

/// How strongly a package belongs to a Debian system (Debian Policy section 2.5); stronger is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// `required`
    Required,
    /// `important`
    Important,
    /// `standard`
    Standard,
    /// Everything else.
    Optional,
}

/// A name that a package provides, with its version where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The virtual name.
    pub name: String,
    /// The version after `=`.
    pub version: Option<String>,
}

/// What a package wants of others.
#[derive(Debug, Clone, Default)]
pub struct Relations {
    /// `Pre-Depends` followed by `Depends`.
    pub needs: Vec<Group>,
    /// `Conflicts` followed by `Breaks`.
    pub against: Vec<Relation>,
    /// `Provides`.
    pub provides: Vec<Provided>,
}

/// One binary package.
#[derive(Debug, Clone)]
pub struct Package {
    /// `Package`
    pub name: String,
    /// `Version`
    pub version: String,
    /// `Architecture`
    pub architecture: String,
    /// `Essential: yes`
    pub essential: bool,
    /// `Priority`
    pub priority: Priority,
    /// Dependencies and the like.
    pub relations: Relations,
    /// `Filename`, below the mirror's root.
    pub path: String,
    /// `Size` and `SHA256`.
    pub file: FileEntry,
}

impl Package {
    fn parse(paragraph: Paragraph<'_>) -> Result<Self, Error> {
        let name = paragraph.get("Package").unwrap_or("?");
        let wrong = |field| Error::Field { package: name.to_owned(), field };
        let field = |field| paragraph.get(field).filter(|value| !value.is_empty()).ok_or_else(|| wrong(field));
        let groups = |field| relation::parse(paragraph.get(field).unwrap_or_default()).ok_or_else(|| wrong(field));
        let mut needs = groups("Pre-Depends")?;
        needs.extend(groups("Depends")?);
        let mut against = groups("Conflicts")?.concat();
        against.extend(groups("Breaks")?.concat());
        let provides = groups("Provides")?
            .concat()
            .into_iter()
            .map(|relation| Provided { name: relation.name, version: relation.version.map(|(_, version)| version) })
            .collect();
        let path = field("Filename")?;
        let size = field("Size")?.parse().ok().filter(|size| *size <= DEB_MAX).ok_or_else(|| wrong("Size"))?;
        let sha256 = field("SHA256")?;
        if !is_safe_path(path) {
            return Err(wrong("Filename"));
        }
        if !is_sha256(sha256) {
            return Err(wrong("SHA256"));
        }
        if !is_package_name(name) {
            return Err(wrong("Package"));
        }
        Ok(Self {
            name: name.to_owned(),
            version: field("Version")?.to_owned(),
            architecture: field("Architecture")?.to_owned(),
            essential: paragraph.get("Essential") == Some("yes"),
            priority: priority(paragraph.get("Priority")),
            relations: Relations { needs, against, provides },
            path: path.to_owned(),
            file: FileEntry { size, sha256: sha256.to_owned() },
        })
    }
}

fn priority(text: Option<&str>) -> Priority {
    match text {
        Some("required") => Priority::Required,
        Some("important") => Priority::Important,
        Some("standard") => Priority::Standard,
        _ => Priority::Optional,
    }
}

/// Whether a path from the index stays below the mirror's root and can stand in an URL as it is.
fn is_safe_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~:/%".contains(&byte);
    path.bytes().all(plain) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Names of packages (Debian Policy section 5.6.1), which become file names in the image.
pub fn is_package_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

/// Position of a package in its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(usize);

/// A parsed `Packages` file.
#[derive(Debug)]
pub struct Index {
    text: String,
    paragraphs: Vec<(usize, usize)>,
    by_name: HashMap<String, PackageId>,
    by_provided: HashMap<String, Vec<PackageId>>,
    base: Vec<PackageId>,
}

impl Index {
    /// Notes names and places of all packages. Of several versions of one name the highest stays.
    pub fn parse(text: String) -> Result<Self, Error> {
        let mut index = Self {
            paragraphs: Vec::new(),
            by_name: HashMap::new(),
            by_provided: HashMap::new(),
            base: Vec::new(),
            text: String::new(),
        };
        for range in control::ranges(&text) {
            if index.paragraphs.len() == PACKAGES_MAX {
                return Err(Error::TooMany);
            }
            let paragraph = Paragraph::new(&text[range.0..range.1]);
            let id = PackageId(index.paragraphs.len());
            let mut name = None;
            let mut provides = "";
            let mut version = "";
            let mut in_base = false;
            for (field, value) in paragraph.fields() {
                match field {
                    "Package" => name = Some(value),
                    "Version" => version = value,
                    "Provides" => provides = value,
                    "Essential" => in_base |= value == "yes",
                    "Priority" => in_base |= value == "required",
                    _ => {}
                }
            }
            let name = name.ok_or_else(|| Error::Field { package: "?".to_owned(), field: "Package" })?;
            if let Some(other) = index.by_name.get(name) {
                let (start, end) = index.paragraphs[other.0];
                let other = Paragraph::new(&text[start..end]).get("Version").unwrap_or_default();
                if version::compare(other, version) != Ordering::Less {
                    continue;
                }
            }
            index.paragraphs.push(range);
            index.by_name.insert(name.to_owned(), id);
            let provided = relation::parse(provides)
                .ok_or_else(|| Error::Field { package: name.to_owned(), field: "Provides" })?;
            for relation in provided.into_iter().flatten() {
                index.by_provided.entry(relation.name).or_default().push(id);
            }
            if in_base {
                index.base.push(id);
            }
        }
        index.text = text;
        Ok(index)
    }

    /// How many packages there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The package with this real name.
    pub fn find(&self, name: &str) -> Option<PackageId> {
        self.by_name.get(name).copied()
    }

    /// The packages that provide this virtual name, in the order of the index.
    pub fn providers(&self, name: &str) -> impl Iterator<Item = PackageId> + '_ {
        self.by_provided.get(name).into_iter().flatten().copied().filter(|id| self.is_current(*id))
    }

    /// The packages that are essential or of priority `required`, in the order of the index.
    pub fn base(&self) -> impl Iterator<Item = PackageId> + '_ {
        self.base.iter().copied().filter(|id| self.is_current(*id))
    }

    /// The package in full.
    pub fn package(&self, id: PackageId) -> Result<Package, Error> {
        Package::parse(self.paragraph(id))
    }

    /// The package's own control data.
    pub fn paragraph(&self, id: PackageId) -> Paragraph<'_> {
        let (start, end) = self.paragraphs[id.0];
        Paragraph::new(&self.text[start..end])
    }

    /// Real names that are close to a mistyped one, best first, for an error message.
    pub fn similar(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = self
            .by_name
            .keys()
            .map(String::as_str)
            .filter(|other| {
                other.len().abs_diff(name.len()) <= 2
                    && (other.contains(name) || name.contains(other) || one_edit(name, other))
            })
            .collect();
        found.sort_unstable();
        found.truncate(3);
        found
    }

    /// Whether no higher version of the same package replaced this one.
    fn is_current(&self, id: PackageId) -> bool {
        self.paragraph(id).get("Package").and_then(|name| self.find(name)) == Some(id)
    }
}

/// Whether two names differ in one letter added, left out, changed, or two neighbours swapped.
fn one_edit(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let start = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (l, r) = (&left[start..], &right[start..]);
    let end = l.iter().rev().zip(r.iter().rev()).take_while(|(a, b)| a == b).count();
    let (l, r) = (&l[..l.len() - end], &r[..r.len() - end]);
    (l.len() <= 1 && r.len() <= 1) || (l.len() == 2 && r.len() == 2 && l[0] == r[1] && l[1] == r[0])
}
