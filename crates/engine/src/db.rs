//! The metadata: one embedded transactional file with a schema version.
//!
//! Tables of this crate: `engine/meta` (schema version, the root's id, the cgroup parent, when images were last used), `engine/workloads` (id →
//! what was asked for, as JSON), `engine/ended` (id → how its last run ended, or, with a
//! restart policy, that there is one), `engine/volumes` (name → volume). Names
//! of workloads are part of their record; uniqueness is checked in memory by the one process that has the file open.
//! A record that a later version wrote is not touched: the file is refused as a whole by its schema version.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use atoll_model::{Exit, Timestamp, Volume, Workload};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Name of the file below a root.
pub(crate) const FILE: &str = "atoll.redb";
/// The schema that this code reads and writes.
const SCHEMA: &str = "1";

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("engine/meta");
const WORKLOADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("engine/workloads");
const ENDED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("engine/ended");
const VOLUMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("engine/volumes");

/// The key of when images were last used.
const LAST_USES: &str = "image.uses";

/// Bytes of the page cache: metadata is small, and the daemon is to be.
const CACHE_BYTES: usize = 4 << 20;

/// How the last run of a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRun {
    pub(crate) started: Timestamp,
    /// `None`: its start failed with `failure`, or, without one, its end was not recorded.
    pub(crate) exit: Option<Exit>,
    pub(crate) failure: Option<i32>,
    /// Restarts by its policy that were before.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Whether somebody wanted its end.
    #[serde(default)]
    pub(crate) asked: bool,
}

impl LastRun {
    /// A run that goes on.
    pub(crate) const fn going_on(started: Timestamp) -> Self {
        Self { started, exit: None, failure: None, restarts: 0, asked: false }
    }
}

/// The open metadata.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    database: Arc<Database>,
}

/// A change of the metadata; what one call writes is there as a whole or not at all.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    PutWorkload(&'a Workload),
    RemoveWorkload(&'a str),
    PutEnded(&'a str, LastRun),
    PutVolume(&'a Volume),
    RemoveVolume(&'a str),
    PutLastUses(&'a BTreeMap<String, Timestamp>),
}

/// When a change must be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the call returns.
    Now,
    /// With the next change that is; recovery copes with its loss.
    Later,
}

impl Db {
    /// Opens or makes `atoll.redb` in `root`.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let path = root.join(FILE);
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path)?;
        let db = Self { database: Arc::new(database) };
        if db.schema(&path)?.is_none() {
            let write = db.database.begin_write()?;
            write.open_table(META)?.insert("schema", SCHEMA)?;
            write.open_table(WORKLOADS)?;
            write.open_table(ENDED)?;
            write.open_table(VOLUMES)?;
            write.commit()?;
        }
        Ok(db)
    }

    /// Opens a file that must be there, after checking all of it.
    pub(crate) fn open_checked(path: &Path) -> Result<Self, Error> {
        let work = {
            let path = path.to_owned();
            move || -> Result<Database, Error> {
                let mut database = Database::builder().set_cache_size(CACHE_BYTES).open(path)?;
                // What it mends itself (free pages that nobody counted after a kill) is no damage.
                database.check_integrity()?;
                Ok(database)
            }
        };
        // Damage of some kinds is found by a failed assertion.
        let database = std::thread::spawn(work).join().unwrap_or_else(|_| Err(damaged()))?;
        let db = Self { database: Arc::new(database) };
        db.schema(path)?.map(|()| db).ok_or_else(damaged)
    }

    /// Whether it has a schema, which must be ours.
    fn schema(&self, path: &Path) -> Result<Option<()>, Error> {
        let Some(found) = self.meta("schema")? else { return Ok(None) };
        if found == SCHEMA {
            return Ok(Some(()));
        }
        Err(Error::Unsupported(format!(
            "{} was made by a newer Atoll (schema {found}, this one knows {SCHEMA}): use that version, or another --root",
            path.display()
        )))
    }

    /// The handle that other crates keep their tables in.
    pub(crate) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    fn meta(&self, key: &str) -> Result<Option<String>, Error> {
        let read = self.database.begin_read()?;
        match read.open_table(META) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_owned())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The value of a key, which is chosen once.
    pub(crate) fn meta_or_insert(&self, key: &str, choose: impl FnOnce() -> String) -> Result<String, Error> {
        if let Some(value) = self.meta(key)? {
            return Ok(value);
        }
        let value = choose();
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert(key, value.as_str())?;
        write.commit()?;
        Ok(value)
    }

    /// The value of a key, which is chosen once, as JSON; nothing is recorded when the choice fails.
    pub(crate) fn value_or_insert<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        choose: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(text) = self.meta(key)? {
            return decode(text.as_bytes());
        }
        let value = choose()?;
        let text = String::from_utf8(encode(&value)).expect("JSON is UTF-8");
        self.meta_or_insert(key, || text)?;
        Ok(value)
    }

    /// Writes changes in one transaction.
    pub(crate) fn apply(&self, changes: &[Change<'_>], when: When) -> Result<(), Error> {
        let mut write = self.database.begin_write()?;
        if when == When::Later {
            write.set_durability(Durability::None).map_err(redb::Error::from)?;
        }
        for change in changes {
            match change {
                Change::PutWorkload(workload) => {
                    write.open_table(WORKLOADS)?.insert(workload.id.as_str(), encode(workload).as_slice())?;
                }
                Change::RemoveWorkload(id) => {
                    write.open_table(WORKLOADS)?.remove(id)?;
                    write.open_table(ENDED)?.remove(id)?;
                }
                Change::PutEnded(id, last) => {
                    write.open_table(ENDED)?.insert(id, encode(last).as_slice())?;
                }
                Change::PutVolume(volume) => {
                    write.open_table(VOLUMES)?.insert(volume.name.as_str(), encode(volume).as_slice())?;
                }
                Change::RemoveVolume(name) => {
                    write.open_table(VOLUMES)?.remove(name)?;
                }
                Change::PutLastUses(uses) => {
                    let text = String::from_utf8(encode(uses)).expect("JSON is UTF-8");
                    write.open_table(META)?.insert(LAST_USES, text.as_str())?;
                }
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Every workload with how its last run ended.
    pub(crate) fn workloads(&self) -> Result<Vec<(Workload, Option<LastRun>)>, Error> {
        let read = self.database.begin_read()?;
        let ended = read.open_table(ENDED)?;
        let mut all = Vec::new();
        for item in read.open_table(WORKLOADS)?.iter()? {
            let (id, value) = item?;
            let last = ended.get(id.value())?.map(|value| decode(value.value())).transpose()?;
            all.push((decode(value.value())?, last));
        }
        Ok(all)
    }

    /// When each image was last used, by its id.
    pub(crate) fn last_uses(&self) -> Result<BTreeMap<String, Timestamp>, Error> {
        self.meta(LAST_USES)?.map_or_else(|| Ok(BTreeMap::new()), |text| decode(text.as_bytes()))
    }

    /// Every volume.
    pub(crate) fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(VOLUMES)?;
        let mut all = Vec::new();
        for item in table.iter()? {
            all.push(decode(item?.1.value())?);
        }
        Ok(all)
    }
}

/// Whether a file below a root is the metadata, or a copy of it.
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_prefix(FILE).is_some_and(|rest| rest.is_empty() || rest.starts_with(".schema-"))
}

fn damaged() -> Error {
    Error::Host { doing: "reading the metadata".to_owned(), source: std::io::ErrorKind::InvalidData.into() }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are plain data with string keys")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Host {
        doing: "reading a record of the metadata".to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}
