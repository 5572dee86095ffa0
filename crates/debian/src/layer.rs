//! Writing a tree as a canonical layer: one tar, sorted by path, the same bytes for the same tree.
//!
//! Parents come before children; a file with several names carries its contents at the first and is a hard link at the
//! others, as the store's writer spells entries. Left out: whiteouts, which a first layer cannot need.

use std::collections::HashMap;
use std::io::Write;

use atoll_store::tar::{Entry, EntryKind, Error, Writer};

use crate::tree::{FileId, Meta, Node, Tree};

/// Writes all entries of the tree.
pub fn write<W: Write>(tree: &Tree, writer: &mut Writer<W>) -> Result<(), Error> {
    let mut first_names: HashMap<FileId, Vec<u8>> = HashMap::new();
    for (path, node) in tree.nodes() {
        let (meta, kind) = match node {
            Node::Folder(meta) => (*meta, EntryKind::Directory),
            Node::Link(meta, target) => (Meta { mode: 0o777, ..*meta }, EntryKind::Symlink(target.clone())),
            Node::Fifo(meta) => (*meta, EntryKind::Fifo),
            Node::Device(meta, true, major, minor) => (*meta, EntryKind::BlockDevice { major: *major, minor: *minor }),
            Node::Device(meta, false, major, minor) => (*meta, EntryKind::CharDevice { major: *major, minor: *minor }),
            Node::File(id) => {
                let (meta, size) = tree.file(*id);
                if let Some(first) = first_names.get(id) {
                    (meta, EntryKind::HardLink(first.clone()))
                } else {
                    first_names.insert(*id, path.to_vec());
                    let mut contents = tree.open(*id).map_err(|error| Error::Io(std::io::Error::other(error)))?;
                    writer.append(&Entry { size, ..entry(path, meta, EntryKind::File) }, &mut contents)?;
                    continue;
                }
            }
        };
        writer.append(&entry(path, meta, kind), &mut std::io::empty())?;
    }
    Ok(())
}

fn entry(path: &[u8], meta: Meta, kind: EntryKind) -> Entry {
    Entry { uid: meta.uid, gid: meta.gid, mtime: meta.mtime, ..Entry::new(path, kind, meta.mode) }
}
