//! The `minimal` variant: the wanted packages and what they need, unpacked; nothing of them is run.
//!
//! Packages go into the tree in order of name, then come accounts, links for busybox's applets, and each package's control
//! data as `/var/lib/dpkg/status.d/NAME`, where scanners of images look. Left out: maintainer scripts, and so everything
//! that they would make (alternatives, caches, users of daemons).

use std::path::PathBuf;

use crate::arch::Arch;
use crate::packages::Package;
use crate::release::Release;
use crate::tree::{self, Meta, Tree};
use crate::unpack::{self, Unpacked};
use crate::{Progress, Stage, base, busybox};

/// Names under which busybox may lie.
const BUSYBOX: &str = "bin/busybox";

/// Why the tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package failed.
    #[error(transparent)]
    Unpack(#[from] unpack::Error),
    /// Our own additions failed.
    #[error("the base files cannot be placed")]
    Base(#[from] tree::Error),
    /// busybox is there, but its table of applets is not.
    #[error("the applets of busybox cannot be found in /{BUSYBOX}: please report its version")]
    NoApplets,
}

/// Puts packages into a tree in order of name, telling how many are done.
pub(crate) fn unpack_all(
    tree: &mut Tree,
    debs: &[(Package, PathBuf)],
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Vec<Unpacked>, unpack::Error> {
    let total = debs.len() as u64;
    let mut all = Vec::with_capacity(debs.len());
    for (at, (package, path)) in debs.iter().enumerate() {
        progress(Progress { stage: Stage::Unpack, item: package.name.clone(), current: at as u64, total });
        all.push(unpack::unpack(tree, package, path)?);
    }
    progress(Progress { stage: Stage::Unpack, item: String::new(), current: total, total });
    Ok(all)
}

/// Fills the tree of a minimal image.
pub fn build(
    tree: &mut Tree,
    (arch, release): (Arch, &Release),
    debs: &[(Package, PathBuf)],
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Error> {
    base::skeleton(tree, arch, release)?;
    let all = unpack_all(tree, debs, progress)?;
    base::fill(tree, release)?;
    for unpacked in &all {
        let name = &unpacked.package.name;
        for (file, end) in [("control", ""), ("md5sums", ".md5sums")] {
            if let Some((_, bytes)) = unpacked.control.get(file) {
                let path = format!("var/lib/dpkg/status.d/{name}{end}");
                tree.write(&path, Meta::root(0o644, release.date), bytes)?;
            }
        }
    }
    if all.iter().any(|unpacked| unpacked.package.name.starts_with("busybox")) {
        link_applets(tree, release.date)?;
    }
    Ok(())
}

/// Links each applet in `/bin` to busybox, unless a package brought a program of that name anywhere on the path.
fn link_applets(tree: &mut Tree, time: i64) -> Result<(), Error> {
    let Some(binary) = tree.read(BUSYBOX)? else { return Ok(()) };
    let applets = busybox::applets(&binary);
    if applets.is_empty() {
        return Err(Error::NoApplets);
    }
    for applet in applets {
        let taken =
            ["bin", "sbin", "usr/local/bin"].iter().any(|folder| tree.get(&format!("{folder}/{applet}")).is_some());
        if !taken {
            tree.link(format!("bin/{applet}").as_bytes(), Meta::root(0o777, time), b"busybox")?;
        }
    }
    Ok(())
}
