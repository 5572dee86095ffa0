//! Taking away images that nothing uses.

use std::collections::{BTreeMap, HashSet};

use atoll_model::EventKind;
use atoll_oci::{Digest, Reference};
use atoll_store::failpoint;

use crate::image::Removal;
use crate::{Engine, Error, ImageView, host};

impl Engine {
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
        let used: HashSet<Digest> = self.entries().iter().map(|entry| entry.workload().image.id.clone()).collect();
        let mut removals = Vec::new();
        for image in self.read_images()?.into_iter().filter(|image| !used.contains(&image.id) && goes(image)) {
            for (link, _) in self.links_to(&image.id)? {
                failpoint::hit("image-prune.before-unlink");
                self.shared.store.unlink(&link)?;
                if let (Err(_), Ok(name)) = (link.parse::<Digest>(), Reference::parse(&link)) {
                    self.say_image("untag", &image.id, &name.familiar());
                    removals.push(Removal::Untagged(name.familiar()));
                }
            }
            self.say_image("delete", &image.id, &image.id.to_string());
            removals.push(Removal::Deleted(image.id.to_string()));
        }
        failpoint::hit("image-prune.before-sweep");
        let freed = self.sweep()?;
        let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
        self.shared.events.emit(EventKind::Image, "prune", "", attributes);
        Ok((removals, freed))
    }
}
