//! Compressing closed files: each exchange is made so that a reader finds the file in one form or the other at any time, also
//! when the daemon is killed between two steps.
//!
//! ```text
//!   write pack.new, sync ── lock the folder ── rename to NAME.gz ── remove NAME ── unlock
//! ```
//!
//! The file may have aged meanwhile, so its name is looked for under the lock, which supervisors hold while they rotate.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use atoll_wall::launch::LogFormat;
use flate2::{Compression, GzBuilder};
use rustix::fs::FlockOperation;

use super::file::Identity;

/// Name of a compressed file that is not finished; one writer at a time.
const UNFINISHED: &str = "pack.new";

/// A compressed file that does not yet have its name.
#[derive(Debug)]
pub struct Packed<'a> {
    folder: &'a Path,
    format: &'a LogFormat,
    of: Identity,
}

/// A compressed file that has its name, beside the one that it was made of.
#[derive(Debug)]
pub struct Published {
    plain: PathBuf,
    _lock: File,
}

/// Compresses the oldest closed file that is not, `None` when there is none.
///
/// # Errors
/// When a file cannot be read or written.
pub fn pack<'a>(folder: &'a Path, format: &'a LogFormat) -> io::Result<Option<Packed<'a>>> {
    let ages = super::ages(folder, format)?;
    let closed = |age: &u32| *age > 0 && folder.join(format.file_name(*age)).exists();
    let Some(age) = ages.into_iter().rev().find(closed) else { return Ok(None) };
    let mut plain = match File::open(folder.join(format.file_name(age))) {
        Ok(file) => file,
        // It has aged since: the next round finds it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let of = Identity::of(&plain.metadata()?);
    let unfinished = File::create(folder.join(UNFINISHED))?;
    unfinished.set_permissions(plain.metadata()?.permissions())?;
    let mut encoder = GzBuilder::new().comment(of.note()).write(unfinished, Compression::default());
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    Ok(Some(Packed { folder, format, of }))
}

impl Packed<'_> {
    /// Gives it its name; `None` when the file that it was made of is gone.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn publish(self) -> io::Result<Option<Published>> {
        let lock = File::open(self.folder)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        for age in super::ages(self.folder, self.format)? {
            let plain = self.folder.join(self.format.file_name(age));
            if std::fs::symlink_metadata(&plain).is_ok_and(|meta| Identity::of(&meta) == self.of) {
                std::fs::rename(self.folder.join(UNFINISHED), self.folder.join(self.format.packed_name(age)))?;
                return Ok(Some(Published { plain, _lock: lock }));
            }
        }
        std::fs::remove_file(self.folder.join(UNFINISHED))?;
        Ok(None)
    }
}

impl Published {
    /// Takes the plain file away.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn finish(self) -> io::Result<()> {
        std::fs::remove_file(self.plain)
    }
}
