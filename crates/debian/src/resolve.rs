//! The dependency resolver: from wanted packages to everything that must be unpacked with them.
//!
//! Wanted packages are taken first, then each `Pre-Depends` and `Depends` group is met by a package that is already chosen,
//! else by its first alternative that can be (real names before providers, providers by priority and name). It is greedy
//! and never goes back, so that the same index and wishes give the same list; a contradiction among the chosen is an error.
//! Left out: `Recommends`, removal and upgrades, foreign architectures.

use std::collections::BTreeMap;

use crate::packages::{self, Index, Package, PackageId};
use crate::relation::{Group, Relation};

/// No image may be made of more packages than this.
pub const CHOSEN_MAX: usize = 5_000;

/// Why no set of packages was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wanted package is not in the suite.
    #[error("package {name} is not in the suite{hint}")]
    NoSuchPackage {
        /// The name asked for.
        name: String,
        /// `: did you mean …?` or nothing.
        hint: String,
    },
    /// A virtual package was asked for.
    #[error("package {name} is virtual: name one that provides it: {providers}")]
    Virtual {
        /// The name asked for.
        name: String,
        /// Names of its providers.
        providers: String,
    },
    /// No package satisfies a dependency.
    #[error("package {package} needs {relation}, which the suite cannot satisfy")]
    Unsatisfiable {
        /// Who needs it.
        package: String,
        /// The whole group of alternatives.
        relation: String,
    },
    /// Two chosen packages exclude each other.
    #[error(
        "packages {package} and {other} cannot be installed together ({package} conflicts with {relation}): leave one out"
    )]
    Conflict {
        /// Who objects.
        package: String,
        /// To whom.
        other: String,
        /// By which relation.
        relation: String,
    },
    /// More than [`CHOSEN_MAX`] packages are needed.
    #[error("the wanted packages need more than {CHOSEN_MAX} others")]
    TooMany,
    /// The index itself is broken.
    #[error(transparent)]
    Packages(#[from] packages::Error),
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// Debian's name of the architecture.
    pub arch: &'a str,
    /// Essential packages and those of priority `required` too.
    pub base: bool,
    /// Real names of further packages.
    pub include: &'a [String],
    /// Among alternatives that nothing else decides, these names win.
    pub prefer: &'a [&'a str],
}

/// The chosen packages, sorted by name.
pub type Chosen = BTreeMap<String, (PackageId, Package)>;

/// Finds the packages that satisfy the wishes.
pub fn resolve(index: &Index, wishes: Wishes<'_>) -> Result<Chosen, Error> {
    let mut resolver = Resolver { index, wishes, chosen: BTreeMap::new(), queue: Vec::new() };
    if wishes.base {
        for id in index.base() {
            resolver.choose(id)?;
        }
    }
    for name in wishes.include {
        let id = index.find(name).ok_or_else(|| no_such_package(index, name))?;
        resolver.choose(id)?;
    }
    resolver.run()?;
    check_conflicts(&resolver.chosen, wishes.arch)?;
    Ok(resolver.chosen)
}

fn no_such_package(index: &Index, name: &str) -> Error {
    let providers: Vec<_> =
        index.providers(name).filter_map(|id| index.paragraph(id).get("Package")).map(str::to_owned).collect();
    if !providers.is_empty() {
        return Error::Virtual { name: name.to_owned(), providers: providers.join(", ") };
    }
    let similar = index.similar(name);
    let hint = if similar.is_empty() { String::new() } else { format!(": did you mean {}?", similar.join(" or ")) };
    Error::NoSuchPackage { name: name.to_owned(), hint }
}

struct Resolver<'a> {
    index: &'a Index,
    wishes: Wishes<'a>,
    chosen: Chosen,
    /// Chosen packages whose needs were not looked at yet, in order of choice.
    queue: Vec<String>,
}

impl Resolver<'_> {
    fn choose(&mut self, id: PackageId) -> Result<(), Error> {
        let package = self.index.package(id)?;
        if self.chosen.len() == CHOSEN_MAX {
            return Err(Error::TooMany);
        }
        let name = package.name.clone();
        if self.chosen.insert(name.clone(), (id, package)).is_none() {
            self.queue.push(name);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut at = 0;
        while at < self.queue.len() {
            let name = self.queue[at].clone();
            let needs = self.chosen[&name].1.relations.needs.clone();
            for group in needs {
                self.satisfy(&name, &group)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// Chooses a package for a group unless one is chosen that satisfies it.
    fn satisfy(&mut self, package: &str, group: &Group) -> Result<(), Error> {
        let arch = self.wishes.arch;
        let met =
            group.iter().any(|relation| self.chosen.values().any(|(_, chosen)| satisfies(chosen, relation, arch)));
        if met {
            return Ok(());
        }
        let mut candidates = Vec::new();
        for relation in group {
            candidates.extend(self.candidates(relation)?);
        }
        let preferred = |candidate: &Package| self.wishes.prefer.contains(&candidate.name.as_str());
        let fits = |candidate: &Package| !self.chosen.values().any(|(_, chosen)| exclude(chosen, candidate, arch));
        let position = candidates
            .iter()
            .position(|(_, candidate)| preferred(candidate) && fits(candidate))
            .or_else(|| candidates.iter().position(|(_, candidate)| fits(candidate)))
            .or(if candidates.is_empty() { None } else { Some(0) });
        match position {
            Some(at) => self.choose(candidates[at].0),
            None => {
                let relation = group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
                Err(Error::Unsatisfiable { package: package.to_owned(), relation })
            }
        }
    }

    /// Packages that satisfy one alternative: the real one first, then providers by priority and name.
    fn candidates(&self, relation: &Relation) -> Result<Vec<(PackageId, Package)>, Error> {
        let mut found = Vec::new();
        for id in self.index.providers(&relation.name) {
            let package = self.index.package(id)?;
            if package.name != relation.name && satisfies(&package, relation, self.wishes.arch) {
                found.push((id, package));
            }
        }
        found.sort_by(|(_, a), (_, b)| a.priority.cmp(&b.priority).then_with(|| a.name.cmp(&b.name)));
        if let Some(id) = self.index.find(&relation.name) {
            let package = self.index.package(id)?;
            if satisfies(&package, relation, self.wishes.arch) {
                found.insert(0, (id, package));
            }
        }
        Ok(found)
    }
}

/// Whether a package, by its own name or a name it provides, satisfies a relation.
fn satisfies(package: &Package, relation: &Relation, arch: &str) -> bool {
    if !relation.is_for(arch) {
        return false;
    }
    if package.name == relation.name && relation.accepts(&package.version) {
        return true;
    }
    package.relations.provides.iter().any(|provided| {
        provided.name == relation.name
            && match (&relation.version, &provided.version) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), Some(version)) => relation.accepts(version),
            }
    })
}

/// The relation by which `left` excludes `right`, if any. A package never excludes itself.
fn objection<'a>(left: &'a Package, right: &Package, arch: &str) -> Option<&'a Relation> {
    let others = left.name != right.name;
    left.relations.against.iter().find(|relation| others && satisfies(right, relation, arch))
}

fn exclude(left: &Package, right: &Package, arch: &str) -> bool {
    objection(left, right, arch).is_some() || objection(right, left, arch).is_some()
}

fn check_conflicts(chosen: &Chosen, arch: &str) -> Result<(), Error> {
    for (_, package) in chosen.values() {
        for (_, other) in chosen.values() {
            if let Some(relation) = objection(package, other, arch) {
                return Err(Error::Conflict {
                    package: package.name.clone(),
                    other: other.name.clone(),
                    relation: relation.to_string(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an index from `name version; Field: value; …` lines.
    fn index(lines: &str) -> Index {
        let mut text = String::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut parts = line.split(';');
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {}\n",
                "a".repeat(64)
            );
            for field in parts {
                text += field.trim();
                text += "\n";
            }
            text += "\n";
        }
        Index::parse(text).unwrap()
    }

    fn run(lines: &str, include: &str, base: bool) -> Result<String, Error> {
        let include: Vec<String> = include.split_ascii_whitespace().map(str::to_owned).collect();
        let wishes = Wishes { arch: "amd64", base, include: &include, prefer: &["liked"] };
        resolve(&index(lines), wishes).map(|chosen| chosen.into_keys().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn resolves() {
        fn check(lines: &str, include: &str, expected: &str) {
            assert_eq!(run(lines, include, false).unwrap(), expected, "{lines}");
        }
        check("aa 1", "aa", "aa");
        check("aa 1; Depends: bb\nbb 1; Pre-Depends: cc\ncc 1\ndd 1", "aa", "aa bb cc");
        check("aa 1; Depends: bb (>= 2) | cc\nbb 1\ncc 1", "aa", "aa cc");
        check("aa 1; Depends: bb | cc\nbb 1\ncc 1", "aa", "aa bb");
        check("aa 1; Depends: bb | cc\nbb 1\ncc 1", "aa cc", "aa cc");
        check("aa 1; Depends: bb | liked\nbb 1\nliked 1", "aa", "aa liked");
        check("aa 1; Depends: vv\nbb 1; Provides: vv\ncc 1; Provides: vv; Priority: required", "aa", "aa cc");
        check("aa 1; Depends: vv\nzz 1; Provides: vv\ncc 1; Provides: vv", "aa", "aa cc");
        check("aa 1; Depends: vv (>= 2)\nbb 1; Provides: vv\ncc 1; Provides: vv (= 2)", "aa", "aa cc");
        check("aa 1; Depends: vv\nvv 1\ncc 1; Provides: vv", "aa", "aa vv");
        check("aa 1; Depends: bb:any, cc:amd64\nbb 1\ncc 1", "aa", "aa bb cc");
        check("aa 1; Depends: bb\nbb 1; Depends: aa", "aa", "aa bb");
        check("aa 1; Depends: bb (= 2)\nbb 1\nbb 2", "aa", "aa bb");
        check("aa 1; Depends: bb (= 2)\nbb 2\nbb 1", "aa", "aa bb");
        check("aa 1; Depends: bb | cc; Conflicts: bb\nbb 1\ncc 1", "aa", "aa cc");
        check("aa 1; Provides: vv; Conflicts: vv", "aa", "aa");
        check("aa 1; Breaks: bb (<< 1)\nbb 1", "aa bb", "aa bb");
    }

    #[test]
    fn takes_the_base() {
        let lines = "aa 1; Essential: yes; Depends: bb\nbb 1\ncc 1; Priority: required\ndd 1\nee 1";
        assert_eq!(run(lines, "ee", true).unwrap(), "aa bb cc ee");
    }

    #[test]
    fn refuses() {
        fn check(lines: &str, include: &str, expected: &str) {
            let error = run(lines, include, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("curl 1", "crul", "package crul is not in the suite: did you mean curl?");
        check("aa 1", "quite-other", "package quite-other is not in the suite");
        check("aa 1; Provides: vv", "vv", "name one that provides it: aa");
        check("aa 1; Depends: bb | cc:arm64\ncc 1", "aa", "package aa needs bb | cc:arm64");
        check("aa 1; Depends: bb (>> 2)\nbb 2", "aa", "package aa needs bb (>> 2)");
        check("aa 1; Conflicts: bb\nbb 1", "aa bb", "packages aa and bb cannot");
        check("aa 1; Breaks: vv\nbb 1; Provides: vv", "aa bb", "packages aa and bb cannot");
        check("aa 1; Depends: (", "aa", "field Depends");
        check("aa 1; Filename: ../x", "bb aa", "is not in the suite");
    }

    #[test]
    fn refuses_hostile_paragraphs() {
        fn check(text: &str, expected: &str) {
            let index = Index::parse(text.to_owned()).unwrap();
            let error = index.package(index.find("aa").unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let good = format!(
            "Package: aa\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 1\nSHA256: {}\n",
            "a".repeat(64)
        );
        check(&good.replace("pool/a.deb", "../a.deb"), "field Filename");
        check(&good.replace("pool/a.deb", "/a.deb"), "field Filename");
        check(&good.replace("pool/a.deb", "a b"), "field Filename");
        check(&good.replace("Size: 1", "Size: -1"), "field Size");
        check(&good.replace("Size: 1", "Size: 99999999999999"), "field Size");
        check(&good.replace("aaaa", "AAAA"), "field SHA256");
        check(&good.replace("Version: 1", "Version:"), "field Version");
        assert!(Index::parse("Version: 1\n".to_owned()).is_err());
    }
}
