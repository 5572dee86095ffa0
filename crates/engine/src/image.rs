//! Images of this host: which there are, what they are called, how they go.
//!
//! A name is a link in the store from a canonical reference to a manifest; manifests with the same configuration are one image,
//! however their layers are packed. An image whose last name was given to another keeps one that is its own digest: it is
//! dangling, and shown without a name until somebody removes it.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::{MutexGuard, PoisonError};

use atoll_model::EventKind;
use atoll_oci::config::ImageConfig;
use atoll_oci::reference::is_image_id;
use atoll_oci::{Descriptor, Digest, Platform, Reference};
use atoll_store::failpoint;

use crate::{Engine, Error, host};

/// An image as callers see it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// Digest of its configuration: what Docker calls its id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What it is called: names with tags.
    pub names: Vec<Reference>,
    /// Under which digests its repositories know it: of its manifest, or of the index that it was chosen from.
    pub digests: Vec<Reference>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Its layers, bottom first: the digest of the plain tar and the bytes unpacked.
    pub layers: Vec<(Digest, u64)>,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(String),
}

/// Where progress of long work is reported; reports that nobody takes are dropped.
pub type Progress = tokio::sync::mpsc::Sender<ProgressEvent>;

/// How far long work has got.
#[derive(Clone, Debug)]
pub struct ProgressEvent {
    /// Which part of it.
    pub id: String,
    /// What is being done, for people.
    pub status: String,
    /// How much is done.
    pub current: u64,
    /// Of how much, when that is known.
    pub total: Option<u64>,
}

impl Engine {
    /// Every image, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn images(&self) -> Result<Vec<ImageView>, Error> {
        let engine = self.clone();
        host::blocking(move || engine.read_images()).await
    }

    /// One image by reference, digest, id or unambiguous beginning of its id.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn image(&self, name: &str) -> Result<ImageView, Error> {
        let engine = self.clone();
        let name = name.to_owned();
        host::blocking(move || {
            let mut image = engine.find_image(&name)?;
            // It was found by one of its names.
            let links = engine.links_to(&image.id)?;
            (image.names, image.digests) = called(&links);
            Ok(image)
        })
        .await
    }

    /// What workloads were made from, as they name it and as it is, where that name stands for another image by now or for none.
    pub async fn moved_names(&self) -> HashSet<(String, String)> {
        let used = self.entries().into_iter().map(|entry| {
            let image = entry.workload().image.clone();
            (image.name, image.id.to_string())
        });
        let mut used: HashSet<_> = used.collect();
        let engine = self.clone();
        host::blocking(move || {
            used.retain(|(name, id)| !engine.find_image(name).is_ok_and(|now| now.id.to_string() == *id));
            used
        })
        .await
    }

    pub(crate) fn read_images(&self) -> Result<Vec<ImageView>, Error> {
        let mut links: BTreeMap<Digest, Vec<(String, Descriptor)>> = BTreeMap::new();
        for (name, target) in self.shared.store.links()? {
            match self.manifest_of(&target) {
                Ok(manifest) => links.entry(manifest.digest).or_default().push((name, target)),
                Err(error) => tracing::warn!(%error, name, "an image that cannot be read"),
            }
        }
        let mut images: Vec<ImageView> = Vec::new();
        for (manifest, links) in links {
            match self.view_image(&manifest, &links) {
                Ok(image) => match images.iter_mut().find(|other| other.id == image.id) {
                    Some(same) => {
                        same.names.extend(image.names);
                        same.digests.extend(image.digests);
                    }
                    None => images.push(image),
                },
                Err(error) => tracing::warn!(%error, digest = %manifest, "an image that cannot be read"),
            }
        }
        images.sort_by(|left, right| right.config.created.cmp(&left.config.created));
        Ok(images)
    }

    /// The manifest that a name stands for: of an index of several platforms, this host's is the one that is meant.
    fn manifest_of(&self, target: &Descriptor) -> Result<Descriptor, Error> {
        Ok(self.shared.store.select(target, &Platform::host())?)
    }

    /// The names of the image with this id, and what they point at.
    pub(crate) fn links_to(&self, id: &Digest) -> Result<Vec<(String, Descriptor)>, Error> {
        let leads = |target: &Descriptor| self.id_of(target).is_ok_and(|found| found == *id);
        Ok(self.shared.store.links()?.into_iter().filter(|(_, target)| leads(target)).collect())
    }

    /// The id of the image that a name stands for.
    pub(crate) fn id_of(&self, target: &Descriptor) -> Result<Digest, Error> {
        Ok(self.shared.store.image(&self.manifest_of(target)?.digest)?.config_digest)
    }

    fn view_image(&self, manifest: &Digest, links: &[(String, Descriptor)]) -> Result<ImageView, Error> {
        let image = self.shared.store.image(manifest)?;
        let layers: Vec<_> = image.layers.iter().map(|layer| (layer.diff_id.clone(), layer.size)).collect();
        let (names, digests) = called(links);
        Ok(ImageView {
            id: image.config_digest,
            manifest: image.descriptor,
            names,
            digests,
            config: image.config,
            size: layers.iter().map(|(_, size)| size).sum(),
            layers,
        })
    }

    pub(crate) fn find_image(&self, name: &str) -> Result<ImageView, Error> {
        if let Ok(reference) = Reference::parse(name)
            && let Some(target) = self.shared.store.resolve(&reference.to_string())?
        {
            return self.view_image(&self.manifest_of(&target)?.digest, &[(reference.to_string(), target)]);
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let pinned = if is_image_id(hex) {
            None
        } else {
            // Says what is wrong with a name that cannot be one.
            let reference = Reference::parse(name)?;
            let digest = reference.digest().cloned().ok_or_else(|| Error::no_image(name))?;
            Some(reference.with_digest(digest))
        };
        let fits = |image: &ImageView| match &pinned {
            Some(pinned) => image.digests.contains(pinned),
            None => {
                let mut digests = image.digests.iter().filter_map(Reference::digest);
                image.id.hex().starts_with(hex) || digests.any(|digest| digest.hex() == hex)
            }
        };
        let mut fitting = self.read_images()?.into_iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => Err(Error::Ambiguous(name.to_owned())),
            _ => Err(Error::no_image(name)),
        }
    }

    /// Gives an image another name; an image that had that name before keeps its own digest for one.
    ///
    /// # Errors
    /// When there is no such image, or the target is no name.
    pub async fn tag(&self, source: &str, target: &str) -> Result<(), Error> {
        let reference = Reference::parse(target)?;
        if reference.digest().is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        let engine = self.clone();
        let source = source.to_owned();
        host::blocking(move || {
            let _changing = engine.changing_images();
            let image = engine.find_image(&source)?;
            engine.name_image(&reference, &image.manifest)?;
            engine.say_image("tag", &image.id, &reference.familiar());
            Ok(())
        })
        .await
    }

    /// Points a name at a manifest or an index.
    pub(crate) fn name_image(&self, reference: &Reference, target: &Descriptor) -> Result<(), Error> {
        let store = &self.shared.store;
        let name = reference.to_string();
        if let Some(old) = store.resolve(&name)?
            && old.digest != target.digest
            && let Ok(manifest) = self.manifest_of(&old)
            && let Ok(id) = self.id_of(&old)
            && self.links_to(&id)?.len() == 1
            && self.id_of(target)? != id
        {
            failpoint::hit("tag.before-dangling");
            store.link(&manifest.digest.to_string(), &manifest)?;
        }
        failpoint::hit("tag.before-link");
        store.link(&name, target)?;
        // It has a name again: the one that stood in for it is not needed.
        store.unlink(&self.manifest_of(target)?.digest.to_string())?;
        Ok(())
    }

    /// Takes a name away, and with the last one the image.
    ///
    /// # Errors
    /// When a workload uses the image, or (`force` unset) it has other names than the one it was asked by.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, Error> {
        let engine = self.clone();
        let name = name.to_owned();
        host::blocking(move || engine.remove_image_now(&name, force)).await
    }

    /// Keeps others from taking images away, and from coming to use one.
    pub(crate) fn changing_images(&self) -> MutexGuard<'_, ()> {
        self.shared.changes.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_image_now(&self, name: &str, force: bool) -> Result<Vec<Removal>, Error> {
        let changing = self.changing_images();
        let found = self.find_image(name)?;
        let links: Vec<String> = self.links_to(&found.id)?.into_iter().map(|(link, _)| link).collect();
        let by_name = Reference::parse(name).ok().map(|reference| reference.to_string());
        let named = by_name.filter(|by_name| links.contains(by_name));
        let mut going = match &named {
            Some(named) => with_digests(named, &links),
            None if links.len() > 1 && !force => {
                return Err(Error::InUse(format!(
                    "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    found.id.short()
                )));
            }
            None => links.clone(),
        };
        let mut last = going.len() == links.len();
        if last && self.is_kept(name, &found, force, named.is_some())? {
            self.shared.store.link(&found.manifest.digest.to_string(), &found.manifest)?;
            going.retain(|link| !is_stand_in(link));
            last = false;
        }
        let mut removals = Vec::new();
        for link in going {
            failpoint::hit("rmi.before-unlink");
            self.shared.store.unlink(&link)?;
            if link.parse::<Digest>().is_err()
                && let Ok(reference) = Reference::parse(&link)
            {
                self.say_image("untag", &found.id, &found.id.to_string());
                removals.push(Removal::Untagged(reference.familiar()));
            }
        }
        drop(changing);
        if last {
            failpoint::hit("rmi.before-sweep");
            self.sweep()?;
            self.say_image("delete", &found.id, &found.id.to_string());
            removals.push(Removal::Deleted(found.id.to_string()));
        }
        Ok(removals)
    }

    /// Whether an image stays without a name, for those who run it, when its last name is taken away by force.
    fn is_kept(&self, name: &str, image: &ImageView, force: bool, by_name: bool) -> Result<bool, Error> {
        let mut users = self.entries();
        users.retain(|entry| entry.workload().image.id == image.id);
        let live = users.iter().find(|entry| entry.phase().is_up());
        let Some(user) = live.or(users.first()) else { return Ok(false) };
        if force && (by_name || live.is_none()) {
            return Ok(live.is_some());
        }
        let (what, how) = if live.is_some() { ("running", "cannot") } else { ("stopped", "must") };
        Err(Error::InUse(if by_name {
            format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                user.id.short(),
                image.id.short()
            )
        } else {
            format!(
                "conflict: unable to delete {} ({how} be forced) - image is being used by {what} container {}",
                image.id.short(),
                user.id.short()
            )
        }))
    }

    /// Deletes what no name, workload or lease needs; how many bytes that were.
    pub(crate) fn sweep(&self) -> Result<u64, Error> {
        let mut keep = HashSet::new();
        for entry in self.entries() {
            keep.insert(entry.workload().image.manifest.clone());
        }
        let keep: Vec<_> = keep.into_iter().collect();
        let swept = self.shared.store.sweep(&keep)?;
        tracing::debug!(?swept, "swept the store");
        Ok(swept.bytes)
    }

    /// Takes in the images of an archive that `docker save` or an OCI tool wrote; returns what they are called now.
    ///
    /// # Errors
    /// When it is no such archive, is damaged, or has nothing for the platform that is asked for: then nothing of it stays.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        platform: Option<Platform>,
        progress: Progress,
    ) -> Result<Vec<String>, Error> {
        let engine = self.clone();
        host::blocking(move || engine.load_now(archive, platform.as_ref(), &progress)).await
    }

    fn load_now(
        &self,
        mut archive: impl Read + Send,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Vec<String>, Error> {
        let lease = self.shared.store.lease("load")?;
        failpoint::hit("load.after-lease");
        let report = |step| drop(progress.try_send(load_event(step)));
        let loaded = self.shared.store.import_archive(&lease, &mut archive, &report)?;
        failpoint::hit("load.after-import");
        let wanted = |image: atoll_store::Loaded| {
            let name = image.names.first().map_or_else(|| image.manifest.digest.to_string(), Clone::clone);
            let manifest = self.of_platform(&name, image.manifest, platform)?;
            Ok(atoll_store::Loaded { manifest, ..image })
        };
        let loaded: Vec<_> = loaded.into_iter().map(wanted).collect::<Result<_, Error>>()?;
        let mut names = Vec::new();
        for image in loaded {
            let manifest = self.manifest_of(&image.manifest)?;
            let view = self.view_image(&manifest.digest, &[])?;
            for name in &image.names {
                let reference = Reference::parse(name)?;
                self.name_image(&reference, &image.manifest)?;
                names.push(format!("Loaded image: {}", reference.familiar()));
            }
            if image.names.is_empty() {
                self.shared.store.link(&manifest.digest.to_string(), &manifest)?;
                names.push(format!("Loaded image ID: {}", view.id));
            }
            self.say_image("load", &view.id, &view.id.to_string());
        }
        Ok(names)
    }

    /// Says that something was done with an image, which takes room as a rule.
    pub(crate) fn say_image(&self, action: &str, id: &Digest, name: &str) {
        self.shared.room.look();
        self.say_image_why(action, id, name, None);
    }

    /// The same, with the reason why the engine did it by itself.
    pub(crate) fn say_image_why(&self, action: &str, id: &Digest, name: &str, why: Option<&str>) {
        let mut attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        attributes.extend(why.map(|why| ("reason".to_owned(), why.to_owned())));
        self.shared.events.emit(None, EventKind::Image, action, &id.to_string(), attributes);
    }
}

/// What links say of an image: its names with tags, and the digests that it is known by.
fn called(links: &[(String, Descriptor)]) -> (Vec<Reference>, Vec<Reference>) {
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for (name, target) in links {
        // A digest stands in for the name of an image that has none.
        if let (Err(_), Ok(reference)) = (name.parse::<Digest>(), Reference::parse(name)) {
            // An image that was pushed in another packing has a name with the digest that it has there.
            let digest = reference.digest().unwrap_or(&target.digest).clone();
            digests.push(reference.with_digest(digest));
            names.extend(Some(reference).filter(|reference| reference.digest().is_none()));
        }
    }
    digests.sort();
    digests.dedup();
    (names, digests)
}

/// A name that goes, and with a repository's last tag the digests that it is known by there.
fn with_digests(named: &str, links: &[String]) -> Vec<String> {
    let parsed = |link: &str| Reference::parse(link).ok().filter(|_| link.parse::<Digest>().is_err());
    let mut going = vec![named.to_owned()];
    let Some(own) = parsed(named).filter(|own| own.digest().is_none()) else { return going };
    let others = || links.iter().filter(|link| *link != named);
    let of_repository = |link: &&String| parsed(link).is_some_and(|other| other.name() == own.name());
    let is_pinned = |link: &&String| parsed(link).is_some_and(|other| other.digest().is_some());
    if others().filter(of_repository).all(|link| is_pinned(&link)) {
        going.extend(others().filter(of_repository).cloned());
    }
    // A change of names that was cut short may have left one that stands in for none.
    if links.iter().all(|link| is_stand_in(link) || going.contains(link)) {
        going = links.to_vec();
    }
    going
}

/// Whether a link is what an image has in place of a name.
fn is_stand_in(link: &str) -> bool {
    link.parse::<Digest>().is_ok()
}

fn load_event(step: atoll_store::Progress) -> ProgressEvent {
    let event = |id: &str, status: &str, current| ProgressEvent {
        id: id.to_owned(),
        status: status.to_owned(),
        current,
        total: None,
    };
    match step {
        atoll_store::Progress::Read(bytes) => event("archive", "Reading", bytes),
        atoll_store::Progress::Unpacked(digest) => event(digest.short(), "Unpacked", 1),
        atoll_store::Progress::Saving => event("saving", "Saving", 0),
    }
}
