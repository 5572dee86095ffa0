//! Leases: what is on its way (pull, push, build, snapshot) and must survive a sweep although nothing names it yet.
//!
//! A lease is a file named after its owner; a line is added for each thing *before* that thing is looked for or made. No
//! sync is needed: the record must outlive this process, never this boot. Dropping the lease removes it.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use atoll_oci::Digest;

use crate::error::{Error, Result};
use crate::{Store, owner};

/// Keeps what is put under it from being swept. Ends when it is dropped, or at the next start after its process died.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    file: File,
    lines: HashSet<String>,
}

impl Store {
    /// Takes a lease; `purpose` says what for, to whoever looks.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn lease(&self, purpose: &str) -> Result<Lease> {
        let path = self.0.dir.join("leases").join(self.0.owner.fresh_name());
        let mut file = File::options().create_new(true).append(true).open(&path).map_err(Error::io("make", &path))?;
        let purpose: String = purpose.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        file.write_all(format!("for {purpose}\n").as_bytes()).map_err(Error::io("write", &path))?;
        Ok(Lease { path, held: Mutex::new(Held { file, lines: HashSet::new() }) })
    }

    /// Puts a blob or layer that exists already under `lease`.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub fn hold(&self, lease: &Lease, digest: &Digest) -> Result<()> {
        let _using = self.using();
        lease.add(digest)
    }

    /// Everything that live leases hold: blobs and diff ids alike.
    pub(crate) fn leased(&self) -> Result<HashSet<Digest>> {
        let folder = self.0.dir.join("leases");
        let mut all = HashSet::new();
        for name in owner::names(&folder)? {
            if !owner::is_live(&name, &self.0.owner) {
                continue;
            }
            let path = folder.join(&name);
            match std::fs::read_to_string(&path) {
                Ok(text) => all.extend(text.lines().filter_map(|l| l.strip_prefix("holds ")?.parse::<Digest>().ok())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(all)
    }
}

impl Lease {
    /// Records `digest`; the caller is inside the gate.
    pub(crate) fn add(&self, digest: &Digest) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let line = format!("holds {digest}\n");
        if held.lines.contains(&line) {
            return Ok(());
        }
        held.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        held.lines.insert(line);
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = ?self.path, %error, "a lease cannot be removed and ends with this process");
        }
    }
}
