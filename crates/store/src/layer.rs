//! Unpacked layers: staged while they stream, then made to exist together with their blobs.
//!
//! [`Store::unpack`] takes any layer stream, [`Store::build_layer`] a layer that a program writes. Publishing is one
//! `syncfs`, the renames, the folders' fsync and one commit, for one layer or for many.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use atoll_oci::{Compression, Descriptor, Digest};

use crate::blob::PIECE;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::meta::{self, LayerRecord};
use crate::stage::{self, LayerWriter, Plan, Staged};
use crate::{Store, failpoint, owner, tar, tree};

/// A layer that is unpacked in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its plain archive.
    pub diff_id: Digest,
    /// The blob that it came from, where one was kept; that may have been swept since.
    pub blob: Option<Descriptor>,
    /// Its folder: the lower folder of an overlay mounted with `userxattr`.
    pub path: PathBuf,
    /// Bytes of its files.
    pub size: u64,
    /// Entries of its archive.
    pub entries: u64,
}

/// What is known of a layer before it streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerSource<'a> {
    /// Digest and size of the stream; checked when given.
    pub descriptor: Option<&'a Descriptor>,
    /// Digest of the plain archive, from the image's configuration; checked when given.
    pub diff_id: Option<&'a Digest>,
    /// How it is packed; `None` looks at its first bytes.
    pub compression: Option<Compression>,
    /// Whether to keep the stream as a blob.
    pub keep: bool,
}

impl Store {
    /// Unpacks the layer that `reader` gives, in one pass. When it is unpacked already (its `diff_id` is known, or its
    /// blob was seen before), nothing is extracted, and nothing read either unless the blob is wanted and missing.
    ///
    /// # Errors
    /// The stream is not what `source` says, or no acceptable layer; nothing is kept then.
    pub fn unpack(&self, lease: &Lease, source: LayerSource<'_>, reader: &mut dyn Read) -> Result<Layer> {
        if let Some(layer) = self.already(lease, source)? {
            if let Some(descriptor) = source.descriptor.filter(|_| source.keep) {
                self.put(lease, descriptor, reader)?;
            }
            return Ok(layer);
        }
        let staged = self.stage(source, reader)?;
        self.publish_one(lease, staged)
    }

    /// Unpacks a layer whose blob is in the store.
    ///
    /// # Errors
    /// The blob is not here, or no acceptable layer.
    pub fn unpack_blob(&self, lease: &Lease, blob: &Descriptor, diff_id: Option<&Digest>) -> Result<Layer> {
        let source = LayerSource { descriptor: Some(blob), diff_id, ..LayerSource::default() };
        if let Some(layer) = self.already(lease, source)? {
            return Ok(layer);
        }
        let mut file = self.get(&blob.digest)?;
        let staged = self.stage_known(blob, diff_id, &mut file)?;
        self.publish_one(lease, staged)
    }

    /// Makes a layer from the archive that `write` writes: kept as a plain blob and unpacked in one go.
    ///
    /// # Errors
    /// `write` fails, or what it writes is no acceptable layer.
    pub fn build_layer<E, F>(&self, lease: &Lease, write: F) -> Result<Layer, E>
    where
        E: From<Error> + From<tar::Error>,
        F: FnOnce(&mut tar::Writer<&mut LayerWriter>) -> Result<(), E>,
    {
        let plan = Plan {
            folder: self.temporary(),
            keep: Some(self.temporary()),
            expected: None,
            hash: true,
            compression: Compression::None,
        };
        let staged = stage::run(&plan, |sink| -> Result<(), E> {
            let mut writer = tar::Writer::new(sink);
            write(&mut writer)?;
            writer.finish()?;
            Ok(())
        })?;
        Ok(self.publish_one(lease, staged)?)
    }

    /// An unpacked layer by its diff id.
    ///
    /// # Errors
    /// The database fails.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        Ok(meta::layer(&self.0.db, diff_id)?.map(|record| self.layer_of(diff_id, record)))
    }

    pub(crate) fn layer_of(&self, diff_id: &Digest, record: LayerRecord) -> Layer {
        Layer {
            diff_id: diff_id.clone(),
            blob: record.blob,
            path: self.layers_dir().join(record.id),
            size: record.size,
            entries: record.entries,
        }
    }

    /// The layer, put under the lease, when it is unpacked already.
    pub(crate) fn already(&self, lease: &Lease, source: LayerSource<'_>) -> Result<Option<Layer>> {
        let _using = self.using();
        let known = match (source.diff_id, source.descriptor) {
            (Some(diff_id), _) => Some(diff_id.clone()),
            (None, Some(blob)) => meta::unpacked(&self.0.db, &blob.digest)?,
            (None, None) => None,
        };
        let Some(diff_id) = known else { return Ok(None) };
        lease.add(&diff_id)?;
        let layer = self.layer(&diff_id)?;
        Ok(layer.map(|layer| Layer { blob: source.descriptor.cloned().or(layer.blob), ..layer }))
    }

    pub(crate) fn stage(&self, source: LayerSource<'_>, reader: &mut dyn Read) -> Result<Staged> {
        let (first, compression) = start(reader, source.compression)?;
        let plan = Plan {
            folder: self.temporary(),
            keep: source
                .keep
                .then(|| source.descriptor.map_or_else(|| self.temporary(), |d| self.temporary_for(&d.digest))),
            expected: source.descriptor,
            hash: source.descriptor.is_some() || source.keep,
            compression,
        };
        let broken = |kept: &Path| self.keep_partial(kept);
        let staged = stage::run_kept(&plan, |sink| sink.copy(first, reader), &broken)?;
        check_diff_id(&staged, source.diff_id)?;
        Ok(staged)
    }

    /// Stages from a file whose digest is known already.
    pub(crate) fn stage_known(
        &self,
        blob: &Descriptor,
        diff_id: Option<&Digest>,
        reader: &mut dyn Read,
    ) -> Result<Staged> {
        let (first, compression) = start(reader, None)?;
        let plan = Plan { folder: self.temporary(), keep: None, expected: None, hash: false, compression };
        let mut staged = stage::run(&plan, |sink| sink.copy(first, reader))?;
        check_diff_id(&staged, diff_id)?;
        let mut blob = blob.clone();
        if blob.media_type.is_empty() {
            blob.media_type = compression.layer_media_type().into();
        }
        staged.blob = Some((blob, None));
        Ok(staged)
    }

    fn publish_one(&self, lease: &Lease, staged: Staged) -> Result<Layer> {
        let diff_id = staged.diff_id.clone();
        let mut layers = self.publish(lease, &[staged])?;
        layers.remove(&diff_id).ok_or(Error::MissingLayer(diff_id))
    }

    /// Makes staged layers exist: one sync for all, renames, one commit. Layers that came to exist meanwhile are dropped.
    pub(crate) fn publish(&self, lease: &Lease, staged: &[Staged]) -> Result<HashMap<Digest, Layer>> {
        failpoint::hit("store.layer.extracted");
        let folder = tree::open_folder(&self.0.session)?;
        rustix::fs::syncfs(&folder).map_err(Error::io("sync", &self.0.session))?;
        failpoint::hit("store.layer.synced");
        self.publish_synced(lease, staged)
    }

    /// As [`publish`](Self::publish), for layers whose files are on the disk already.
    pub(crate) fn publish_synced(&self, lease: &Lease, staged: &[Staged]) -> Result<HashMap<Digest, Layer>> {
        let _using = self.using();
        for layer in staged {
            lease.add(&layer.diff_id)?;
            if let Some((blob, _)) = &layer.blob {
                lease.add(&blob.digest)?;
            }
        }
        let mut blobs = Vec::new();
        let mut records = Vec::new();
        let mut result = HashMap::new();
        let mut moves = Vec::new();
        let mut next = 0;
        for layer in staged {
            let blob = layer.blob.as_ref().filter(|(_, kept)| kept.is_some());
            if let Some((descriptor, Some(kept))) = blob {
                blobs.push((kept.0.as_path(), &descriptor.digest));
            }
            if let Some(there) = self.layer(&layer.diff_id)? {
                result.insert(layer.diff_id.clone(), there);
                continue;
            }
            if result.contains_key(&layer.diff_id) {
                continue;
            }
            let number = self.0.next_layer.fetch_add(1, Ordering::Relaxed);
            next = next.max(number + 1);
            let record = LayerRecord {
                id: base36(number),
                size: layer.extracted.bytes,
                entries: layer.extracted.entries,
                blob: layer.blob.as_ref().map(|(descriptor, _)| descriptor.clone()),
            };
            moves.push((layer, self.layers_dir().join(&record.id)));
            result.insert(layer.diff_id.clone(), self.layer_of(&layer.diff_id, record.clone()));
            records.push((layer.diff_id.clone(), record));
        }
        self.name_blobs(&blobs)?;
        for (layer, to) in &moves {
            std::fs::rename(&layer.folder.0, to).map_err(Error::io("rename", to))?;
        }
        tree::sync_folder(&self.layers_dir())?;
        failpoint::hit("store.layer.renamed");
        if !records.is_empty() {
            meta::add_layers(&self.0.db, &records, next)?;
        }
        failpoint::hit("store.layer.committed");
        Ok(result)
    }
}

/// The first piece of a stream, and how it is packed.
fn start(reader: &mut dyn Read, declared: Option<Compression>) -> Result<(Vec<u8>, Compression)> {
    let mut first = vec![0; PIECE];
    let len = crate::blob::read_some(reader, &mut first)?;
    first.truncate(len);
    let compression = declared.unwrap_or_else(|| Compression::sniff(&first));
    Ok((first, compression))
}

fn check_diff_id(staged: &Staged, expected: Option<&Digest>) -> Result<()> {
    match expected {
        Some(expected) if *expected != staged.diff_id => {
            Err(Error::Digest { expected: expected.clone(), found: staged.diff_id.clone() })
        }
        _ => Ok(()),
    }
}

/// A short name for the folder of layer `number`.
fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap_or(0), 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Brings records and folders of layers together after a crash: each without the other goes.
pub(crate) fn reconcile(folder: &Path, db: &redb::Database) -> Result<()> {
    let records = meta::layers(db)?;
    let there: HashSet<String> = owner::names(folder)?.into_iter().collect();
    let lost: Vec<String> =
        records.iter().filter(|(_, r)| !there.contains(&r.id)).map(|(diff_id, _)| diff_id.clone()).collect();
    for diff_id in &lost {
        tracing::warn!(%diff_id, "the folder of a layer is gone; its record is removed");
    }
    meta::remove_layers(db, &lost)?;
    let known: HashSet<&str> = records.values().map(|r| r.id.as_str()).collect();
    for name in there.iter().filter(|name| !known.contains(name.as_str())) {
        tree::delete(&folder.join(name))?;
    }
    Ok(())
}
