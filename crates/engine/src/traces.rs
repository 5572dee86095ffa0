//! What of a root is on the host outside of its folders: noted in the run folder, which is gone when they are, at a reboot.
//!
//! A reset finds its way by this although the metadata is broken; nothing else reads it.

use std::path::Path;

use atoll_net::{Network, POOLS};
use atoll_sys::cgroup::{Cgroup, Layout};
use serde::{Deserialize, Serialize};

use crate::{Error, Info, host};

/// Name of the note.
pub(crate) const TRACES: &str = "traces.json";

/// What names of ours on the host derive from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Traces {
    /// The root's identifier.
    id: String,
    /// The control groups below which workloads have theirs, as [`Cgroup`] writes itself; none where there are none, and
    /// where somebody else chose the place.
    cgroup: Option<String>,
    /// Whether an ordinary user runs the engine, which has no networks on the host then.
    rootless: bool,
}

impl Traces {
    /// Notes them.
    pub(crate) fn note(run: &Path, info: &Info) -> Result<(), Error> {
        let parent = info.cgroup_parent.as_str();
        let is_ours = parent.rsplit('/').next() == Some(format!("atoll-{}", info.id).as_str());
        let layout = Layout::read().map_err(Error::host("reading where control groups are"))?;
        // A host without control groups has none of ours.
        let cgroup = is_ours.then(|| Cgroup::at(&layout, parent, "").ok()).flatten();
        let traces =
            Self { id: info.id.clone(), cgroup: cgroup.map(|cgroup| cgroup.to_string()), rootless: info.rootless };
        let text = serde_json::to_vec(&traces).expect("plain data");
        host::write_file(&run.join(TRACES), &text)
    }

    /// Reads the note; none where no engine has been since the host came up.
    pub(crate) fn read(run: &Path) -> Result<Option<Self>, Error> {
        let path = run.join(TRACES);
        let doing = || Error::host(format!("reading {}", path.display()));
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| doing()(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(doing()(error)),
        }
    }

    /// Kills what is left in the control groups and removes them.
    pub(crate) fn remove_cgroups(&self) -> Result<(), Error> {
        let Some(text) = &self.cgroup else { return Ok(()) };
        let work = || -> Result<(), String> {
            let parent: Cgroup = text.parse().map_err(|error| format!("{error}"))?;
            let below: Vec<String> =
                parent.hierarchies().map(|(_, folder)| folder).chain(parent.unified()).flat_map(names).collect();
            for name in below {
                // The recorded group, one folder further down in each hierarchy.
                let child: Cgroup = below_each(text, &name).parse().map_err(|error| format!("{error}"))?;
                child.kill().map_err(|error| error.to_string())?;
            }
            parent.remove().map_err(|error| error.to_string())
        };
        work().map_err(|said| Error::host("removing control groups")(std::io::Error::other(said)))
    }

    /// Removes the bridge and the packet filter.
    pub(crate) fn remove_networks(&self) -> Result<(), Error> {
        if self.rootless {
            return Ok(());
        }
        let settings = atoll_net::Settings::new(&self.id)?;
        // Its name is all that counts.
        let bridge: Network = settings.default_network("bridge", POOLS[0]);
        Ok(atoll_net::remove(&settings, &[bridge])?)
    }
}

/// Folders below a control group.
fn names(folder: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A written group with a folder more at the end of each line.
fn below_each(text: &str, name: &str) -> String {
    text.lines().map(|line| format!("{line}/{name}\n")).collect()
}
