//! Removing what nobody uses, in one go.
//!
//! What came into use, or went, while this looked is skipped: a prune takes what it finds idle and never insists.

use std::collections::{BTreeMap, HashSet};

use atoll_model::{EventKind, Volume, Workload};
use atoll_oci::{Digest, Reference};
use atoll_store::failpoint;

use crate::image::Removal;
use crate::{Engine, Error, ImageView, host};

/// What a prune took away.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Identifiers of workloads, or names of volumes.
    pub removed: Vec<String>,
    /// Bytes of the disk that they held.
    pub bytes: u64,
}

impl Engine {
    /// Removes the workloads that do not run and that `chosen` lets through. Their volumes stay.
    ///
    /// # Errors
    /// When one cannot be removed though it is idle; those before it are gone.
    pub async fn prune_workloads(&self, chosen: impl Fn(&Workload) -> bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let sizes = self.workload_sizes().await?;
        for view in self.list() {
            if view.phase.is_live() || !chosen(&view.workload) {
                continue;
            }
            let id = view.workload.id.clone();
            match self.remove(id.as_str(), false, false).await {
                Ok(()) => {
                    pruned.bytes += sizes.get(&id).copied().unwrap_or(0);
                    pruned.removed.push(id.to_string());
                }
                Err(Error::Refused { .. } | Error::NoSuch(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Removes the volumes that no workload names and that `chosen` lets through.
    ///
    /// # Errors
    /// When one cannot be removed though it is unused; those before it are gone.
    pub async fn prune_volumes(&self, chosen: impl Fn(&Volume) -> bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let sizes = self.volume_sizes().await?;
        for view in self.volumes() {
            if view.users > 0 || !chosen(&view.volume) {
                continue;
            }
            let name = view.volume.name;
            match self.volume_remove(&name, false).await {
                Ok(()) => {
                    pruned.bytes += sizes.get(&name).copied().unwrap_or(0);
                    pruned.removed.push(name);
                }
                Err(Error::InUse(_) | Error::NoSuch(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Takes away every image that no workload uses and that `goes` says yes to; what went, and how many bytes that freed.
    ///
    /// # Errors
    /// When the store fails; what has gone until then stays gone.
    pub async fn prune_images(
        &self,
        goes: impl Fn(&ImageView) -> bool + Send + 'static,
    ) -> Result<(Vec<Removal>, u64), Error> {
        let engine = self.clone();
        host::blocking(move || engine.prune_images_now(&goes)).await
    }

    fn prune_images_now(&self, goes: &dyn Fn(&ImageView) -> bool) -> Result<(Vec<Removal>, u64), Error> {
        let changing = self.changing_images();
        let used = self.used_images();
        let mut removals = Vec::new();
        for image in self.read_images()?.into_iter().filter(|image| !used.contains(&image.id) && goes(image)) {
            removals.extend(self.unname_image(&image.id, None)?);
        }
        drop(changing);
        failpoint::hit("image-prune.before-sweep");
        let freed = self.sweep()?;
        let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
        self.shared.events.emit(None, EventKind::Image, "prune", "", attributes);
        Ok((removals, freed))
    }

    /// The images that workloads use, running or not.
    pub(crate) fn used_images(&self) -> HashSet<Digest> {
        self.entries().iter().map(|entry| entry.workload().image.id.clone()).collect()
    }

    /// Takes all names from an image, so that the next sweep deletes it; `why`, where nobody asked for that.
    pub(crate) fn unname_image(&self, id: &Digest, why: Option<&str>) -> Result<Vec<Removal>, Error> {
        let mut removals = Vec::new();
        for (link, _) in self.links_to(id)? {
            failpoint::hit("image-prune.before-unlink");
            self.shared.store.unlink(&link)?;
            if let (Err(_), Ok(name)) = (link.parse::<Digest>(), Reference::parse(&link)) {
                self.say_image_why("untag", id, &name.familiar(), why);
                removals.push(Removal::Untagged(name.familiar()));
            }
        }
        self.say_image_why("delete", id, &id.to_string(), why);
        removals.push(Removal::Deleted(id.to_string()));
        Ok(removals)
    }
}
