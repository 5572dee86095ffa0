//! Copying a folder out of an image: what fills an empty volume.
//!
//! The layers are laid over each other for the moment, read-only and in no namespace that anybody sees; the folder is found
//! in there as the image's own programs would (`RESOLVE_IN_ROOT`), streams as an archive from one thread to another, and is
//! extracted beside its target, whose place it then takes by one rename.

use std::io::{BufReader, BufWriter};
use std::os::fd::OwnedFd;
use std::path::Path;

use atoll_oci::Digest;
use atoll_sys::overlay::{Overlay, privately};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::walk::{Content, Walk};
use crate::{CommitOptions, Store, extract, tar, tree};

/// Bytes that the two threads hand each other at a time.
const PIECE: usize = 256 << 10;

impl Store {
    /// Copies what the image of `layers` (lowest first) has in its folder `path` to `target`, an empty folder that the copy
    /// takes the place of, with owner, mode and everything below. False when the image has no such folder. The caller
    /// keeps the layers: by a root file system or a lease.
    ///
    /// # Errors
    /// A layer is not here, `target` is not empty, or the disk refuses; `target` is then as it was.
    pub fn copy_out(&self, layers: &[Digest], path: &str, target: &Path) -> Result<bool> {
        let root = self.look_inside(layers)?;
        let folder = match tree::open_inside(&root, path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let beside = target.with_extension("new");
        tree::delete(&beside)?;
        std::fs::create_dir(&beside).map_err(Error::io("make", &beside))?;
        let copied = copy(&folder, &beside).and_then(|()| {
            tree::sync_tree(&beside)?;
            std::fs::rename(&beside, target).map_err(Error::io("rename", target))?;
            target.parent().map_or(Ok(()), tree::sync_folder)
        });
        if copied.is_err() {
            crate::blob::discard(&beside);
        }
        copied.map(|()| true)
    }

    /// The root file system of an image, to be read by this descriptor alone.
    pub(crate) fn look_inside(&self, layers: &[Digest]) -> Result<OwnedFd> {
        // An overlay that cannot be written needs two layers: the lowest is an empty folder.
        let empty = self.temporary();
        std::fs::create_dir(&empty).map_err(Error::io("make", &empty))?;
        let base = self.layers_dir();
        let names = self.lower(layers)?.into_iter().chain([empty.clone()]);
        let lowers = names.map(|path| path.strip_prefix(&base).unwrap_or(&path).to_string_lossy().into_owned());
        let overlay = Overlay { lowers: lowers.collect(), base: base.clone(), writable: None };
        let mount =
            privately(|| overlay.mount()).and_then(|mounted| mounted).map_err(Error::io("mount layers of", base));
        crate::blob::discard(&empty);
        mount
    }
}

fn copy(from: &OwnedFd, to: &Path) -> Result<()> {
    let made = tree::open_folder(to)?;
    let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe for", to))?;
    std::thread::scope(|scope| {
        let walker = scope.spawn(move || -> Result<()> {
            let mut archive = tar::Writer::new(BufWriter::with_capacity(PIECE, writer));
            Walk::new(&mut archive, Content::Writes, CommitOptions::default()).folder(from, &[], 0)?;
            archive.finish()?;
            Ok(())
        });
        let root = made.try_clone().map_err(Error::io("read", to))?;
        let extracted = extract(&mut tar::Reader::new(BufReader::with_capacity(PIECE, reader)), root);
        // What broke off the archive says more than that it broke off.
        walker.join().unwrap_or_else(|reason| std::panic::resume_unwind(reason))?;
        extracted.map(drop)
    })?;
    let stat = rustix::fs::fstat(from).map_err(Error::io("look at", to))?;
    let fail = Error::io("set owner and mode of", to);
    let owned = rustix::fs::fchown(&made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    owned.and_then(|()| rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))).map_err(fail)
}
