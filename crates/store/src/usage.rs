//! What the store takes on the disk, and what of that each image keeps there.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use atoll_oci::Digest;

use crate::error::Result;
use crate::measure::disk_bytes;
use crate::sweep::Marked;
use crate::{Store, meta};

/// What the store holds, in bytes of the disk (see [`disk_bytes`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of names.
    pub links: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of their folder.
    pub blob_bytes: u64,
    /// Number of unpacked layers.
    pub layers: u64,
    /// Bytes of their folder.
    pub layer_bytes: u64,
    /// Number of root file systems.
    pub roots: u64,
}

/// Something that an image keeps, and that others may keep too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A blob.
    Blob(Digest),
    /// An unpacked layer, by its diff id.
    Layer(Digest),
}

/// What something keeps, each with its bytes on the disk.
pub type Parts = HashMap<Part, u64>;

impl Store {
    /// Counts and bytes of everything in the store.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let layers = meta::layers(&self.0.db)?;
        let known: HashSet<_> = layers.values().map(|layer| layer.id.clone().into()).collect();
        let mut usage = Usage {
            links: meta::links(&self.0.db)?.len() as u64,
            layers: layers.len() as u64,
            layer_bytes: crate::measure::disk_bytes_without(&self.layers_dir(), &known)?,
            blob_bytes: disk_bytes(&self.0.dir.join("blobs"))?,
            roots: self.roots()?.len() as u64,
            ..Usage::default()
        };
        for layer in layers.values() {
            usage.layer_bytes += self.layer_bytes(&layer.id)?;
        }
        self.each_blob(&mut |_, _| {
            usage.blobs += 1;
            Ok(())
        })?;
        Ok(usage)
    }

    /// What each of these groups of manifests and indexes keeps in the store.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn kept_by(&self, groups: &[Vec<Digest>]) -> Result<Vec<Parts>> {
        let _using = self.using();
        let layers = meta::layers(&self.0.db)?;
        let kept = |group: &Vec<Digest>| {
            let mut marked = Marked::default();
            self.follow(group.clone(), &mut marked)?;
            marked.add_blobs_of(&layers);
            let mut parts = Parts::new();
            for diff_id in marked.layers {
                if let Some(record) = layers.get(&diff_id.to_string()) {
                    parts.insert(Part::Layer(diff_id), self.layer_bytes(&record.id)?);
                }
            }
            for digest in marked.blobs {
                let bytes = disk_bytes(&self.blob_path(&digest))?;
                parts.insert(Part::Blob(digest), bytes);
            }
            Ok(parts)
        };
        groups.iter().map(kept).collect()
    }

    /// Whether somebody holds one of these by a lease.
    ///
    /// # Errors
    /// A lease cannot be read.
    pub fn is_leased(&self, parts: &Parts) -> Result<bool> {
        let leased = self.leased()?;
        Ok(parts.keys().any(|(Part::Blob(digest) | Part::Layer(digest))| leased.contains(digest)))
    }

    /// What a layer takes. It is never written again, so it is measured once.
    fn layer_bytes(&self, id: &str) -> Result<u64> {
        let known = || self.0.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = known().get(id) {
            return Ok(*bytes);
        }
        let bytes = disk_bytes(&self.layers_dir().join(id))?;
        // One that goes meanwhile takes nothing, and its number is not given again.
        known().insert(id.to_owned(), bytes);
        Ok(bytes)
    }

    pub(crate) fn forget_measured(&self, id: &str) {
        self.0.measured.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
