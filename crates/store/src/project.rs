//! Limits on what is written to a root file system: a project of the disk's own quota for each root that has one.
//!
//! ```text
//!   record: root → number ──► limit of the number ──► folders get the number ──► the root gets its name
//!   the root loses its name ──► its files are deleted ──► the limit goes ──► the record goes
//! ```
//! A number is in the record for as long as anything of it may be left, so that no two roots ever share one; whatever a killed
//! process left of the upper line is taken back by [`Store::open`]. Numbers that others use on the file system are passed over.

use std::collections::BTreeMap;
use std::path::Path;

use atoll_sys::quota::{self, Projects};

use crate::error::{Error, Result, RootError};
use crate::{Store, failpoint, meta};

/// The first number of all stores: others count from the smallest numbers up.
const FIRST: u32 = 1 << 30;
/// How many numbers a store has for itself, most likely: each begins at a random one of [`STORES`] places.
const SPAN: u32 = 1 << 14;
const STORES: u32 = 1 << 15;

impl Store {
    /// Sees whether what is written to root file systems can be limited.
    ///
    /// # Errors
    /// [`RootError`] says what the disk lacks.
    pub fn check_limits(&self) -> Result<()> {
        self.projects().map(drop)
    }

    fn projects(&self) -> Result<Projects> {
        let folder = self.0.dir.join("roots");
        match Projects::on(&folder).map_err(Error::io("ask for the quota of", &folder))? {
            Some(projects) => Ok(projects),
            None => Err(RootError::NoQuota { folder: self.0.dir.clone() }.into()),
        }
    }

    /// Limits what root `id` takes: its `folders`, which are empty and not under its name yet, and all that will be in them.
    pub(crate) fn begin_project(&self, id: &str, folders: [&Path; 2], bytes: u64) -> Result<()> {
        let projects = self.projects()?;
        let number = self.claim_number(id, &projects)?;
        failpoint::hit("store.project.recorded");
        let folder = &self.0.dir;
        projects.limit(number, bytes).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::PERM.raw_os_error() => RootError::QuotaDenied.into(),
            _ => Error::io("limit a project of", folder)(error),
        })?;
        failpoint::hit("store.project.limited");
        for folder in folders {
            quota::give(folder, number).map_err(Error::io("set the project of", folder))?;
        }
        Ok(())
    }

    /// A number for `id`, recorded: the lowest that no root of ours has and for which nothing is counted.
    fn claim_number(&self, id: &str, projects: &Projects) -> Result<u32> {
        let folder = &self.0.dir;
        let place = || rand_place().map_err(Error::io("read", "/dev/urandom"));
        meta::claim_project(self.db(), id, place, |number| {
            projects.is_free(number).map_err(Error::io("ask for a project of", folder))
        })
    }

    /// Takes back what limited root `id`, of which nothing is left; none is fine.
    pub(crate) fn end_project(&self, id: &str) -> Result<()> {
        let Some(number) = meta::project(self.db(), id)? else { return Ok(()) };
        let projects = match self.projects() {
            // The disk is mounted without quota now: the record waits until it is mounted with it again.
            Err(Error::Root(RootError::NoQuota { .. })) => return Ok(()),
            other => other?,
        };
        projects.limit(number, 0).map_err(Error::io("end the limit of a project of", &self.0.dir))?;
        failpoint::hit("store.project.unlimited");
        meta::forget_project(self.db(), id)
    }

    /// Ends the projects of roots that are not there.
    pub(crate) fn end_lost_projects(&self) -> Result<()> {
        let known: BTreeMap<String, u32> = meta::projects(self.db())?;
        for id in known.keys() {
            if !self.0.dir.join("roots").join(id).exists() {
                self.end_project(id)?;
            }
        }
        Ok(())
    }
}

/// Where this store's numbers begin.
fn rand_place() -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(FIRST + (u32::from_ne_bytes(bytes) % STORES) * SPAN)
}
