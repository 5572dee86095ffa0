//! Blobs: files named by the digest of their content.
//!
//! [`Store::put`] streams into a temporary file, checks digest and size, syncs, renames, and syncs the folder; a blob that
//! has a name is therefore complete. Reading trusts the name and does not hash again.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use atoll_oci::{Descriptor, Digest, Hasher};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::lease::Lease;
use crate::{Store, tree};

/// Bytes read at once.
pub(crate) const PIECE: usize = 256 << 10;

impl Store {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Puts the blob that `reader` gives under `lease`. Does nothing, and reads nothing, when it is here already.
    ///
    /// # Errors
    /// The content is not what `expected` says; nothing is kept then.
    pub fn put(&self, lease: &Lease, expected: &Descriptor, reader: &mut dyn Read) -> Result<()> {
        if self.hold_blob(lease, &expected.digest)? {
            return match self.stat(&expected.digest)? {
                Some(found) if found != expected.size => Err(Error::Size { expected: expected.size, found }),
                _ => Ok(()),
            };
        }
        let temporary = self.temporary();
        let written = write_checked(&temporary, expected, reader);
        self.settle(written, &temporary, &expected.digest)
    }

    /// Puts `bytes` under `lease`, named by sha256.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn put_bytes(&self, lease: &Lease, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of_bytes(media_type, bytes);
        self.put(lease, &descriptor, &mut &*bytes)?;
        Ok(descriptor)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] when it is not here.
    pub fn get(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::MissingBlob(digest.clone()),
            _ => Error::io("open", &path)(error),
        })
    }

    /// The content of a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// It is not here, or longer.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        self.get(digest)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Limit { what: "size of a blob to read", limit });
        }
        Ok(bytes)
    }

    /// The length of a blob in bytes, or `None` when it is not here.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path)(error)),
        }
    }

    /// Puts `digest` under the lease and says whether that blob is here.
    pub(crate) fn hold_blob(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        let _using = self.using();
        lease.add(digest)?;
        Ok(self.stat(digest)?.is_some())
    }

    /// Gives a complete, synced temporary file its name, or removes it after a failure.
    fn settle(&self, written: Result<()>, temporary: &Path, digest: &Digest) -> Result<()> {
        let done = written.and_then(|()| {
            failpoint::hit("store.blob.written");
            self.name_blobs(&[(temporary, digest)])?;
            failpoint::hit("store.blob.renamed");
            Ok(())
        });
        if done.is_err() {
            discard(temporary);
        }
        done
    }

    /// Renames complete, synced files to their digests and syncs the folders. The digests are held by a lease.
    pub(crate) fn name_blobs(&self, files: &[(&Path, &Digest)]) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        for (file, digest) in files {
            let path = self.blob_path(digest);
            std::fs::rename(file, &path).map_err(Error::io("rename", &path))?;
            folders.extend(path.parent().map(Path::to_path_buf));
        }
        folders.iter().try_for_each(|folder| tree::sync_folder(folder))
    }
}

/// Removes a temporary file; what cannot be removed goes with the session.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = tree::delete(path) {
        tracing::debug!(%error, "a temporary file is left to the next start");
    }
}

fn write_checked(path: &Path, expected: &Descriptor, reader: &mut dyn Read) -> Result<()> {
    let mut file = File::create_new(path).map_err(Error::io("make", path))?;
    let mut hasher = Hasher::for_digest(&expected.digest);
    let mut buffer = vec![0; PIECE.min(usize::try_from(expected.size).unwrap_or(PIECE).saturating_add(1))];
    let mut size = 0u64;
    loop {
        let len = read_some(reader, &mut buffer)?;
        if len == 0 {
            break;
        }
        size += len as u64;
        if size > expected.size {
            return Err(Error::Size { expected: expected.size, found: size });
        }
        hasher.update(&buffer[..len]);
        file.write_all(&buffer[..len]).map_err(Error::io("write", path))?;
    }
    check(expected, size, &hasher.finish())?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Compares what came with what was promised.
pub(crate) fn check(expected: &Descriptor, size: u64, digest: &Digest) -> Result<()> {
    if size != expected.size {
        return Err(Error::Size { expected: expected.size, found: size });
    }
    if *digest != expected.digest {
        return Err(Error::Digest { expected: expected.digest.clone(), found: digest.clone() });
    }
    Ok(())
}

/// Reads until the buffer is full or the stream ends.
pub(crate) fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Source(error)),
        }
    }
    Ok(done)
}
