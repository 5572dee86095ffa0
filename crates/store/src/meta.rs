//! The store's tables in the metadata database, and its schema version.
//!
//! `store/meta` holds the version and the next layer's number; `store/layers` maps diff ids to layers, `store/unpacked`
//! the digests of layer blobs to diff ids, `store/links` names to manifests, `store/packed` diff ids and media types to what
//! layers were packed to for others, `store/projects` root file systems to the numbers that limit them. Values are JSON except
//! in the first.

use std::collections::{BTreeMap, BTreeSet};

use atoll_oci::{Descriptor, Digest};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Version of the tables and of the layout on disk.
const SCHEMA: u64 = 1;
const VERSION: &str = "version";
const NEXT_LAYER: &str = "next-layer";
/// The first number of this store's projects.
const FIRST_PROJECT: &str = "first-project";

type Texts = TableDefinition<'static, &'static str, &'static str>;
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("store/meta");
const LAYERS: Texts = TableDefinition::new("store/layers");
const UNPACKED: Texts = TableDefinition::new("store/unpacked");
const LINKS: Texts = TableDefinition::new("store/links");
const PACKED: Texts = TableDefinition::new("store/packed");
const PROJECTS: Texts = TableDefinition::new("store/projects");

/// What is recorded of an unpacked layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Name of its folder.
    pub(crate) id: String,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Entries of its archive.
    pub(crate) entries: u64,
    /// The blob that it came from, if that was kept.
    pub(crate) blob: Option<Descriptor>,
}

/// Makes the tables, checks the version, and gives the number of the next layer.
pub(crate) fn prepare(db: &Database) -> Result<u64> {
    let txn = db.begin_write()?;
    let next = {
        let mut meta = txn.open_table(META)?;
        let found = meta.get(VERSION)?.map(|v| v.value());
        match found {
            None => {
                meta.insert(VERSION, SCHEMA)?;
            }
            Some(SCHEMA) => {}
            Some(found) => return Err(Error::Schema { found, expected: SCHEMA }),
        }
        for table in [LAYERS, UNPACKED, LINKS, PACKED, PROJECTS] {
            txn.open_table(table)?;
        }
        meta.get(NEXT_LAYER)?.map_or(0, |v| v.value())
    };
    txn.commit()?;
    Ok(next)
}

fn parse<T: DeserializeOwned>(text: &str, table: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| Error::Record(table))
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records have text keys and no foreign serialisers")
}

fn all<T: DeserializeOwned>(db: &Database, table: Texts, name: &'static str) -> Result<BTreeMap<String, T>> {
    let txn = db.begin_read()?;
    let mut list = BTreeMap::new();
    for item in txn.open_table(table)?.iter()? {
        let (key, value) = item?;
        list.insert(key.value().to_owned(), parse(value.value(), name)?);
    }
    Ok(list)
}

fn one<T: DeserializeOwned>(db: &Database, table: Texts, name: &'static str, key: &str) -> Result<Option<T>> {
    let txn = db.begin_read()?;
    let table = txn.open_table(table)?;
    let value = table.get(key)?;
    value.map(|v| parse(v.value(), name)).transpose()
}

pub(crate) fn layer(db: &Database, diff_id: &Digest) -> Result<Option<LayerRecord>> {
    one(db, LAYERS, "store/layers", &diff_id.to_string())
}

pub(crate) fn layers(db: &Database) -> Result<BTreeMap<String, LayerRecord>> {
    all(db, LAYERS, "store/layers")
}

/// Which layer a blob unpacks to, if it once did.
pub(crate) fn unpacked(db: &Database, blob: &Digest) -> Result<Option<Digest>> {
    one(db, UNPACKED, "store/unpacked", &blob.to_string())
}

/// Records layers, all or none; `next` is the number after the largest of theirs.
pub(crate) fn add_layers(db: &Database, layers: &[(Digest, LayerRecord)], next: u64) -> Result<()> {
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        let before = meta.get(NEXT_LAYER)?.map_or(0, |v| v.value());
        meta.insert(NEXT_LAYER, before.max(next))?;
        let mut table = txn.open_table(LAYERS)?;
        let mut unpacked = txn.open_table(UNPACKED)?;
        for (diff_id, record) in layers {
            table.insert(diff_id.to_string().as_str(), text(record).as_str())?;
            if let Some(blob) = &record.blob {
                unpacked.insert(blob.digest.to_string().as_str(), text(diff_id).as_str())?;
            }
        }
    }
    txn.commit()?;
    Ok(())
}

/// Forgets layers and which blobs unpack to them.
pub(crate) fn remove_layers(db: &Database, diff_ids: &[String]) -> Result<()> {
    if diff_ids.is_empty() {
        return Ok(());
    }
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(LAYERS)?;
        for diff_id in diff_ids {
            table.remove(diff_id.as_str())?;
        }
        let gone: Vec<String> = diff_ids.iter().map(text).collect();
        txn.open_table(UNPACKED)?.retain(|_, diff_id| !gone.iter().any(|g| g == diff_id))?;
        let of_gone = |key: &str| key.split_once(' ').is_some_and(|(diff_id, _)| diff_ids.iter().any(|g| g == diff_id));
        txn.open_table(PACKED)?.retain(|key, _| !of_gone(key))?;
    }
    txn.commit()?;
    Ok(())
}

/// What a layer was packed to as `media_type`, if it once was.
pub(crate) fn packed(db: &Database, diff_id: &Digest, media_type: &str) -> Result<Option<Descriptor>> {
    one(db, PACKED, "store/packed", &format!("{diff_id} {media_type}"))
}

/// Records what a layer was packed to.
pub(crate) fn note_packed(db: &Database, diff_id: &Digest, packed: &Descriptor) -> Result<()> {
    let txn = db.begin_write()?;
    {
        let key = format!("{diff_id} {}", packed.media_type);
        txn.open_table(PACKED)?.insert(key.as_str(), text(packed).as_str())?;
    }
    txn.commit()?;
    Ok(())
}

pub(crate) fn links(db: &Database) -> Result<BTreeMap<String, Descriptor>> {
    all(db, LINKS, "store/links")
}

pub(crate) fn link(db: &Database, name: &str) -> Result<Option<Descriptor>> {
    one(db, LINKS, "store/links", name)
}

/// Sets a name; gives what it named before.
pub(crate) fn set_link(db: &Database, name: &str, target: Option<&Descriptor>) -> Result<Option<Descriptor>> {
    let txn = db.begin_write()?;
    let before = {
        let mut table = txn.open_table(LINKS)?;
        let before = match target {
            Some(target) => table.insert(name, text(target).as_str())?,
            None => table.remove(name)?,
        };
        before.map(|v| parse(v.value(), "store/links")).transpose()?
    };
    txn.commit()?;
    Ok(before)
}

/// The number that limits a root file system, if one does.
pub(crate) fn project(db: &Database, root: &str) -> Result<Option<u32>> {
    one(db, PROJECTS, "store/projects", root)
}

pub(crate) fn projects(db: &Database) -> Result<BTreeMap<String, u32>> {
    all(db, PROJECTS, "store/projects")
}

/// Records a number for a root file system: the lowest that no other has and that is free. Numbers begin at `first`, which is
/// asked for once in a store's life.
pub(crate) fn claim_project(
    db: &Database,
    root: &str,
    first: impl FnOnce() -> Result<u32>,
    is_free: impl Fn(u32) -> Result<bool>,
) -> Result<u32> {
    let txn = db.begin_write()?;
    let number = {
        let mut meta = txn.open_table(META)?;
        let known = meta.get(FIRST_PROJECT)?.and_then(|value| u32::try_from(value.value()).ok());
        let first = match known {
            Some(first) => first,
            None => {
                let first = first()?;
                meta.insert(FIRST_PROJECT, u64::from(first))?;
                first
            }
        };
        let mut table = txn.open_table(PROJECTS)?;
        let mut taken = BTreeSet::new();
        for item in table.iter()? {
            taken.insert(parse::<u32>(item?.1.value(), "store/projects")?);
        }
        let mut number = first;
        while taken.contains(&number) || !is_free(number)? {
            number += 1;
        }
        table.insert(root, text(&number).as_str())?;
        number
    };
    txn.commit()?;
    Ok(number)
}

pub(crate) fn forget_project(db: &Database, root: &str) -> Result<()> {
    let txn = db.begin_write()?;
    txn.open_table(PROJECTS)?.remove(root)?;
    txn.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_never_shared_and_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::create(folder.path().join("db")).unwrap();
        prepare(&db).unwrap();
        let of_others = |number| Ok(number != 101);
        let claim = |root: &str, first: u32| claim_project(&db, root, || Ok(first), of_others).unwrap();
        assert_eq!((claim("a", 100), claim("b", 500), claim("c", 500)), (100, 102, 103));
        assert_eq!(project(&db, "b").unwrap(), Some(102));
        forget_project(&db, "b").unwrap();
        assert_eq!((project(&db, "b").unwrap(), claim("d", 500)), (None, 102));
        assert_eq!(projects(&db).unwrap().into_keys().collect::<Vec<_>>(), ["a", "c", "d"]);
        let failing = |_: u32| Err(Error::Record("none"));
        assert!(claim_project(&db, "e", || Ok(1), failing).is_err());
        assert_eq!(project(&db, "e").unwrap(), None);
    }
}
