//! The client's end of the distribution protocol: against Debian's `docker-registry` with `skopeo` at the other end, and
//! against a registry on the loopback that lies, hangs up and asks for things.

mod hostile;
mod push;
mod real;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use atoll_store::Store;

/// An empty store in the folder.
fn store(folder: &Path) -> Store {
    let db = Arc::new(redb::Database::create(folder.join("db")).expect("a database"));
    Store::open(&folder.join("store"), db).expect("a store")
}

/// Runs a program of the host, which succeeds.
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
