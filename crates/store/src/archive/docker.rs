//! Docker's image archives (moby image specification 1.2): `manifest.json` names a configuration and layers by path.
//!
//! Such an image has no manifest of its own, so one of schema 2 is made: the same archive gives the same digest. Archives
//! of Docker 25 and later are OCI layouts besides, and then only give names here.

use std::collections::HashMap;

use atoll_oci::manifest::LAYERS_MAX;
use atoll_oci::{Compression, Descriptor, Digest, Manifest, media_type};
use serde::Deserialize;

use super::spool::Spooled;
use super::{ArchiveError, Import, Loaded, oci};
use crate::error::{Error, Result};

/// Longest `manifest.json`, bytes.
const LIST_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Import<'_> {
    /// Adds the images of `manifest.json` that the layout has not brought, and names to those that it has.
    pub(super) fn docker(&mut self, loaded: &mut Vec<Loaded>) -> Result<()> {
        let bytes = self.files.get("manifest.json")?.bytes(LIST_MAX)?;
        let wrong = |source| ArchiveError::Json { name: "manifest.json".into(), source };
        let items: Vec<Item> = serde_json::from_slice(&bytes).map_err(wrong)?;
        let mut by_config = self.by_config(loaded)?;
        for item in items {
            let names = item.repo_tags.unwrap_or_default();
            let names: Vec<String> = names.iter().map(|n| oci::parse(n)).collect::<Result<_, _>>()?;
            let config = self.files.get(&item.config)?;
            let at = match by_config.get(&config.digest) {
                Some(at) => *at,
                None => {
                    let manifest = self.made(config.clone(), &item.layers.unwrap_or_default())?;
                    loaded.push(Loaded { names: Vec::new(), manifest });
                    by_config.insert(config.digest, loaded.len() - 1);
                    loaded.len() - 1
                }
            };
            for name in names {
                if !loaded[at].names.contains(&name) {
                    loaded[at].names.push(name);
                }
            }
        }
        Ok(())
    }

    /// Which image has which configuration.
    fn by_config(&self, loaded: &[Loaded]) -> Result<HashMap<Digest, usize>> {
        let mut known = HashMap::new();
        for (at, image) in loaded.iter().enumerate() {
            let Some(file) = self.blobs.get(&image.manifest.digest) else { continue };
            let bytes = file.bytes(LIST_MAX)?;
            match atoll_oci::parse_any(&bytes, None).map_err(ArchiveError::from)? {
                atoll_oci::Parsed::Manifest(manifest) => {
                    known.insert(manifest.config.digest, at);
                }
                // `docker save` names the configuration of one platform of the index.
                atoll_oci::Parsed::Index(index) => {
                    for entry in index.manifests {
                        let Some(child) = self.blobs.get(&entry.digest) else { continue };
                        if let Ok(atoll_oci::Parsed::Manifest(m)) = atoll_oci::parse_any(&child.bytes(LIST_MAX)?, None)
                        {
                            known.insert(m.config.digest, at);
                        }
                    }
                }
            }
        }
        Ok(known)
    }

    /// The manifest of an image that has none.
    fn made(&mut self, config: Spooled, paths: &[String]) -> Result<Descriptor> {
        if paths.len() > LAYERS_MAX {
            return Err(ArchiveError::Limit("number of layers").into());
        }
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        for path in paths {
            let file = self.files.get(path)?;
            let mut start = [0; 4];
            let len = crate::blob::read_some(&mut *file.open()?, &mut start)?;
            let media_type = match Compression::sniff(&start[..len]) {
                Compression::None => media_type::DOCKER_LAYER,
                Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
                Compression::Zstd => media_type::DOCKER_LAYER_ZSTD,
            };
            descriptors.push(Descriptor::new(media_type, file.digest.clone(), file.size));
            layers.push((path.clone(), file));
        }
        let described = Descriptor::new(media_type::DOCKER_CONFIG, config.digest.clone(), config.size);
        self.image(config, &layers)?;
        let mut manifest = Manifest::new(described, descriptors);
        manifest.media_type = Some(media_type::DOCKER_MANIFEST.into());
        Ok::<_, Error>(self.keep_manifest(&manifest, media_type::DOCKER_MANIFEST))
    }
}
