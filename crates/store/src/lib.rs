//! Content-addressed blobs, unpacked layers, root file systems and their garbage collection.
//!
//! A layer streams in once: it is hashed, kept as a blob, decompressed, hashed again and extracted in one pass, and exists
//! from the moment its folder is renamed and its record committed. Names ([`Store::link`]), root file systems and leases
//! keep things; [`Store::sweep`] deletes the rest. Registries, builds and mounts are left out on purpose.
//!
//! Layout below the store's folder: `blobs/ALGORITHM/HEX`, `layers/ID` (the layer's root; ID is a short base-36 number so
//! that 127 of them fit one page of mount options), `roots/NAME/{upper,work,layers}`, `leases/OWNER-N`, `tmp/OWNER-N`,
//! `partial/ALGORITHM-HEX`.
//! An OWNER is a process: boot id, pid, start time. What a dead owner left is removed by [`Store::open`].
//!
//! Order of a durable change: write to `tmp/`, sync, rename, fsync of the folder, then the database record. A record
//! without its folder or a folder without its record is removed at the next start. Leases and root file systems need no
//! sync: the first cannot outlive a boot, the second follow the engine's own durable record.

#![forbid(unsafe_code)]

mod archive;
mod blob;
mod changes;
mod check;
mod commit;
mod copy;
mod error;
mod extract;
pub mod failpoint;
mod image;
mod inside;
mod layer;
mod lease;
mod measure;
mod meta;
mod owner;
mod packed;
mod partial;
mod project;
mod root;
mod stage;
mod sweep;
pub mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod unpacked;
mod usage;
mod walk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

pub use archive::{ARCHIVE_BYTES_MAX, ARCHIVE_FILES_MAX, ArchiveError, Loaded, Progress, Saving};
pub use changes::{Change, ChangeKind};
pub use check::{Problem, check, remove_useless};
pub use commit::CommitOptions;
pub use error::{Error, ImageError, Result, RootError};
pub use extract::{Extracted, LAYER_BYTES_MAX, LAYER_ENTRIES_MAX, PATH_DEPTH_MAX, extract};
pub use image::Image;
pub use inside::{Found, Inside, InsideError, PathStat, Placement};
pub use layer::{Layer, LayerSource};
pub use lease::Lease;
pub use measure::{disk_bytes, disk_bytes_without};
pub use packed::Packed;
pub use root::RootFs;
pub use stage::LayerWriter;
pub use sweep::Swept;
pub use unpacked::unpacked;
pub use usage::{Part, Parts, Usage};

/// The store of one host. Clones share it; every method may be called from any thread and may block on the disk.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    db: Arc<redb::Database>,
    /// Our own folder below `tmp/`.
    session: PathBuf,
    owner: owner::Owner,
    /// Numbers for temporary files and leases.
    counter: AtomicU64,
    /// Number of the next layer.
    next_layer: AtomicU64,
    /// Read: using or adding things under a lease. Write: deciding what is garbage and making it unreachable.
    gate: RwLock<()>,
    /// What layers take on the disk, by their folder, as far as somebody asked.
    measured: Mutex<HashMap<String, u64>>,
}

impl Store {
    /// Opens the store in `dir`, making what is missing, with its records in `db`. Removes what dead processes left
    /// half-made and ends their leases.
    ///
    /// # Errors
    /// The folder or the database cannot be used, or another version of Atoll wrote them.
    pub fn open(dir: &Path, db: Arc<redb::Database>) -> Result<Self> {
        for part in ["blobs/sha256", "blobs/sha512", "layers", "roots", "leases", "tmp", partial::FOLDER] {
            let path = dir.join(part);
            std::fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        let owner = owner::Owner::current()?;
        partial::salvage(&dir.join("tmp"), &dir.join(partial::FOLDER), &owner)?;
        owner::remove_dead(&dir.join("tmp"), &owner)?;
        owner::remove_dead(&dir.join("leases"), &owner)?;
        let next_layer = meta::prepare(&db)?;
        layer::reconcile(&dir.join("layers"), &db)?;
        let session = dir.join("tmp").join(owner.fresh_name());
        std::fs::create_dir(&session).map_err(Error::io("make", &session))?;
        let inner = Inner {
            dir: dir.to_path_buf(),
            db,
            session,
            owner,
            counter: AtomicU64::new(0),
            next_layer: AtomicU64::new(next_layer),
            gate: RwLock::new(()),
            measured: Mutex::default(),
        };
        let store = Self(Arc::new(inner));
        store.end_lost_projects()?;
        Ok(store)
    }

    /// The folder whose entries are layers: lower folders may be given to a mount relative to it.
    #[must_use]
    pub fn layers_dir(&self) -> PathBuf {
        self.0.dir.join("layers")
    }

    fn db(&self) -> &redb::Database {
        &self.0.db
    }

    /// A fresh path for something temporary, gone when this process is.
    fn temporary(&self) -> PathBuf {
        self.0.session.join(self.0.counter.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn using(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.0.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn deciding(&self) -> std::sync::RwLockWriteGuard<'_, ()> {
        self.0.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = tree::delete(&self.session) {
            tracing::debug!(%error, "temporary folder of the store is left to the next start");
        }
    }
}
