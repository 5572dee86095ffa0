//! Parent folders by descriptor: resolved by the kernel inside the layer's root, made where missing, kept while in use.
//!
//! [`Folders::parent`] gives the folder in which an entry is to be made. Symbolic links on the way resolve inside the root
//! (`RESOLVE_IN_ROOT`); a link to nowhere gets its folder made, as an absolute link into a lower layer needs.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::name;

/// How many folders are kept open.
const OPEN_MAX: usize = 128;
/// How many links to nowhere one path may lead through.
const DANGLING_MAX: usize = 8;

const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folders of a layer that is being made.
pub(super) struct Folders {
    root: Rc<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// The folder asked for last: archives list a folder's entries together.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Folders that took the place of a whiteout and so must be opaque.
    made_over_whiteout: Vec<Vec<u8>>,
}

impl Folders {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), open: HashMap::new(), last: None, made_over_whiteout: Vec::new() }
    }

    /// The folder `path` (clean), made with what leads to it where it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        self.find(path, true)
    }

    /// The folder `path` (clean), which must exist.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        self.find(path, false)
    }

    fn find(&mut self, path: &[u8], make: bool) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open.get(path) {
            Some(fd) => Rc::clone(fd),
            None => {
                let fd = match self.resolve(path, PLACE) {
                    Err(Errno::NOENT | Errno::NOTDIR) if make => self.make(path, 0)?,
                    other => other?,
                };
                if self.open.len() == OPEN_MAX {
                    self.open.clear();
                }
                let fd = Rc::new(fd);
                self.open.insert(path.to_vec(), Rc::clone(&fd));
                fd
            }
        };
        self.last = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Forgets what was resolved: something that exists was replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.last = None;
    }

    /// Folders made in the place of whiteouts since the last call.
    pub(super) fn take_made_over_whiteout(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.made_over_whiteout)
    }

    /// Opens a folder of the layer so that its attributes can be set; its last component is not followed.
    pub(super) fn open_for_attributes(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let (folder, last) = name::split(path);
        let parent = self.existing(folder)?;
        let last = if last.is_empty() { b"." } else { last };
        rustix::fs::openat(&*parent, last, crate::tree::FOLDER, Mode::empty())
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        crate::tree::open_inside(&self.root, path, flags)
    }

    /// Makes `path` component by component. Everything is resolved afresh from the root, so that `..` in the target of a
    /// link is the kernel's to resolve.
    fn make(&mut self, path: &[u8], dangling: usize) -> Result<OwnedFd, Errno> {
        if dangling > DANGLING_MAX {
            return Err(Errno::LOOP);
        }
        let mut end = 0;
        let mut folder = self.resolve(b".", PLACE)?;
        for part in path.split(|b| *b == b'/') {
            let before = end;
            end += part.len() + 1;
            let prefix = &path[..end - 1];
            if matches!(part, b"" | b".") {
                continue;
            }
            folder = match self.resolve(prefix, PLACE) {
                Ok(next) => next,
                Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                    if part == b".." {
                        return Err(error);
                    }
                    self.make_one(&folder, &path[..before.saturating_sub(1)], prefix, part, dangling)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(folder)
    }

    fn make_one(
        &mut self,
        folder: &OwnedFd,
        above: &[u8],
        prefix: &[u8],
        part: &[u8],
        dangling: usize,
    ) -> Result<OwnedFd, Errno> {
        match rustix::fs::mkdirat(folder, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.reset_mode(prefix),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => {
                        let target = rustix::fs::readlinkat(folder, part, Vec::new())?;
                        let target = target.as_bytes();
                        let target =
                            if target.starts_with(b"/") { target.to_vec() } else { [above, b"/", target].concat() };
                        self.make(&target, dangling + 1)
                    }
                    _ if is_whiteout(&stat) => {
                        rustix::fs::unlinkat(folder, part, AtFlags::empty())?;
                        rustix::fs::mkdirat(folder, part, Mode::from_raw_mode(0o755))?;
                        self.forget();
                        self.made_over_whiteout.push(prefix.to_vec());
                        self.reset_mode(prefix)
                    }
                    _ => Err(Errno::NOTDIR),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a folder just made without an entry of its own and takes the process's umask and clock out of it.
    fn reset_mode(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let fd = self.resolve(path, OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        Ok(fd)
    }
}

/// Whether a file is an overlay whiteout: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
