//! Garbage collection: mark from names, root file systems, leases and what the caller keeps; delete the rest.
//!
//! Marking and making things unreachable happen behind the gate, so nothing put under a lease meanwhile can be taken for
//! garbage; the deletion of folders happens after. A crash in between leaves folders without records, which the next start
//! removes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::{Digest, ImageConfig, Parsed, parse_any};

use crate::error::{Error, Result};
use crate::measure::disk_bytes;
use crate::meta::LayerRecord;
use crate::{Store, failpoint, meta, owner, tree};

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of both on the disk.
    pub bytes: u64,
}

/// What is needed.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<Digest>,
}

impl Marked {
    /// A layer keeps the blob that it came as: it cannot be made again from its folder, and others may ask for it.
    pub(crate) fn add_blobs_of(&mut self, layers: &BTreeMap<String, LayerRecord>) {
        for (diff_id, record) in layers {
            if diff_id.parse().is_ok_and(|diff_id| self.layers.contains(&diff_id)) {
                self.blobs.extend(record.blob.as_ref().map(|blob| blob.digest.clone()));
            }
        }
    }
}

impl Store {
    /// Deletes every blob and layer that no name, root file system, lease or digest in `keep` needs. `keep` are digests of
    /// manifests, indexes or configurations that workloads use.
    ///
    /// # Errors
    /// Something cannot be read or deleted; what is needed is never deleted.
    pub fn sweep(&self, keep: &[Digest]) -> Result<Swept> {
        let mut swept = Swept::default();
        self.sweep_partial()?;
        let trash = self.temporary();
        {
            let _deciding = self.deciding();
            let marked = self.mark(keep)?;
            failpoint::hit("store.sweep.marked");
            let garbage: Vec<_> = meta::layers(&self.0.db)?
                .into_iter()
                .filter(|(diff_id, _)| !diff_id.parse().is_ok_and(|d| marked.layers.contains(&d)))
                .collect();
            let diff_ids: Vec<String> = garbage.iter().map(|(diff_id, _)| diff_id.clone()).collect();
            meta::remove_layers(&self.0.db, &diff_ids)?;
            failpoint::hit("store.sweep.committed");
            std::fs::create_dir(&trash).map_err(Error::io("make", &trash))?;
            for (_, record) in garbage {
                let folder = self.layers_dir().join(&record.id);
                std::fs::rename(&folder, trash.join(&record.id)).map_err(Error::io("remove", &folder))?;
                self.forget_measured(&record.id);
                swept.layers += 1;
            }
            failpoint::hit("store.sweep.moved");
            self.each_blob(&mut |digest, path| {
                if !marked.blobs.contains(&digest) {
                    swept.bytes += disk_bytes(path)?;
                    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
                    swept.blobs += 1;
                }
                Ok(())
            })?;
        }
        for name in owner::names(&trash)? {
            swept.bytes += disk_bytes(&trash.join(name))?;
        }
        tree::delete(&trash)?;
        Ok(swept)
    }

    pub(crate) fn each_blob(&self, visit: &mut dyn FnMut(Digest, &Path) -> Result<()>) -> Result<()> {
        for algorithm in ["sha256", "sha512"] {
            let folder = self.0.dir.join("blobs").join(algorithm);
            for name in owner::names(&folder)? {
                let Ok(digest) = format!("{algorithm}:{name}").parse() else { continue };
                visit(digest, &folder.join(&name))?;
            }
        }
        Ok(())
    }

    fn mark(&self, keep: &[Digest]) -> Result<Marked> {
        let mut marked = Marked { layers: self.rooted()?.into_iter().collect(), ..Marked::default() };
        let leased = self.leased()?;
        marked.layers.extend(leased.iter().cloned());
        marked.blobs.extend(leased);
        let mut queue: Vec<Digest> = keep.iter().chain(&marked.blobs).cloned().collect();
        queue.extend(meta::links(&self.0.db)?.into_values().map(|d| d.digest));
        self.follow(queue, &mut marked)?;
        marked.add_blobs_of(&meta::layers(&self.0.db)?);
        Ok(marked)
    }

    /// Marks these and all that they refer to.
    pub(crate) fn follow(&self, mut queue: Vec<Digest>, marked: &mut Marked) -> Result<()> {
        let mut seen = HashSet::new();
        while let Some(digest) = queue.pop() {
            if seen.insert(digest.clone()) {
                self.mark_one(&digest, marked, &mut queue)?;
                marked.blobs.insert(digest);
            }
        }
        Ok(())
    }

    /// Marks what a manifest, an index or a configuration refers to. Other content refers to nothing; what is not here
    /// (the other platforms of an index) is nothing to keep.
    fn mark_one(&self, digest: &Digest, marked: &mut Marked, queue: &mut Vec<Digest>) -> Result<()> {
        if self.stat(digest)?.is_none_or(|size| size > CONFIG_MAX as u64) {
            return Ok(());
        }
        let bytes = self.read(digest, CONFIG_MAX as u64)?;
        match parse_any(&bytes, None) {
            Ok(Parsed::Index(index)) => queue.extend(index.manifests.into_iter().map(|d| d.digest)),
            Ok(Parsed::Manifest(manifest)) => {
                queue.push(manifest.config.digest);
                marked.blobs.extend(manifest.layers.into_iter().map(|d| d.digest));
            }
            Err(_) => {
                if let Ok(config) = ImageConfig::parse(&bytes) {
                    marked.layers.extend(config.rootfs.diff_ids);
                }
            }
        }
        Ok(())
    }
}
