//! Layers whose transfer broke off: what had come of them is kept for a while, so that the next try need not begin anew.
//!
//! A stream with a promised digest is kept in a temporary file that is named after it. When the stream breaks off, or its
//! process dies, that file moves to `partial/`. Whoever tries again reads it first; it is trusted no more than a network is:
//! the digest is taken over all of it. Nothing is synced, so after a power failure it may be of no use.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_oci::Digest;

use crate::error::{Error, Result};
use crate::owner::{self, Owner};
use crate::{Store, tree};

/// Least bytes that are worth it.
const BYTES_MIN: u64 = 1 << 20;
/// How long it is kept.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The folder.
pub(crate) const FOLDER: &str = "partial";

impl Store {
    /// What has come of a blob before, and how many bytes that are; it is the caller's now.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn take_partial(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.0.dir.join(FOLDER).join(name_of(digest));
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", &path))?,
        };
        let length = file.metadata().map_err(Error::io("look at", &path))?.len();
        // Whoever comes second begins anew.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(|()| Some((file, length))).map_err(Error::io("remove", &path)),
        }
    }

    /// A temporary path for a stream that promises to be `digest`.
    pub(crate) fn temporary_for(&self, digest: &Digest) -> PathBuf {
        let mut path = self.temporary().into_os_string();
        path.push(format!(".{}", name_of(digest)));
        path.into()
    }

    /// Keeps what has come of a stream. What cannot be kept comes again.
    pub(crate) fn keep_partial(&self, temporary: &Path) {
        if let Err(error) = keep(temporary, &self.0.dir.join(FOLDER)) {
            tracing::debug!(%error, "the part of a layer that has come is not kept");
        }
    }

    /// Deletes what nobody came back for.
    pub(crate) fn sweep_partial(&self) -> Result<()> {
        self.drop_partial(AGE_MAX).map(drop)
    }

    /// Deletes parts of layers that were not added to for so long; how many bytes of the disk they held.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn drop_partial(&self, older: Duration) -> Result<u64> {
        let folder = self.0.dir.join(FOLDER);
        let mut bytes = 0;
        for name in owner::names(&folder)? {
            let path = folder.join(name);
            let age = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > older) {
                bytes += crate::disk_bytes(&path)?;
                tree::delete(&path)?;
            }
        }
        Ok(bytes)
    }
}

fn name_of(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// Moves a temporary file to the folder of partial ones, if it is worth it.
fn keep(temporary: &Path, folder: &Path) -> std::io::Result<()> {
    let name = temporary.file_name().and_then(|name| name.to_str()?.split_once('.')).map(|(_, name)| name);
    let Some(name) = name else { return Ok(()) };
    let to = folder.join(name);
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    if length(temporary) >= BYTES_MIN.max(length(&to)) { std::fs::rename(temporary, to) } else { Ok(()) }
}

/// Keeps what processes that died were about to get.
pub(crate) fn salvage(sessions: &Path, partial: &Path, current: &Owner) -> Result<()> {
    for session in owner::names(sessions)?.into_iter().filter(|name| !owner::is_live(name, current)) {
        let session = sessions.join(session);
        for name in owner::names(&session).unwrap_or_default() {
            keep(&session.join(&name), partial).map_err(Error::io("move", session.join(name)))?;
        }
    }
    Ok(())
}
