//! Names and images: what a name points at, and the manifest, configuration and layers behind it.
//!
//! Names are full canonical references, or any other text that an owner chooses; each keeps what it names from the sweep.

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::manifest::MANIFEST_MAX;
use atoll_oci::{Descriptor, Digest, Manifest, Parsed, Platform, parse_any};

use crate::error::{Error, ImageError, Result};
use crate::layer::Layer;
use crate::{Store, failpoint, meta};

/// An image whose layers are all unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its manifest's descriptor.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: atoll_oci::ImageConfig,
    /// The digest of its configuration: what Docker calls the image id.
    pub config_digest: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Store {
    /// Points `name` at a manifest or an index that is in the store; gives what it pointed at before.
    ///
    /// # Errors
    /// The target is not here.
    pub fn link(&self, name: &str, target: &Descriptor) -> Result<Option<Descriptor>> {
        let _using = self.using();
        if self.stat(&target.digest)?.is_none() {
            return Err(Error::MissingBlob(target.digest.clone()));
        }
        failpoint::hit("store.link.before");
        let before = meta::set_link(&self.0.db, name, Some(target))?;
        failpoint::hit("store.link.committed");
        Ok(before)
    }

    /// Removes a name; gives what it pointed at, or `None` when there was no such name.
    ///
    /// # Errors
    /// The database fails.
    pub fn unlink(&self, name: &str) -> Result<Option<Descriptor>> {
        meta::set_link(&self.0.db, name, None)
    }

    /// What a name points at.
    ///
    /// # Errors
    /// The database fails.
    pub fn resolve(&self, name: &str) -> Result<Option<Descriptor>> {
        meta::link(&self.0.db, name)
    }

    /// All names, sorted, with what they point at.
    ///
    /// # Errors
    /// The database fails.
    pub fn links(&self) -> Result<Vec<(String, Descriptor)>> {
        Ok(meta::links(&self.0.db)?.into_iter().collect())
    }

    /// The manifest for `platform`: `target` itself when it is one, else the best of the index that it is. Nested indexes
    /// are followed; entries whose manifest is not in the store are passed over.
    ///
    /// # Errors
    /// Nothing fits, or a blob is missing or malformed.
    pub fn select(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        /// How deep indexes may nest.
        const NESTING_MAX: usize = 4;
        let mut current = target.clone();
        for _ in 0..NESTING_MAX {
            let Parsed::Index(mut index) = self.parsed(&current)? else {
                return Ok(current);
            };
            let mut here = Vec::new();
            for entry in index.manifests {
                if self.stat(&entry.digest)?.is_some() {
                    here.push(entry);
                }
            }
            index.manifests = here;
            let best = platform.select(&index).cloned();
            current = best.ok_or_else(|| ImageError::Platform(platform.to_string()))?;
        }
        Err(ImageError::Index(target.digest.clone()).into())
    }

    /// Whether all that an index lists is here, and not just this host's image.
    ///
    /// # Errors
    /// A blob cannot be read or is malformed.
    pub fn is_whole(&self, target: &Descriptor) -> Result<bool> {
        if self.stat(&target.digest)?.is_none() {
            return Ok(false);
        }
        match self.parsed(target)? {
            Parsed::Manifest(manifest) => Ok(self.stat(&manifest.config.digest)?.is_some()),
            Parsed::Index(index) => {
                for entry in &index.manifests {
                    if !self.is_whole(entry)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// The image whose manifest has this digest.
    ///
    /// # Errors
    /// A blob or an unpacked layer is missing, or manifest and configuration do not make an image.
    pub fn image(&self, manifest: &Digest) -> Result<Image> {
        let bytes = self.read(manifest, MANIFEST_MAX as u64)?;
        let parsed = parse_any(&bytes, None).map_err(ImageError::from)?;
        let Parsed::Manifest(value) = parsed else {
            return Err(ImageError::Index(manifest.clone()).into());
        };
        let media_type = value.media_type.as_deref().unwrap_or(atoll_oci::media_type::OCI_MANIFEST);
        let descriptor = Descriptor::new(media_type, manifest.clone(), bytes.len() as u64);
        let config = self.config(&value)?;
        let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len());
        for (diff_id, blob) in config.rootfs.diff_ids.iter().zip(&value.layers) {
            let layer = self.layer(diff_id)?.ok_or_else(|| Error::MissingLayer(diff_id.clone()))?;
            layers.push(Layer { blob: Some(blob.clone()), ..layer });
        }
        let config_digest = value.config.digest.clone();
        Ok(Image { descriptor, manifest: value, config, config_digest, layers })
    }

    /// The configuration of a manifest, with as many diff ids as that has layers.
    pub(crate) fn config(&self, manifest: &Manifest) -> Result<atoll_oci::ImageConfig> {
        let bytes = self.read(&manifest.config.digest, CONFIG_MAX as u64)?;
        let config = atoll_oci::ImageConfig::parse(&bytes).map_err(ImageError::from)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(ImageError::Layers { layers, diff_ids }.into());
        }
        Ok(config)
    }

    /// The manifest or index that a descriptor names.
    ///
    /// # Errors
    /// It is not here, or malformed.
    pub fn parsed(&self, descriptor: &Descriptor) -> Result<Parsed> {
        let bytes = self.read(&descriptor.digest, MANIFEST_MAX as u64)?;
        Ok(parse_any(&bytes, Some(&descriptor.media_type)).map_err(ImageError::from)?)
    }
}
