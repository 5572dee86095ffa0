//! `docker save`: images as an archive that Docker, containerd, skopeo and Atoll read.
//!
//! It is an OCI image layout whose blobs are those of the store, so that every digest stays what it was, with the list
//! (`manifest.json`) that older tools look for. The same images give the same bytes: files are sorted and have no time.
//! What of an index is not in the store is left out, as a layout may.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use atoll_oci::{Descriptor, Digest, Index, Manifest, Parsed, Platform, Reference, media_type};
use serde::Serialize;

use super::oci::{NAME, NESTING_MAX, REF_NAME, path_of};
use crate::Store;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::tar::{Entry, EntryKind, Writer};

/// An image to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saving {
    /// A manifest, or an index.
    pub target: Descriptor,
    /// What the archive is to call it.
    pub names: Vec<Reference>,
}

/// An image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What goes into an archive.
#[derive(Default)]
struct Contents {
    blobs: BTreeMap<String, Digest>,
    /// Images below the target that is looked at.
    images: Vec<(Option<Platform>, Manifest)>,
}

impl Store {
    /// Writes an archive of `images`, whose blobs are put under `lease`.
    ///
    /// # Errors
    /// A blob is not here, or `to` fails.
    pub fn export_archive(&self, lease: &Lease, images: &[Saving], to: impl Write) -> Result<()> {
        let mut contents = Contents::default();
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        for image in images {
            contents.images.clear();
            self.collect(lease, &image.target, 0, &mut contents)?;
            entries.extend(described(image));
            items.extend(listed(image, &contents.images));
        }
        let mut writer = Writer::new(to);
        let algorithms: BTreeSet<String> =
            contents.blobs.values().map(|digest| digest.algorithm().to_string()).collect();
        writer.append_bytes(&Entry::new("blobs/", EntryKind::Directory, 0o755), &[])?;
        for algorithm in algorithms {
            writer.append_bytes(&Entry::new(format!("blobs/{algorithm}/"), EntryKind::Directory, 0o755), &[])?;
        }
        for (path, digest) in &contents.blobs {
            let size = self.stat(digest)?.ok_or_else(|| Error::MissingBlob(digest.clone()))?;
            writer.append(&Entry::file(path.as_str(), 0o644, size), &mut self.get(digest)?)?;
        }
        document(&mut writer, "index.json", &Index::new(entries))?;
        document(&mut writer, "manifest.json", &items)?;
        writer.append_bytes(&Entry::file("oci-layout", 0o644, 0), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        writer.finish()?;
        Ok(())
    }

    /// Adds a manifest or an index with everything that it refers to and that is here.
    fn collect(&self, lease: &Lease, target: &Descriptor, depth: usize, contents: &mut Contents) -> Result<()> {
        let mut add = |descriptor: &Descriptor| -> Result<()> {
            self.hold(lease, &descriptor.digest)?;
            contents.blobs.insert(path_of(descriptor), descriptor.digest.clone());
            Ok(())
        };
        add(target)?;
        match self.parsed(target)? {
            Parsed::Manifest(manifest) => {
                add(&manifest.config)?;
                manifest.layers.iter().try_for_each(&mut add)?;
                contents.images.push((target.platform.clone(), manifest));
                Ok(())
            }
            Parsed::Index(_) if depth == NESTING_MAX => {
                Err(Error::Limit { what: "nesting of indexes", limit: NESTING_MAX as u64 })
            }
            Parsed::Index(index) => {
                for entry in &index.manifests {
                    if self.stat(&entry.digest)?.is_some() {
                        self.collect(lease, entry, depth + 1, contents)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The entries of `index.json` for an image: one for each of its names.
fn described(image: &Saving) -> Vec<Descriptor> {
    let named = |name: &Reference| {
        let mut entry = image.target.clone();
        entry.annotations.insert(NAME.to_owned(), name.to_string());
        if let Some(tag) = name.tag() {
            entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        entry
    };
    match image.names.as_slice() {
        [] => vec![image.target.clone()],
        names => names.iter().map(named).collect(),
    }
}

/// The entry of `manifest.json`: of several platforms this host's, else the first.
fn listed(image: &Saving, images: &[(Option<Platform>, Manifest)]) -> Option<Item> {
    let is_image = |manifest: &Manifest| manifest.layers.iter().all(|layer| media_type::is_layer(&layer.media_type));
    let mut images = images.iter().filter(|(_, manifest)| is_image(manifest));
    let host = Platform::host();
    let here = |(platform, _): &&(Option<Platform>, Manifest)| platform.as_ref().is_some_and(|is| host.matches(is));
    let (_, manifest) = images.clone().find(here).or_else(|| images.next())?;
    let tags: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    Some(Item {
        config: path_of(&manifest.config),
        repo_tags: Some(tags).filter(|tags| !tags.is_empty()),
        layers: manifest.layers.iter().map(path_of).collect(),
    })
}

fn document<W: Write>(writer: &mut Writer<W>, name: &str, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).expect("plain data with text keys");
    Ok(writer.append_bytes(&Entry::file(name, 0o644, 0), &bytes)?)
}
