//! Images as an archive.

use atoll_oci::{Descriptor, Platform, Reference};
use atoll_store::Saving;

use crate::bytes::{ByteStream, pipe};
use crate::{Engine, Error, host};

impl Engine {
    /// Archives images by reference, digest or id; a name without a tag is every tag of its repository. With a platform, only
    /// that one of images of several.
    ///
    /// # Errors
    /// When there is no such image, or not for that platform; what fails later ends the stream.
    pub async fn save(&self, names: Vec<String>, platform: Option<Platform>) -> Result<ByteStream, Error> {
        let engine = self.clone();
        let (lease, images) = host::blocking(move || -> Result<_, Error> {
            let lease = engine.shared.store.lease("save")?;
            let mut images: Vec<Saving> = Vec::new();
            for name in &names {
                for (target, reference) in engine.meant(name)? {
                    let target = engine.of_platform(name, target, platform.as_ref())?;
                    engine.shared.store.hold(&lease, &target.digest)?;
                    match images.iter_mut().find(|image| image.target.digest == target.digest) {
                        Some(image) => image.names.extend(reference.filter(|name| !image.names.contains(name))),
                        None => images.push(Saving { target, names: reference.into_iter().collect() }),
                    }
                }
            }
            Ok((lease, images))
        })
        .await?;
        let (sink, stream) = pipe();
        let engine = self.clone();
        tokio::task::spawn_blocking(move || {
            let written = sink.fill(|writer| engine.shared.store.export_archive(&lease, &images, writer));
            match written {
                Ok(()) => images.iter().for_each(|image| engine.say_saved(image)),
                Err(error) => tracing::debug!(%error, "saving images"),
            }
        });
        Ok(stream)
    }

    /// What a name of an archive's image stands for, and what the archive calls it.
    fn meant(&self, name: &str) -> Result<Vec<(Descriptor, Option<Reference>)>, Error> {
        let store = &self.shared.store;
        let last = name.rsplit('/').next().unwrap_or(name);
        if let Ok(reference) = Reference::parse(name) {
            if last.contains([':', '@']) {
                if let Some(target) = store.resolve(&reference.to_string())? {
                    let shown = Some(reference).filter(|reference| reference.digest().is_none());
                    return Ok(vec![(target, shown)]);
                }
            } else {
                let all = store.links()?.into_iter().filter_map(|(link, target)| {
                    let link = Reference::parse(&link).ok()?;
                    (link.name() == reference.name() && link.digest().is_none()).then_some((target, Some(link)))
                });
                let all: Vec<_> = all.collect();
                if !all.is_empty() {
                    return Ok(all);
                }
            }
        }
        Ok(vec![(self.find_image(name)?.manifest, None)])
    }

    /// The manifest for a platform, where one is asked for.
    pub(crate) fn of_platform(
        &self,
        name: &str,
        target: Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Descriptor, Error> {
        let Some(platform) = platform else { return Ok(target) };
        let store = &self.shared.store;
        let missing = || {
            let platform = platform.normalised();
            Error::NoSuch(format!(
                "image with reference {name} was found but does not provide the specified platform ({platform})"
            ))
        };
        let manifest = store.select(&target, platform).map_err(|error| match error {
            atoll_store::Error::Image(atoll_store::ImageError::Platform(_)) => missing(),
            other => other.into(),
        })?;
        let is = store.image(&manifest.digest)?.config.platform();
        if platform.matches(&is) { Ok(manifest) } else { Err(missing()) }
    }

    fn say_saved(&self, image: &Saving) {
        let manifest = self.shared.store.select(&image.target, &Platform::host());
        let id = manifest.and_then(|manifest| Ok(self.shared.store.image(&manifest.digest)?.config_digest));
        let id = id.unwrap_or_else(|_| image.target.digest.clone());
        self.say_image("save", &id, &id.to_string());
    }
}
