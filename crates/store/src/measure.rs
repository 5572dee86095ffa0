//! Measuring folder trees as `du -s -B1` does: the blocks of everything in them and of themselves, hard links once.
//!
//! Blocks, not lengths: that is what a disk has less. A sparse file counts for what it takes, a folder for its list of names.
//! The walk is by descriptor and follows no link, whatever a workload puts in its way; what goes away meanwhile, or cannot be
//! looked at, is not counted.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::tree::FOLDER;

/// Bytes of a path after which a folder of it is held open, so that any depth is reached.
const PATH_MAX: usize = 1024;
/// How many such folders lie above each other. What is deeper than those is not counted: no program wants it, and each costs a
/// descriptor.
const HELD_MAX: usize = 64;
/// Bytes of a block in `stat`.
const BLOCK: u64 = 512;

/// What `path` and everything in it take on the disk, in bytes; nothing there takes nothing.
///
/// # Errors
/// It cannot be read itself.
pub fn disk_bytes(path: &Path) -> Result<u64> {
    disk_bytes_without(path, &HashSet::new())
}

/// The same without the folders `left_out`, which are named as they lie below `path`.
///
/// # Errors
/// It cannot be read itself.
pub fn disk_bytes_without(path: &Path, left_out: &HashSet<PathBuf>) -> Result<u64> {
    match rustix::fs::open(path, FOLDER, Mode::empty()) {
        Ok(top) => walk(top, left_out).map_err(Error::io("measure", path)),
        Err(Errno::NOENT) => Ok(0),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let stat = rustix::fs::lstat(path).map_err(Error::io("measure", path))?;
            Ok(taken(&stat))
        }
        Err(error) => Err(Error::io("measure", path)(error)),
    }
}

/// A folder to be walked through.
struct Place {
    /// A folder above it, held open.
    base: Rc<OwnedFd>,
    /// How many such are above each other.
    held: usize,
    /// Where it is from there.
    path: Vec<u8>,
}

fn walk(top: OwnedFd, left_out: &HashSet<PathBuf>) -> Result<u64, Errno> {
    use std::os::unix::ffi::OsStrExt;
    let is_left_out =
        |place: &Place| place.held == 0 && left_out.contains(Path::new(std::ffi::OsStr::from_bytes(&place.path)));
    let mut total = taken(&rustix::fs::fstat(&top)?);
    let mut seen = HashSet::new();
    let mut queue = vec![Place { base: Rc::new(top), held: 0, path: Vec::new() }];
    while let Some(mut place) = queue.pop() {
        let Some(folder) = open(&place) else { continue };
        let Ok(names) = Dir::read_from(&folder) else { continue };
        let folder = Rc::new(folder);
        if place.path.len() > PATH_MAX && place.held < HELD_MAX {
            place = Place { base: Rc::clone(&folder), held: place.held + 1, path: Vec::new() };
        }
        // The list of a folder that is removed meanwhile ends with an error.
        for entry in names.map_while(Result::ok) {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let inner =
                Place { base: Rc::clone(&place.base), held: place.held, path: join(&place.path, name.to_bytes()) };
            if is_folder && is_left_out(&inner) {
                continue;
            }
            if is_folder || stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) {
                total = total.saturating_add(taken(&stat));
            }
            if is_folder {
                queue.push(inner);
            }
        }
    }
    Ok(total)
}

/// Opens a folder; none where it has gone, became something else, is deeper than is counted, or cannot be read: a server's that
/// somebody mounted in a volume and that does not answer.
fn open(place: &Place) -> Option<OwnedFd> {
    let path: &[u8] = if place.path.is_empty() { b"." } else { &place.path };
    rustix::fs::openat2(&*place.base, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn taken(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// What `du` says, the folders of the last arguments left out.
    fn du(path: &Path, more: &[&str]) -> u64 {
        let output = Command::new("du").args(["-s", "-B1"]).args(more).arg(path).output().expect("du is there");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    #[test]
    fn it_is_what_du_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let check = |what: &str| assert_eq!(disk_bytes(dir.path()).expect("measured"), du(dir.path(), &[]), "{what}");
        check("an empty folder");
        fs::create_dir_all(at("a/b/c")).expect("folders");
        fs::write(at("a/big"), vec![7; 1_000_000]).expect("a file");
        fs::write(at("a/b/small"), "x").expect("a file");
        fs::File::create(at("a/sparse")).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
        check("files and folders");
        fs::hard_link(at("a/big"), at("a/b/c/again")).expect("a link");
        std::os::unix::fs::symlink("/usr", at("a/out")).expect("a link");
        check("links");
        assert_eq!(disk_bytes(&at("a/small?")).expect("measured"), 0, "nothing");
        let without = disk_bytes_without(dir.path(), &HashSet::from([PathBuf::from("a/b")])).expect("measured");
        // The last name of a file that has two is counted with the first folder that has it.
        assert_eq!(without, du(dir.path(), &["--exclude=b"]));
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted() {
        let dir = tempfile::tempdir().expect("a folder");
        let name = "n".repeat(200);
        let mut folder = rustix::fs::open(dir.path(), FOLDER, Mode::empty()).expect("opened");
        for _ in 0..60 {
            rustix::fs::mkdirat(&folder, &name, Mode::RWXU).expect("made");
            folder = rustix::fs::openat(&folder, &name, FOLDER, Mode::empty()).expect("opened");
        }
        assert_eq!(disk_bytes(dir.path()).expect("measured"), du(dir.path(), &[]));
        crate::tree::delete(dir.path()).expect("deleted");
        fs::create_dir(dir.path()).expect("put back for whoever made it");
    }
}
