//! Files for an archive: paths with contents, sorted, root's, in folders that need not be named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use atoll_store::tar::{Entry, EntryKind, Writer};
use flate2::{Compression, GzBuilder};

/// Regular files by path, which has no slash in front.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Tree {
    /// Adds a file.
    pub(super) fn file(&mut self, path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), (mode, content.into()));
    }

    /// Puts everything below a folder.
    pub(super) fn below(self, folder: &str) -> Self {
        Self { files: self.files.into_iter().map(|(path, file)| (format!("{folder}/{path}"), file)).collect() }
    }

    /// Sum of the contents' bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|(_, content)| content.len() as u64).sum()
    }

    /// The archive, its paths with `lead` before them.
    pub(super) fn gzip(&self, time: u64, lead: &str) -> Result<Vec<u8>> {
        let stamp = |mut entry: Entry| {
            entry.mtime = i64::try_from(time).unwrap_or(i64::MAX);
            entry
        };
        // Without a name and a time of its own: the same files are the same bytes.
        let packer = GzBuilder::new().write(Vec::new(), Compression::default());
        let mut writer = Writer::new(packer);
        for folder in self.folders() {
            let entry = Entry::new(format!("{lead}{folder}"), EntryKind::Directory, 0o755);
            writer.append_bytes(&stamp(entry), &[])?;
        }
        for (path, (mode, content)) in &self.files {
            let entry = Entry::file(format!("{lead}{path}"), *mode, content.len() as u64);
            writer.append_bytes(&stamp(entry), content)?;
        }
        let mut packer = writer.finish()?;
        packer.flush()?;
        Ok(packer.finish()?)
    }

    /// Every folder above a file, before those in it.
    fn folders(&self) -> BTreeSet<&str> {
        self.files.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at])).collect()
    }
}
