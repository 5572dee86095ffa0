//! OCI image layouts (OCI image spec, image layout): `index.json` and `blobs/ALGORITHM/HEX`.
//!
//! Each entry of the index is one image, or an index of images of which those whose manifests are in the archive must be
//! complete. Names come from the annotations that containerd, Docker and skopeo write.

use atoll_oci::manifest::{MANIFEST_MAX, ManifestError};
use atoll_oci::{Descriptor, Index, Manifest, Parsed, Reference, parse_any};

use super::spool::Spooled;
use super::{ArchiveError, Import, Loaded};
use crate::error::Result;

/// A full image name (containerd, Docker).
pub(super) const NAME: &str = "io.containerd.image.name";
/// A tag, or a full image name (OCI).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How deep indexes may nest.
pub(super) const NESTING_MAX: usize = 4;
/// Most entries of one index.
const ENTRIES_MAX: usize = 1000;

impl Import<'_> {
    pub(super) fn layout(&mut self) -> Result<Vec<Loaded>> {
        let bytes = self.files.get("index.json")?.bytes(MANIFEST_MAX as u64)?;
        let Parsed::Index(index) = parse_any(&bytes, None).map_err(ArchiveError::from)? else {
            return Err(ArchiveError::from(ManifestError::Ambiguous("index.json is a manifest")).into());
        };
        let mut loaded: Vec<Loaded> = Vec::new();
        for entry in entries(&index)? {
            let names = names(entry)?;
            let mut manifest = entry.clone();
            manifest.annotations.clear();
            if !self.target(&manifest, 0)? {
                return Err(ArchiveError::Missing(path_of(entry)).into());
            }
            match loaded.iter_mut().find(|l| l.manifest.digest == manifest.digest) {
                Some(same) => same.names.extend(names),
                None => loaded.push(Loaded { names, manifest }),
            }
        }
        Ok(loaded)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Spooled, ArchiveError> {
        let path = path_of(descriptor);
        let file = self.files.get(&path)?;
        if file.digest != descriptor.digest {
            return Err(ArchiveError::Digest { path, found: file.digest });
        }
        if file.size != descriptor.size {
            return Err(ArchiveError::Size { path, found: file.size, expected: descriptor.size });
        }
        Ok(file)
    }

    /// Takes a manifest or an index over with everything below it. False when it is not in the archive.
    fn target(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool> {
        let file = match self.blob(descriptor) {
            Err(ArchiveError::Missing(_)) => return Ok(false),
            other => other?,
        };
        let bytes = file.bytes(MANIFEST_MAX as u64)?;
        match parse_any(&bytes, Some(&descriptor.media_type)).map_err(ArchiveError::from)? {
            Parsed::Manifest(manifest) => self.manifest(&manifest)?,
            Parsed::Index(_) if depth == NESTING_MAX => return Err(ArchiveError::Limit("nesting of indexes").into()),
            Parsed::Index(index) => {
                let mut any = false;
                for entry in entries(&index)? {
                    any |= self.target(entry, depth + 1)?;
                }
                if !any {
                    return Err(ArchiveError::Missing(path_of(descriptor)).into());
                }
            }
        }
        self.keep(file);
        Ok(true)
    }

    fn manifest(&mut self, manifest: &Manifest) -> Result<()> {
        let config = self.blob(&manifest.config)?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            layers.push((path_of(layer), self.blob(layer)?));
        }
        if manifest.layers.iter().any(|l| !atoll_oci::media_type::is_layer(&l.media_type)) {
            // An attestation or another artifact: kept beside the image, nothing to unpack.
            layers.into_iter().for_each(|(_, file)| self.keep(file));
            self.keep(config);
            return Ok(());
        }
        self.image(config, &layers)?;
        Ok(())
    }
}

fn entries(index: &Index) -> Result<&[Descriptor], ArchiveError> {
    if index.manifests.len() > ENTRIES_MAX {
        return Err(ArchiveError::Limit("number of images"));
    }
    Ok(&index.manifests)
}

pub(super) fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/{}/{}", descriptor.digest.algorithm(), descriptor.digest.hex())
}

/// The names of an entry. A bare tag names nothing by itself and is passed over.
fn names(entry: &Descriptor) -> Result<Vec<String>, ArchiveError> {
    if let Some(name) = entry.annotations.get(NAME) {
        return parse(name).map(|name| vec![name]);
    }
    match entry.annotations.get(REF_NAME) {
        Some(name) if name.contains([':', '/']) => parse(name).map(|name| vec![name]),
        _ => Ok(Vec::new()),
    }
}

/// A name of an archive in canonical form.
pub(super) fn parse(name: &str) -> Result<String, ArchiveError> {
    let wrong = |source| ArchiveError::Name { name: name.chars().take(200).collect(), source };
    Ok(Reference::parse(name).map_err(wrong)?.to_string())
}
