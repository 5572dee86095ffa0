//! Bootstraps from mirrors: one in a folder that the tests make, and a real one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bootstrap;
mod network;
mod signature;
mod support;

use std::path::Path;
use std::sync::Arc;

use atoll_store::Store;

/// A store in a folder of its own.
fn store(folder: &Path) -> Store {
    std::fs::create_dir_all(folder).unwrap();
    let database = redb::Database::create(folder.join("test.redb")).unwrap();
    Store::open(&folder.join("store"), Arc::new(database)).unwrap()
}
