//! What Atoll's tests share: temporary hosts and folders, a root file system, tiny images.
//!
//! A dev-dependency only, and of no crate of the workspace itself, so that any crate may use it. Helpers make real
//! things: [`TempHost`] runs the built `atolld` on state of its own, [`Image`] writes archives that any engine loads.
//! Left out: the driver conformance suite, which comes with the second driver.

#![forbid(unsafe_code)]

mod distribution;
mod host;
mod image;
pub mod machine;
mod registry;
mod rootfs;
mod tar;
#[cfg(test)]
mod tests;
mod user;

use std::path::{Path, PathBuf};

pub use distribution::{Distribution, make_certificates, own_name, require_programs};
pub use host::TempHost;
pub use image::{Image, Layer, Published};
pub use registry::{Answer, Registry, Seen};
pub use rootfs::busybox_rootfs;
pub use tempfile::TempDir;
pub use user::{SUBORDINATE_IDS, TestUser};

/// A folder below the system's temporary one, removed when dropped.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn tempdir() -> TempDir {
    tempfile::Builder::new().prefix("atoll-test-").tempdir().expect("the temporary folder takes a folder")
}

/// Whether the test runs as root; says that it is skipped where not. Use: `if !require_root() { return; }`.
#[must_use]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub fn require_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// The program `name` of this workspace, built beside the running test (`target/<triple>/<profile>/`).
///
/// # Panics
/// Where it is not built, saying how to build it: a test of programs cannot run without them.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    // …/release/deps/test-0123 or …/release/test.
    let folders = test.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap_or_else(|| {
        let beside = test.parent().unwrap_or(Path::new("/")).display();
        panic!("{name} is not built beside {beside}: run cargo build --release --workspace --bins")
    })
}
