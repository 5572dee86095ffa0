//! Images to registries, and what registries say without an image moving: logins, and what a name stands for there.

use std::sync::Arc;

use atoll_oci::{Descriptor, Digest, Platform, Reference};
use atoll_registry::{Credentials, Described, LoginError, PushPhase};
use atoll_store::{Lease, failpoint};

use crate::image::{Progress, ProgressEvent};
use crate::{Engine, Error, host};

/// Images to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Their name, with a tag or a digest.
    pub name: Reference,
    /// Whether all tags of the repository are meant in place of that one.
    pub all_tags: bool,
    /// Of an index, the image for this platform alone.
    pub platform: Option<Platform>,
    /// What the registry is shown.
    pub credentials: Credentials,
}

/// An image that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedImage {
    /// By which tag, or digest.
    pub tag: String,
    /// The digest that its registry knows it by.
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: u64,
}

impl Engine {
    /// Puts images into their registry.
    ///
    /// # Errors
    /// When there is no image of that name here, or the registry denies it, breaks off or cannot be reached.
    pub async fn push(&self, request: PushRequest, progress: Progress) -> Result<Vec<PushedImage>, Error> {
        let says = format!("The push refers to repository [{}]", request.name.familiar_name());
        drop(progress.try_send(ProgressEvent { id: String::new(), status: says, current: 0, total: None }));
        let lease = Arc::new(self.shared.store.lease(&format!("push {}", request.name))?);
        let targets = {
            let (engine, request, lease) = (self.clone(), request.clone(), Arc::clone(&lease));
            host::blocking(move || engine.push_targets(&request, &lease)).await?
        };
        let report = move |blob: &Digest, phase| drop(progress.try_send(event(blob, phase)));
        let mut pushed = Vec::new();
        for (name, target) in targets {
            let registries = &self.shared.settings.registries;
            let held = (&self.shared.store, &target);
            let there = atoll_registry::push(registries, held, &name, &request.credentials, &report).await?;
            let tag = name.digest().map(ToString::to_string).or_else(|| name.tag().map(ToOwned::to_owned));
            pushed.push(PushedImage { tag: tag.unwrap_or_default(), digest: there.digest.clone(), size: there.size });
            let engine = self.clone();
            host::blocking(move || engine.note_pushed(&name, &target, &there)).await?;
        }
        drop(lease);
        Ok(pushed)
    }

    /// The names that are meant, and what each stands for; all of it under the lease.
    fn push_targets(&self, request: &PushRequest, lease: &Lease) -> Result<Vec<(Reference, Descriptor)>, Error> {
        let (store, name) = (&self.shared.store, &request.name);
        let mut named = Vec::new();
        if request.all_tags {
            for (link, target) in store.links()? {
                let Ok(link) = Reference::parse(&link) else { continue };
                if link.digest().is_none() && link.name() == name.name() {
                    named.push((link, target));
                }
            }
            if named.is_empty() {
                let missing = name.familiar_name();
                return Err(Error::NoSuch(format!("An image does not exist locally with the tag: {missing}")));
            }
        } else {
            let target = store.resolve(&name.to_string())?;
            let missing = || Error::NoSuch(format!("tag does not exist: {}", name.familiar()));
            named.push((name.clone(), target.ok_or_else(missing)?));
        }
        for (_, target) in &mut named {
            store.hold(lease, &target.digest)?;
            // Of an index whose other parts never came, this host's image is what there is to push.
            if request.platform.is_some() || !store.is_whole(target)? {
                *target = store.select(target, request.platform.as_ref().unwrap_or(&Platform::host()))?;
            }
        }
        Ok(named)
    }

    /// Remembers by which digest the repository knows an image that is kept in another packing here.
    fn note_pushed(&self, name: &Reference, target: &Descriptor, there: &Descriptor) -> Result<(), Error> {
        failpoint::hit("push.before-link");
        if there.digest != target.digest {
            self.shared.store.link(&name.with_digest(there.digest.clone()).to_string(), target)?;
        }
        let image = self.find_image(&name.to_string())?;
        self.say_image("push", &image.id, &name.familiar());
        Ok(())
    }

    /// Shows credentials to a registry; the token to keep in place of a password, where it gives one.
    ///
    /// # Errors
    /// They are refused, or the registry cannot be asked.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<Option<String>, LoginError> {
        atoll_registry::login(&self.shared.settings.registries, registry, credentials).await
    }

    /// What a name stands for at its registry, for which platforms; nothing is kept.
    ///
    /// # Errors
    /// The registry does not have it, denies it, lies or cannot be reached.
    pub async fn describe_remote(&self, name: &Reference, credentials: &Credentials) -> Result<Described, Error> {
        Ok(atoll_registry::describe(&self.shared.settings.registries, name, credentials).await?)
    }
}

fn event(blob: &Digest, phase: PushPhase) -> ProgressEvent {
    // Docker's clients know these words.
    let (status, current, total) = match phase {
        PushPhase::Preparing => ("Preparing".to_owned(), 0, None),
        PushPhase::Exists => ("Layer already exists".to_owned(), 0, None),
        PushPhase::Mounted(from) => (format!("Mounted from {from}"), 0, None),
        PushPhase::Pushing { current, total } => ("Pushing".to_owned(), current, total),
        PushPhase::Pushed => ("Pushed".to_owned(), 0, None),
    };
    ProgressEvent { id: blob.short().to_owned(), status, current, total }
}
