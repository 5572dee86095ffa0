//! Garbage collection: mark from names, root file systems, leases and what the caller keeps; delete the rest.
//!
//! Marking and making things unreachable happen behind the gate, so nothing put under a lease meanwhile can be taken for
//! garbage; the deletion of folders happens after. A crash in between leaves folders without records, which the next start
//! removes.

use std::collections::HashSet;
use std::path::Path;

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::{Digest, ImageConfig, Parsed, parse_any};

use crate::error::{Error, Result};
use crate::{Store, failpoint, meta, owner, tree};

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of names.
    pub links: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Number of unpacked layers.
    pub layers: u64,
    /// Bytes of their files.
    pub layer_bytes: u64,
    /// Number of root file systems.
    pub roots: u64,
}

#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
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
                swept.layers += 1;
                swept.bytes += record.size;
            }
            failpoint::hit("store.sweep.moved");
            self.each_blob(&mut |digest, size, path| {
                if !marked.blobs.contains(&digest) {
                    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
                    swept.blobs += 1;
                    swept.bytes += size;
                }
                Ok(())
            })?;
        }
        tree::delete(&trash)?;
        Ok(swept)
    }

    /// Counts and bytes of everything in the store.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let layers = meta::layers(&self.0.db)?;
        let mut usage = Usage {
            links: meta::links(&self.0.db)?.len() as u64,
            layers: layers.len() as u64,
            layer_bytes: layers.values().map(|l| l.size).sum(),
            roots: self.roots()?.len() as u64,
            ..Usage::default()
        };
        self.each_blob(&mut |_, size, _| {
            usage.blobs += 1;
            usage.blob_bytes += size;
            Ok(())
        })?;
        Ok(usage)
    }

    fn each_blob(&self, visit: &mut dyn FnMut(Digest, u64, &Path) -> Result<()>) -> Result<()> {
        for algorithm in ["sha256", "sha512"] {
            let folder = self.0.dir.join("blobs").join(algorithm);
            for name in owner::names(&folder)? {
                let Ok(digest) = format!("{algorithm}:{name}").parse() else { continue };
                let path = folder.join(&name);
                match std::fs::metadata(&path) {
                    Ok(meta) => visit(digest, meta.len(), &path)?,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("look at", &path)(error)),
                }
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
        let mut seen = HashSet::new();
        while let Some(digest) = queue.pop() {
            if seen.insert(digest.clone()) {
                self.mark_one(&digest, &mut marked, &mut queue)?;
                marked.blobs.insert(digest);
            }
        }
        // A layer keeps the blob that it came as: it cannot be made again from its folder, and others may ask for it.
        for (diff_id, record) in meta::layers(&self.0.db)? {
            if diff_id.parse().is_ok_and(|diff_id| marked.layers.contains(&diff_id)) {
                marked.blobs.extend(record.blob.map(|blob| blob.digest));
            }
        }
        Ok(marked)
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
