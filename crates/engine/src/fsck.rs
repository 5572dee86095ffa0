//! Checking a state that no engine has open, and mending what can be mended.
//!
//! The metadata is checked as a copy, so that looking changes nothing: opening it would already recover it. Repairs are what an
//! opened engine would do (leftovers go), and: blobs with wrong contents go, lost layers are unpacked again from their blobs.
//! What only somebody else has (a pull, a backup) stays named.

use std::collections::BTreeSet;
use std::path::Path;

use atoll_store::{Problem, Store, check, remove_useless};

use crate::db::{self, Db};
use crate::recover::names_in;
use crate::{Error, Settings, host};

/// Name of the copy of the metadata in the run folder.
const COPY: &str = "fsck.redb";

/// What a check came to: sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub found: Vec<String>,
    /// What of it is there still.
    pub left: Vec<String>,
}

/// What is wrong with a state.
#[derive(Debug, Default)]
struct Findings {
    /// Of the metadata and of folders that go with it.
    records: Vec<String>,
    /// Of folders that the metadata does not know.
    leftovers: Vec<std::path::PathBuf>,
    store: Vec<Problem>,
}

/// Checks the state; with `repair`, mends what can be mended.
///
/// # Errors
/// Something cannot be read or written; the metadata is of a newer version.
pub async fn fsck(settings: &Settings, repair: bool) -> Result<Report, Error> {
    let settings = settings.clone();
    host::blocking(move || {
        let findings = look(&settings)?;
        let found = findings.sentences();
        if !repair || found.is_empty() {
            return Ok(Report { left: found.clone(), found });
        }
        mend(&settings, &findings)?;
        Ok(Report { found, left: look(&settings)?.sentences() })
    })
    .await
}

impl Findings {
    fn sentences(&self) -> Vec<String> {
        let leftovers = self.leftovers.iter().map(|path| format!("leftover {}: nothing knows of it", path.display()));
        self.records.iter().cloned().chain(self.store.iter().map(ToString::to_string)).chain(leftovers).collect()
    }
}

fn look(settings: &Settings) -> Result<Findings, Error> {
    let root = &settings.root;
    let file = root.join(db::FILE);
    if !file.exists() {
        // A root that was never used.
        return Ok(Findings::default());
    }
    let copy = settings.run.join(COPY);
    std::fs::copy(&file, &copy).map_err(Error::host(format!("copying {}", file.display())))?;
    let findings = match Db::open_checked(&copy) {
        Err(error @ Error::Unsupported(_)) => Err(error),
        Err(error) => without_records(root, format!("metadata {}: {error}", file.display())),
        Ok(db) => compare(root, &db),
    };
    std::fs::remove_file(&copy).map_err(Error::host(format!("removing {}", copy.display())))?;
    findings
}

/// What can be checked where the metadata cannot be read.
fn without_records(root: &Path, why: String) -> Result<Findings, Error> {
    Ok(Findings { records: vec![why], store: check(&root.join("store"), None)?, ..Findings::default() })
}

/// Holds folders against records.
fn compare(root: &Path, db: &Db) -> Result<Findings, Error> {
    let mut findings = Findings { store: check(&root.join("store"), Some(&db.database()))?, ..Findings::default() };
    let workloads: BTreeSet<String> = match db.workloads() {
        Ok(known) => known.into_iter().map(|(workload, _)| workload.id.to_string()).collect(),
        Err(error) => {
            findings.records.push(format!("containers: {error}"));
            return Ok(findings);
        }
    };
    let volumes: BTreeSet<String> = db.volumes()?.into_iter().map(|volume| volume.name).collect();
    let roots = names_in(&root.join("store/roots"))?;
    for (folder, known) in [("store/roots", &workloads), ("workloads", &workloads), ("volumes", &volumes)] {
        let unknown = names_in(&root.join(folder))?.into_iter().filter(|name| !known.contains(name));
        findings.leftovers.extend(unknown.map(|name| root.join(folder).join(name)));
    }
    findings.records.extend(
        workloads
            .iter()
            .filter(|id| !roots.contains(id))
            .map(|id| format!("container {id}: its root file system is gone")),
    );
    let there = names_in(&root.join("volumes"))?;
    let gone = volumes.iter().filter(|name| !there.contains(name));
    findings.records.extend(gone.map(|name| format!("volume {name}: its folder is gone")));
    Ok(findings)
}

fn mend(settings: &Settings, findings: &Findings) -> Result<(), Error> {
    remove_useless(&findings.store)?;
    for path in &findings.leftovers {
        std::fs::remove_dir_all(path).map_err(Error::host(format!("removing {}", path.display())))?;
    }
    // One that cannot be read is named again.
    let Ok(db) = Db::open_checked(&settings.root.join(db::FILE)) else { return Ok(()) };
    let store = Store::open(&settings.root.join("store"), db.database())?;
    for problem in &findings.store {
        if let Problem::Layer { diff_id, blob: Some(blob) } = problem
            && store.stat(&blob.digest)?.is_some()
        {
            let lease = store.lease("fsck")?;
            store.unpack_blob(&lease, blob, Some(diff_id))?;
        }
    }
    Ok(())
}
