//! Which hierarchies the host has and where the caller is in them.
//!
//! Pure: text of `/proc/self/mountinfo` and `/proc/self/cgroup` in, folders out (cgroups(7), proc(5)).

use std::io;
use std::path::{Path, PathBuf};

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its controllers in version 1, as `/proc/self/cgroup` has them; empty for version 2.
    pub(super) controllers: String,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The caller's own group, below `mount`.
    pub(super) own: PathBuf,
}

/// The hierarchies of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub(super) v1: Vec<Hierarchy>,
    pub(super) v2: Option<Hierarchy>,
}

impl Layout {
    /// Reads the host's.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn read() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&mounts, &std::fs::read_to_string("/proc/self/cgroup")?))
    }

    /// Whether version 2 alone is in use.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    /// From the text of both files.
    #[must_use]
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut layout = Self::default();
        let mounts: Vec<_> = mountinfo.lines().filter_map(parse_mount).collect();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let found = mounts.iter().find(|mount| {
                if controllers.is_empty() {
                    mount.typ == "cgroup2"
                } else {
                    // Every controller of the line is an option of its mount.
                    mount.typ == "cgroup"
                        && controllers.split(',').all(|name| mount.options.split(',').any(|option| option == name))
                }
            });
            let Some(mount) = found else { continue };
            let below = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
            let hierarchy = Hierarchy {
                controllers: controllers.to_owned(),
                mount: mount.point.clone(),
                own: mount.point.join(below),
            };
            if controllers.is_empty() {
                layout.v2 = Some(hierarchy);
            } else {
                layout.v1.push(hierarchy);
            }
        }
        layout
    }
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
    typ: String,
    options: String,
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    let (typ, options) = (after.next()?, after.nth(1)?);
    if typ != "cgroup" && typ != "cgroup2" {
        return None;
    }
    let path = |text: &str| PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
    Some(Mount { root: path(before.next()?), point: path(before.next()?), typ: typ.into(), options: options.into() })
}
