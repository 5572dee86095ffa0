//! What stands on the host and belongs to no record: what a crash, or somebody's hand, left behind.
//!
//! A daemon that starts removes what it finds of its own root, so that as a rule there is nothing. Read only: nothing is
//! removed here. What is on its way in or out just now is seen by a second look.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_sys::cgroup::{Cgroup, Layout};
use atoll_sys::netlink::{self, Protocol, Socket, nft, route};

use crate::engine::RUN_FOLDERS;
use crate::{Engine, Error, host, runtime};

/// Time until the second look.
const AGAIN: Duration = Duration::from_millis(500);
/// How the host's ends of workloads' interfaces begin; part of the workload's id follows.
const VETH: &str = "av";
/// How names of bridges and tables begin; part of a root's id follows.
const BRIDGE: &str = "atl-";
const TABLE: &str = "atoll-";
const RESTART: &str = "restart the daemon: it deletes what belongs to no record";

/// Something that no record knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leftover {
    /// What it is.
    pub what: String,
    /// How it goes away.
    pub advice: String,
    /// Whether it may be another root's, which nothing here knows of.
    pub may_be_anothers: bool,
}

impl Leftover {
    fn ours(what: String, advice: impl Into<String>) -> Self {
        Self { what, advice: advice.into(), may_be_anothers: false }
    }

    fn anothers(what: String, advice: impl Into<String>) -> Self {
        Self { what, advice: advice.into(), may_be_anothers: true }
    }
}

impl Engine {
    /// What stands on the host and belongs to no record.
    ///
    /// # Errors
    /// When a folder of the state cannot be read.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let first = self.look_for_leftovers().await?;
        if first.is_empty() {
            return Ok(first);
        }
        tokio::time::sleep(AGAIN).await;
        let first: HashSet<Leftover> = first.into_iter().collect();
        Ok(self.look_for_leftovers().await?.into_iter().filter(|found| first.contains(found)).collect())
    }

    async fn look_for_leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let engine = self.clone();
        host::blocking(move || {
            let mut found = engine.leftover_mounts();
            found.extend(engine.leftover_groups());
            // Without the right to look there is nothing to say; the host's own check says that.
            found.extend(engine.leftover_links().unwrap_or_default());
            found.extend(engine.leftover_folders()?);
            found.extend(engine.without_supervisor()?);
            Ok(found)
        })
        .await
    }

    fn ids(&self) -> HashSet<String> {
        self.entries().iter().map(|entry| entry.id.to_string()).collect()
    }

    fn leftover_mounts(&self) -> Vec<Leftover> {
        let settings = &self.shared.settings;
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let whole = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let found = mounts_below(&text, &[whole(&settings.root), whole(&settings.run)]);
        // What somebody mounted for a volume is theirs.
        let volumes = whole(&settings.root).join("volumes");
        let ours = found.into_iter().filter(|point| !point.starts_with(&volumes));
        ours.map(|point| {
            let point = point.display();
            Leftover::ours(format!("something is mounted at {point}"), format!("umount {point}"))
        })
        .collect()
    }

    fn leftover_groups(&self) -> Vec<Leftover> {
        let Ok(layout) = Layout::read() else { return Vec::new() };
        let Ok(parent) = Cgroup::at(&layout, &self.info().cgroup_parent, "") else { return Vec::new() };
        let (known, mut found) = (self.ids(), Vec::new());
        for folder in parent.hierarchies().map(|(_, folder)| folder).chain(parent.unified()) {
            for name in folders_in(folder).into_iter().filter(|name| !known.contains(name)) {
                let path = folder.join(name);
                let path = path.display();
                found.push(Leftover::ours(
                    format!("control group {path} belongs to no container"),
                    format!("rmdir {path}"),
                ));
            }
        }
        found
    }

    /// Interfaces and tables of the packet filter.
    fn leftover_links(&self) -> Result<Vec<Leftover>, netlink::Error> {
        let links = route::links(&mut Socket::open(Protocol::Route)?)?;
        let chains = nft::base_chains(&mut Socket::open(Protocol::Netfilter)?)?;
        let tables = chains.into_iter().map(|chain| chain.table).filter(|table| table.starts_with(TABLE)).collect();
        Ok(links_without_record(&links, tables, &self.info().id, &self.ids()))
    }

    fn leftover_folders(&self) -> Result<Vec<Leftover>, Error> {
        let settings = &self.shared.settings;
        let ids = self.ids();
        let volumes: HashSet<String> = self.volumes().into_iter().map(|view| view.volume.name).collect();
        let mut found = Vec::new();
        for (folder, known, of) in [
            (settings.root.join("workloads"), &ids, "container"),
            (settings.root.join("store/roots"), &ids, "container"),
            (settings.run.join(RUN_FOLDERS), &ids, "container"),
            (settings.root.join("volumes"), &volumes, "volume"),
        ] {
            for name in folders_in(&folder).into_iter().filter(|name| !known.contains(name)) {
                let path = folder.join(name);
                let lives = of == "container" && runtime::live_process(&path)?.is_some();
                let what = if lives { ", and its processes live" } else { "" };
                found.push(Leftover::ours(format!("folder {} belongs to no {of}{what}", path.display()), RESTART));
            }
        }
        Ok(found)
    }

    /// Workloads that run by their records and have nobody who watches over them.
    fn without_supervisor(&self) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        for entry in self.entries().into_iter().filter(|entry| entry.phase().is_live()) {
            if runtime::live_process(&self.run_folder(&entry.id))?.is_none() {
                let what = format!("container {} runs by its record, and no process of it is there", entry.id.short());
                found.push(Leftover::ours(what, "restart the daemon: it records how the container ended"));
            }
        }
        Ok(found)
    }
}

/// Mount points below folders, not those folders themselves (proc(5), mountinfo).
fn mounts_below(mountinfo: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let unescaped =
        |text: &str| PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points.filter(|point| folders.iter().any(|folder| point != folder && point.starts_with(folder))).collect()
}

/// Interfaces of workloads that are not there, and networks of roots other than `root`.
fn links_without_record(
    links: &[route::Link],
    tables: HashSet<String>,
    root: &str,
    ids: &HashSet<String>,
) -> Vec<Leftover> {
    let mut found = Vec::new();
    let bridges = |link: &&route::Link| link.kind == "bridge" && link.name.starts_with(BRIDGE);
    let own = |name: &str| name.strip_prefix(BRIDGE).is_some_and(|id| !id.is_empty() && root.starts_with(id));
    for bridge in links.iter().filter(bridges) {
        if !own(&bridge.name) {
            let what = format!("bridge {} is of another root of Atoll", bridge.name);
            found.push(Leftover::anothers(
                what,
                format!("where there is no such root any more: ip link del {}", bridge.name),
            ));
            continue;
        }
        for port in links.iter().filter(|link| link.master == Some(bridge.index)) {
            let is_known = port.name.strip_prefix(VETH).is_some_and(|id| ids.iter().any(|known| known.starts_with(id)));
            if !is_known {
                let what = format!("interface {} on bridge {} belongs to no container", port.name, bridge.name);
                found.push(Leftover::ours(what, format!("ip link del {}", port.name)));
            }
        }
    }
    let mut tables: Vec<_> = tables.into_iter().filter(|table| table.strip_prefix(TABLE) != Some(root)).collect();
    tables.sort();
    found.extend(tables.into_iter().map(|table| {
        let advice = format!("where there is no such root any more: nft delete table inet {table}");
        Leftover::anothers(format!("table {table} of the packet filter is of another root of Atoll"), advice)
    }));
    found
}

/// The names of folders in a folder; none where it is not there.
fn folders_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_our_folders_are_found() {
        let text = "36 35 98:0 / /var/lib/atoll rw - ext4 /dev/sdb rw\n\
                    37 36 0:1 / /var/lib/atoll/store/roots/a\\040b rw - overlay overlay rw\n\
                    38 35 0:2 / /var/lib/atoll-two rw - tmpfs tmpfs rw\n\
                    39 35 0:3 / /run/atoll/w/1 rw - tmpfs tmpfs rw\n";
        let folders = ["/var/lib/atoll", "/run/atoll"].map(PathBuf::from);
        let found = mounts_below(text, &folders);
        assert_eq!(found, ["/var/lib/atoll/store/roots/a b", "/run/atoll/w/1"].map(PathBuf::from));
    }

    #[test]
    fn interfaces_and_tables_that_no_record_knows_are_found() {
        let link = |index, name: &str, kind: &str, master| route::Link {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            master,
            ..route::Link::default()
        };
        let links = [
            link(1, "lo", "", None),
            link(2, "atl-0a1b2c3d", "bridge", None),
            link(3, "avaaaaaaaaaaaa", "veth", Some(2)),
            link(4, "avbbbbbbbbbbbb", "veth", Some(2)),
            link(5, "atl-99999999", "bridge", None),
            link(6, "avcccccccccccc", "veth", Some(5)),
        ];
        let ids = HashSet::from(["a".repeat(64)]);
        let tables = HashSet::from(["atoll-0a1b2c3d".to_owned(), "atoll-99999999".to_owned()]);
        let found = links_without_record(&links, tables, "0a1b2c3d", &ids);
        let words: Vec<_> = found.iter().map(|one| (one.what.as_str(), one.may_be_anothers)).collect();
        assert_eq!(
            words,
            [
                ("interface avbbbbbbbbbbbb on bridge atl-0a1b2c3d belongs to no container", false),
                ("bridge atl-99999999 is of another root of Atoll", true),
                ("table atoll-99999999 of the packet filter is of another root of Atoll", true),
            ]
        );
    }
}
