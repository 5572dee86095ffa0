//! Putting a package's files into the tree, without running any of its scripts.
//!
//! Entries of `data.tar` stream into the tree as they come; what the package calls its own files is noted for dpkg's
//! database. Left out: diversions and statoverrides (scripts make those, in the `apt` variant's container).

use std::fs::File;
use std::path::Path;

use atoll_store::tar::{self, EntryKind};

use crate::deb::{self, Content, ControlFiles, Deb};
use crate::packages::Package;
use crate::tree::{self, Meta, Node, Tree};

/// Why a package could not be put into the tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The package itself is broken.
    #[error("package {package} cannot be unpacked")]
    Deb {
        /// Its name.
        package: String,
        /// What is wrong with it.
        source: deb::Error,
    },
    /// Its files do not fit into the tree.
    #[error("the files of package {package} cannot be placed")]
    Tree {
        /// Its name.
        package: String,
        /// What is in the way.
        source: tree::Error,
    },
    /// The package calls itself something else than the index does.
    #[error("the file of package {package} calls itself {found}: the mirror's index is wrong")]
    OtherPackage {
        /// Its name in the index.
        package: String,
        /// Name and version in the file.
        found: String,
    },
}

/// What is left of a package beside its files.
#[derive(Debug)]
pub struct Unpacked {
    /// The package.
    pub package: Package,
    /// Its control files.
    pub control: ControlFiles,
    /// Its own paths as dpkg lists them: absolute, `/.` for the root, in the order of the archive.
    pub paths: Vec<String>,
}

/// Adds the files of the package in `path` to the tree.
pub fn unpack(tree: &mut Tree, package: &Package, path: &Path) -> Result<Unpacked, Error> {
    let broken = |source: deb::Error| Error::Deb { package: package.name.clone(), source };
    let deb = File::open(path).map_err(deb::Error::from).and_then(Deb::open).map_err(broken)?;
    let control = deb.control().map_err(broken)?;
    check_identity(package, &control)?;
    let mut paths = Vec::new();
    let mut reader = tar::Reader::new(deb.data().map_err(broken)?);
    while let Some(entry) = reader.next_entry().map_err(|error| broken(error.into()))? {
        let listed = String::from_utf8_lossy(&entry.path).into_owned();
        let listed = listed.trim_start_matches("./").trim_matches('/').to_owned();
        paths.push(if listed.is_empty() { "/.".to_owned() } else { format!("/{listed}") });
        let meta = Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
        let place = |source| Error::Tree { package: package.name.clone(), source };
        if entry.sparse.is_some() {
            return Err(broken(deb::Error::Format("it has a sparse file")));
        }
        match &entry.kind {
            EntryKind::Directory => tree.folder(&entry.path, meta),
            EntryKind::File => tree.file_from(&entry.path, meta, entry.size, &mut Content(&mut reader)),
            EntryKind::Symlink(target) => tree.link(&entry.path, meta, target),
            EntryKind::HardLink(target) => tree.hard_link(&entry.path, target),
            EntryKind::CharDevice { major, minor } => {
                tree.special(&entry.path, Node::Device(meta, false, *major, *minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                tree.special(&entry.path, Node::Device(meta, true, *major, *minor))
            }
            EntryKind::Fifo => tree.special(&entry.path, Node::Fifo(meta)),
        }
        .map_err(place)?;
    }
    Ok(Unpacked { package: package.clone(), control, paths })
}

/// The control file must be of the package that the index promised.
fn check_identity(package: &Package, control: &ControlFiles) -> Result<(), Error> {
    let text = control.get("control").map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let paragraph = crate::control::Paragraph::new(&text);
    let field = |name| paragraph.get(name).unwrap_or("?");
    if field("Package") == package.name && field("Version") == package.version {
        return Ok(());
    }
    Err(Error::OtherPackage {
        package: package.name.clone(),
        found: format!("{} {}", field("Package"), field("Version")),
    })
}
