//! Images from registries.

use std::sync::Arc;

use atoll_oci::{Digest, Platform, Reference};
use atoll_registry::{Credentials, Phase, Pulled};
use atoll_store::failpoint;

use crate::image::{Progress, ProgressEvent};
use crate::{Engine, Error, ImageView, host};

/// An image to get.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Its name, with a tag or a digest.
    pub name: Reference,
    /// For which platform; none is this host's.
    pub platform: Option<Platform>,
    /// What the registry is shown.
    pub credentials: Credentials,
}

/// What came of a pull.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The image.
    pub image: ImageView,
    /// The digest that its registry knows it by.
    pub digest: Digest,
    /// Whether the name stands for another image now than before.
    pub newer: bool,
}

impl Engine {
    /// Gets an image and gives it its name.
    ///
    /// # Errors
    /// When the registry does not have it, denies it, lies or cannot be reached: then everything is as before.
    pub async fn pull(&self, request: PullRequest, progress: Progress) -> Result<PulledImage, Error> {
        let name = &request.name;
        let host = Platform::host();
        let foreign = request.platform.as_ref().filter(|platform| !host.matches(platform));
        if let Some(platform) = foreign {
            // Nothing here could run it, and a name stands for this host's image.
            let host = &host;
            return Err(Error::Unsupported(format!("images for {platform} on a host of {host} are not supported yet")));
        }
        let store = self.shared.store.clone();
        let lease = Arc::new(store.lease(&format!("pull {name}"))?);
        let platform = (request.platform.as_ref().unwrap_or(&host), request.platform.is_some());
        let report = move |layer: &Digest, phase| drop(progress.try_send(event(layer, phase)));
        let registries = &self.shared.settings.registries;
        let held = (&store, Arc::clone(&lease));
        let pulled = atoll_registry::pull(registries, held, name, platform, &request.credentials, &report).await?;
        failpoint::hit("pull.after-layers");
        let engine = self.clone();
        host::blocking(move || {
            let done = engine.name_pulled(&request.name, &pulled);
            // Until the name is there, the lease is what keeps the image.
            drop(lease);
            done
        })
        .await
    }

    fn name_pulled(&self, name: &Reference, pulled: &Pulled) -> Result<PulledImage, Error> {
        let before = self.shared.store.resolve(&name.to_string())?;
        self.name_image(name, &pulled.target)?;
        failpoint::hit("pull.after-name");
        // What was pushed from here in another packing came back as the registry has it: that is what its digest names now.
        let pinned = name.with_digest(pulled.target.digest.clone()).to_string();
        if name.digest().is_none() && self.shared.store.resolve(&pinned)?.is_some_and(|old| old != pulled.target) {
            self.shared.store.unlink(&pinned)?;
        }
        let image = self.find_image(&name.to_string())?;
        self.say_image("pull", &image.id, &name.familiar());
        let newer = before.is_none_or(|before| before.digest != pulled.target.digest);
        Ok(PulledImage { image, digest: pulled.target.digest.clone(), newer })
    }
}

fn event(layer: &Digest, phase: Phase) -> ProgressEvent {
    // Docker's clients know these words.
    let (status, current, total) = match phase {
        Phase::Exists => ("Already exists", 0, None),
        Phase::Waiting => ("Pulling fs layer", 0, None),
        Phase::Downloading { current, total } => ("Downloading", current, Some(total)),
        Phase::Downloaded => ("Download complete", 0, None),
        Phase::Complete => ("Pull complete", 0, None),
    };
    ProgressEvent { id: layer.short().to_owned(), status: status.to_owned(), current, total }
}
