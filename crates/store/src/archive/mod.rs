//! `docker load` and `docker save`: image archives, as Docker's `save` and as OCI image layouts, plain, gzip or zstd.
//!
//! Files are spooled and hashed as they come, in any order, and what looks like a layer is unpacked by other threads at the
//! same time; at the end manifests are read (or made, for Docker's format), everything they need is checked, and all of it
//! comes to exist behind one sync. Docker's format of before 1.10 (without `manifest.json`) is refused.

mod docker;
mod oci;
mod save;
mod spool;

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use atoll_oci::config::ConfigError;
use atoll_oci::manifest::ManifestError;
use atoll_oci::{Compression, Descriptor, Digest, Manifest};

use crate::blob::PIECE;
use crate::error::{Error, Result};
use crate::layer::LayerSource;
use crate::lease::Lease;
use crate::stage::{self, Staged};
use crate::{Store, failpoint, tree};
pub use save::Saving;
use spool::{Spool, Spooled};

/// Most files in an archive.
pub const ARCHIVE_FILES_MAX: usize = 100_000;
/// Largest sum of the files in an archive, bytes.
pub const ARCHIVE_BYTES_MAX: u64 = 256 << 30;
/// Threads that unpack layers while the archive streams.
const UNPACKERS: usize = 2;

/// Why an archive is no acceptable image archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither `manifest.json` nor `index.json`.
    #[error("it has neither manifest.json nor index.json: make it with docker save, or as an OCI image layout")]
    NoImage,
    /// A path that leads outside, or a link that leads nowhere.
    #[error("{0:?} is a path or link that does not stay inside the archive")]
    Path(String),
    /// A path that comes twice with different content.
    #[error("{0:?} is in it twice, with different content")]
    Duplicate(String),
    /// A file whose name is a digest that its content does not have.
    #[error("{path:?} has the digest {found}: it is corrupt")]
    Digest {
        /// The file.
        path: String,
        /// Its true digest.
        found: Digest,
    },
    /// A file that a manifest names and nobody brought.
    #[error("{0:?} is missing from it: it is incomplete")]
    Missing(String),
    /// A file whose length is not what its descriptor says.
    #[error("{path:?} has {found} bytes where {expected} were promised")]
    Size {
        /// The file.
        path: String,
        /// Its length.
        found: u64,
        /// What its descriptor says.
        expected: u64,
    },
    /// A JSON file of the archive that does not parse.
    #[error("its {name} cannot be read")]
    Json {
        /// Which file.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest that does not parse.
    #[error("a manifest in it is not acceptable")]
    Manifest(#[from] ManifestError),
    /// A configuration that does not parse.
    #[error("an image configuration in it is not acceptable")]
    Config(#[from] ConfigError),
    /// Manifest and configuration disagree about the number of layers.
    #[error("an image in it names {layers} layers, its configuration {diff_ids}")]
    Layers {
        /// Layers named.
        layers: usize,
        /// Diff ids in the configuration.
        diff_ids: usize,
    },
    /// A layer whose plain archive has another digest than the configuration says.
    #[error("the layer {path:?} unpacks to {found}, its configuration says {expected}")]
    DiffId {
        /// The file.
        path: String,
        /// What it unpacks to.
        found: Digest,
        /// What it should.
        expected: Digest,
    },
    /// An image name that does not parse.
    #[error("the image name {name:?} in it is not acceptable")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: atoll_oci::reference::ReferenceError,
    },
    /// More than a named limit.
    #[error("it exceeds the limit for its {0}")]
    Limit(&'static str),
}

/// An image that an archive brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The names that the archive gives it: canonical references. The caller links them.
    pub names: Vec<String>,
    /// Its manifest, or an index where the archive holds several platforms: see [`Store::select`].
    pub manifest: Descriptor,
}

/// How far an import has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of files read so far.
    Read(u64),
    /// A layer blob was unpacked.
    Unpacked(Digest),
    /// Everything is read; it is being synced to the disk.
    Saving,
}

/// A layer blob to unpack: its digest and size, and where it was spooled.
type Job = Spooled;

/// What the unpackers made of each blob.
#[derive(Default)]
struct Unpacked(HashMap<Digest, Result<Option<Staged>>>);

impl Store {
    /// Loads the images of the archive that `reader` gives, under `lease`. Layers are unpacked, nothing is linked yet.
    ///
    /// # Errors
    /// The archive is malformed, hostile or incomplete; nothing of it is reachable then.
    pub fn import_archive(
        &self,
        lease: &Lease,
        reader: &mut (dyn Read + Send),
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<Loaded>> {
        let folder = self.temporary();
        std::fs::create_dir(&folder).map_err(Error::io("make", &folder))?;
        let result = self.import_into(lease, reader, progress, &folder);
        if let Err(error) = tree::delete(&folder) {
            tracing::debug!(%error, "a spool is left to the next start");
        }
        result
    }

    fn import_into(
        &self,
        lease: &Lease,
        reader: &mut (dyn Read + Send),
        progress: &(dyn Fn(Progress) + Sync),
        folder: &std::path::Path,
    ) -> Result<Vec<Loaded>> {
        let (jobs, queue) = sync_channel::<Job>(ARCHIVE_FILES_MAX);
        let queue = Mutex::new(queue);
        let unpacked = Mutex::new(Unpacked::default());
        let spool = std::thread::scope(|scope| {
            for _ in 0..UNPACKERS {
                scope.spawn(|| self.unpacker(lease, &queue, &unpacked, progress));
            }
            let mut spool = Spool::new(folder.to_path_buf(), jobs, progress);
            let mut reader = BufReader::with_capacity(PIECE, reader);
            let start = std::io::BufRead::fill_buf(&mut reader).map_err(Error::Source)?;
            let compression = Compression::sniff(start);
            let plain = stage::decoder(reader, compression).map_err(Error::Compression)?;
            let read = spool.read(plain);
            // The end of the jobs is what ends the threads.
            let spool = spool.close();
            read.map(|()| spool)
        })?;
        failpoint::hit("store.import.spooled");
        let mut import = Import {
            store: self,
            lease,
            files: spool,
            unpacked: unpacked.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).0,
            staged: Vec::new(),
            blobs: HashMap::new(),
            diff_ids: HashMap::new(),
        };
        let loaded = import.images()?;
        progress(Progress::Saving);
        import.save()?;
        Ok(loaded)
    }

    /// Unpacks what comes in the queue until that ends.
    fn unpacker(
        &self,
        lease: &Lease,
        queue: &Mutex<Receiver<Job>>,
        unpacked: &Mutex<Unpacked>,
        progress: &(dyn Fn(Progress) + Sync),
    ) {
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            let result = self.unpack_spooled(lease, &job);
            if result.is_ok() {
                progress(Progress::Unpacked(job.digest.clone()));
            }
            unpacked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.insert(job.digest, result);
        }
    }

    /// Stages a spooled blob; `None` when its layer exists already.
    fn unpack_spooled(&self, lease: &Lease, job: &Job) -> Result<Option<Staged>> {
        let blob = Descriptor::new("", job.digest.clone(), job.size);
        let source = LayerSource { descriptor: Some(&blob), ..LayerSource::default() };
        if self.already(lease, source)?.is_some() {
            return Ok(None);
        }
        self.stage_known(&blob, None, &mut *job.open()?).map(Some)
    }
}

/// An archive that was read, on its way into the store.
struct Import<'a> {
    store: &'a Store,
    lease: &'a Lease,
    files: spool::Files,
    unpacked: HashMap<Digest, Result<Option<Staged>>>,
    /// Layers to publish.
    staged: Vec<Staged>,
    /// Files that become blobs.
    blobs: HashMap<Digest, Spooled>,
    /// What blobs unpack to.
    diff_ids: HashMap<Digest, Digest>,
}

impl Import<'_> {
    fn images(&mut self) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        let layout = self.files.has("index.json");
        if layout {
            loaded = self.layout()?;
        }
        if self.files.has("manifest.json") {
            self.docker(&mut loaded)?;
        } else if !layout {
            return Err(ArchiveError::NoImage.into());
        }
        Ok(loaded)
    }

    /// Takes a file over as a blob.
    fn keep(&mut self, file: Spooled) {
        self.blobs.insert(file.digest.clone(), file);
    }

    /// Makes sure that `file` unpacks, to `expected`.
    fn layer(&mut self, path: &str, file: &Spooled, expected: &Digest) -> Result<()> {
        if !self.diff_ids.contains_key(&file.digest) {
            let diff_id = self.unpack(file)?;
            self.diff_ids.insert(file.digest.clone(), diff_id);
        }
        match self.diff_ids.get(&file.digest) {
            Some(found) if found != expected => {
                Err(ArchiveError::DiffId { path: path.into(), found: found.clone(), expected: expected.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    fn unpack(&mut self, file: &Spooled) -> Result<Digest> {
        let staged = match self.unpacked.remove(&file.digest) {
            Some(done) => done?,
            None => self.store.unpack_spooled(self.lease, file)?,
        };
        if let Some(staged) = staged {
            let diff_id = staged.diff_id.clone();
            self.staged.push(staged);
            return Ok(diff_id);
        }
        let blob = Descriptor::new("", file.digest.clone(), file.size);
        let source = LayerSource { descriptor: Some(&blob), ..LayerSource::default() };
        let layer = self.store.already(self.lease, source)?;
        layer.map(|l| l.diff_id).ok_or_else(|| Error::MissingLayer(file.digest.clone()))
    }

    /// Checks an image's configuration against its layers and takes over all its files. `layers` are paths and files,
    /// lowest first.
    fn image(&mut self, config: Spooled, layers: &[(String, Spooled)]) -> Result<atoll_oci::ImageConfig> {
        let limit = atoll_oci::config::CONFIG_MAX as u64;
        let parsed = atoll_oci::ImageConfig::parse(&config.bytes(limit)?).map_err(ArchiveError::from)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(ArchiveError::Layers { layers: layers.len(), diff_ids: diff_ids.len() }.into());
        }
        for ((path, file), diff_id) in layers.iter().zip(diff_ids) {
            self.layer(path, file, diff_id)?;
            self.keep(file.clone());
        }
        self.keep(config);
        Ok(parsed)
    }

    /// Takes a manifest over that was made here.
    fn keep_manifest(&mut self, manifest: &Manifest, media_type: &str) -> Descriptor {
        let bytes = serde_json::to_vec(manifest).expect("a manifest has text keys only");
        let descriptor = Descriptor::of_bytes(media_type, &bytes);
        self.keep(Spooled::in_memory(descriptor.digest.clone(), bytes));
        descriptor
    }

    /// Syncs, names and records everything that images need.
    fn save(self) -> Result<()> {
        let Self { store, lease, blobs, staged, .. } = self;
        let mut needed = Vec::new();
        for (digest, file) in &blobs {
            if !store.hold_blob(lease, digest)? {
                needed.push((digest, file.on_disk(|| store.temporary())?));
            }
        }
        let mut seen = HashSet::new();
        let staged: Vec<_> = staged.into_iter().filter(|s| seen.insert(s.diff_id.clone())).collect();
        let session = tree::open_folder(&store.0.session)?;
        // One sync covers the blobs too when layers are published with it.
        rustix::fs::syncfs(&session).map_err(Error::io("sync", &store.0.session))?;
        failpoint::hit("store.blob.written");
        let files: Vec<_> = needed.iter().map(|(digest, path)| (path.as_path(), *digest)).collect();
        store.name_blobs(&files)?;
        failpoint::hit("store.blob.renamed");
        store.publish_synced(lease, &staged)?;
        Ok(())
    }
}
