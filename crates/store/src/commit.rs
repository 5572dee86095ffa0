//! An overlay's upper folder as a layer: `docker commit` and build steps.
//!
//! It is written as a canonical archive (see [`walk`](crate::walk)), so the same content gives the same digest.

use std::path::Path;

use crate::Store;
use crate::error::Result;
use crate::layer::Layer;
use crate::lease::Lease;
use crate::walk::{Content, Walk};

/// How an upper folder becomes a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitOptions<'a> {
    /// Times after this one, in seconds since 1970, become it (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
    /// Paths, without a slash in front, that were made to be mounted over: they are left out where nothing is in them.
    pub leave_out: &'a [&'a [u8]],
}

impl Store {
    /// Makes a layer of what a workload wrote to `upper`, which nobody should be writing to.
    ///
    /// # Errors
    /// Something cannot be read, or cannot be in a layer.
    pub fn commit_upper(&self, lease: &Lease, upper: &Path, options: CommitOptions<'_>) -> Result<Layer> {
        let folder = crate::tree::open_folder(upper)?;
        self.build_layer(lease, |writer| Walk::new(writer, Content::Writes, options).folder(&folder, &[], 0))
    }
}
