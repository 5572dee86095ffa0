//! What is behind an image's names: the manifests of the index that one stands for, with what of each is here.

use atoll_oci::{Descriptor, Digest, Parsed, Platform};

use crate::{Engine, Error, host};

/// On the entry of an index: what it is (BuildKit's attestation storage).
const TYPE: &str = "vnd.docker.reference.type";
/// The value for an attestation.
const ATTESTATION: &str = "attestation-manifest";
/// On the entry of an index: which other entry an attestation is about.
const ABOUT: &str = "vnd.docker.reference.digest";
/// How deep indexes may nest.
const NESTING_MAX: usize = 4;

/// One manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestView {
    /// The manifest, as the index or the name has it.
    pub descriptor: Descriptor,
    /// What it is for.
    pub kind: ManifestKind,
    /// Whether all of it is here.
    pub is_here: bool,
    /// Bytes of its blobs that are here.
    pub content: u64,
}

/// What a manifest is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image for a platform.
    Image {
        /// The platform, where it is known.
        platform: Option<Platform>,
        /// Bytes of its unpacked layers that are here.
        unpacked: u64,
    },
    /// Statements about another manifest: how it was made, what is in it.
    Attestation {
        /// That manifest.
        about: Option<Digest>,
    },
}

impl Engine {
    /// The manifests behind the names of the image with this id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn manifests(&self, id: &Digest) -> Result<Vec<ManifestView>, Error> {
        let (engine, id) = (self.clone(), id.clone());
        host::blocking(move || {
            let mut found = Vec::new();
            for (_, target) in engine.links_to(&id)? {
                engine.collect(&target, 0, &mut found)?;
            }
            Ok(found)
        })
        .await
    }

    fn collect(&self, target: &Descriptor, depth: usize, found: &mut Vec<ManifestView>) -> Result<(), Error> {
        if found.iter().any(|known| known.descriptor.digest == target.digest) {
            return Ok(());
        }
        let store = &self.shared.store;
        let here = store.stat(&target.digest)?;
        let parsed = if here.is_some() { Some(store.parsed(target)?) } else { None };
        let manifest = match parsed {
            Some(Parsed::Index(_)) if depth == NESTING_MAX => return Ok(()),
            Some(Parsed::Index(index)) => {
                return index.manifests.iter().try_for_each(|entry| self.collect(entry, depth + 1, found));
            }
            Some(Parsed::Manifest(manifest)) => Some(manifest),
            None => None,
        };
        let image = if manifest.is_some() { store.image(&target.digest).ok() } else { None };
        let mut content = here.unwrap_or(0);
        let mut complete = manifest.is_some();
        for blob in manifest.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config])) {
            let size = store.stat(&blob.digest)?;
            content += size.unwrap_or(0);
            complete &= size.is_some();
        }
        let kind = if target.annotations.get(TYPE).is_some_and(|kind| kind == ATTESTATION) {
            ManifestKind::Attestation { about: target.annotations.get(ABOUT).and_then(|digest| digest.parse().ok()) }
        } else {
            ManifestKind::Image {
                platform: target.platform.clone().or_else(|| image.as_ref().map(|image| image.config.platform())),
                unpacked: image.iter().flat_map(|image| &image.layers).map(|layer| layer.size).sum(),
            }
        };
        // An image's layers may be here unpacked alone.
        let is_here = complete || image.is_some();
        found.push(ManifestView { descriptor: target.clone(), kind, is_here, content });
        Ok(())
    }
}
