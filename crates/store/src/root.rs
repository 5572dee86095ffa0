//! Root file systems of workloads: a writable folder over a stack of layers, to be mounted by the shim.
//!
//! A root is the folder `roots/NAME` with `upper`, `work` and a file that lists its layers, and that is all its record:
//! nothing is synced, because the engine's own durable record says whether it should exist.

use std::path::{Path, PathBuf};

use atoll_oci::Digest;

use crate::error::{Error, Result, RootError};
use crate::{Store, failpoint, owner, tree};

/// The folders of an overlay mount (`userxattr`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFs {
    /// Read-only folders, top first. Each lies in [`Store::layers_dir`].
    pub lower: Vec<PathBuf>,
    /// What the workload writes.
    pub upper: PathBuf,
    /// The overlay's own.
    pub work: PathBuf,
}

const LAYERS: &str = "layers";

impl Store {
    fn root_path(&self, id: &str) -> Result<PathBuf> {
        let sound = !id.is_empty()
            && !id.starts_with('.')
            && id.len() <= 128
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let path = self.0.dir.join("roots").join(id);
        if sound {
            Ok(path)
        } else {
            let wrong = std::io::Error::new(std::io::ErrorKind::InvalidInput, "its name is not acceptable");
            Err(Error::io("use", path)(wrong))
        }
    }

    /// Makes the root file system `id` over `layers`, given lowest first, in which `limit` bytes can be written. It keeps
    /// those layers until it is removed.
    ///
    /// # Errors
    /// A layer is not here, the root exists, or the disk cannot limit it.
    pub fn create_root(&self, id: &str, layers: &[Digest], limit: Option<u64>) -> Result<RootFs> {
        let path = self.root_path(id)?;
        let _using = self.using();
        let lower = self.lower(layers)?;
        if path.exists() {
            return Err(RootError::Exists(id.into()).into());
        }
        let temporary = self.temporary();
        let made =
            self.make_root(id, &temporary, lower.first(), limit).and_then(|()| name_root(&temporary, &path, layers));
        if let Err(error) = made {
            crate::blob::discard(&temporary);
            if let Err(error) = self.end_project(id) {
                tracing::warn!(%error, id, "a limit is left to the next start");
            }
            return Err(error);
        }
        failpoint::hit("store.root.renamed");
        Ok(RootFs { lower, upper: path.join("upper"), work: path.join("work") })
    }

    /// The folders of root `id`, at a place where nobody looks for them yet.
    fn make_root(&self, id: &str, temporary: &Path, top: Option<&PathBuf>, limit: Option<u64>) -> Result<()> {
        let [upper, work] = [temporary.join("upper"), temporary.join("work")];
        for folder in [temporary, &upper, &work] {
            std::fs::create_dir(folder).map_err(Error::io("make", folder))?;
        }
        if let Some(bytes) = limit {
            self.begin_project(id, [&upper, &work], bytes)?;
        }
        // The upper folder's mode is the mode of "/" inside.
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::chmod(&upper, mode).map_err(Error::io("set the mode of", &upper))?;
        self.copy_root_attributes(top, &upper)
    }

    /// The overlay shows owner and mode of the topmost folder for "/": the upper one must look like the image's.
    fn copy_root_attributes(&self, top: Option<&PathBuf>, upper: &Path) -> Result<()> {
        let Some(top) = top else { return Ok(()) };
        let stat = rustix::fs::stat(top).map_err(Error::io("look at", top))?;
        let uid = rustix::fs::Uid::from_raw(stat.st_uid);
        let gid = rustix::fs::Gid::from_raw(stat.st_gid);
        if !(uid.is_root() && gid.is_root()) {
            rustix::fs::chown(upper, Some(uid), Some(gid)).map_err(Error::io("set the owner of", upper))?;
        }
        let mode = rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmod(upper, mode).map_err(Error::io("set the mode of", upper))
    }

    /// The folders of layers, given lowest first, as an overlay wants them: top first, each once.
    pub(crate) fn lower(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut lower: Vec<PathBuf> = Vec::with_capacity(layers.len());
        for diff_id in layers.iter().rev() {
            let layer = self.layer(diff_id)?.ok_or_else(|| Error::MissingLayer(diff_id.clone()))?;
            // The kernel refuses a folder twice; where an image repeats a layer, the upper one decides.
            if !lower.contains(&layer.path) {
                lower.push(layer.path);
            }
        }
        Ok(lower)
    }

    /// An existing root file system.
    ///
    /// # Errors
    /// It is not here, or a layer of it is gone.
    pub fn root(&self, id: &str) -> Result<RootFs> {
        let path = self.root_path(id)?;
        let lower = self.lower(&layers_of(&path)?)?;
        Ok(RootFs { lower, upper: path.join("upper"), work: path.join("work") })
    }

    /// The layers of an existing root file system, lowest first.
    pub(crate) fn layers_of_root(&self, id: &str) -> Result<Vec<Digest>> {
        layers_of(&self.root_path(id)?)
    }

    /// The names of all root file systems, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn roots(&self) -> Result<Vec<String>> {
        owner::names(&self.0.dir.join("roots"))
    }

    /// What the folder takes on the disk that the workload of root file system `id` writes to, in bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn root_usage(&self, id: &str) -> Result<u64> {
        crate::disk_bytes(&self.root_path(id)?.join("upper"))
    }

    /// Removes the root file system `id` with what was written to it; none of that name is fine. It must not be mounted.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove_root(&self, id: &str) -> Result<()> {
        let path = self.root_path(id)?;
        let trash = self.temporary();
        match std::fs::rename(&path, &trash) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("remove", &path)(error)),
        }
        failpoint::hit("store.root.removing");
        tree::delete(&trash)?;
        self.end_project(id)
    }

    /// The layers of all root file systems.
    pub(crate) fn rooted(&self) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for id in self.roots()? {
            match layers_of(&self.0.dir.join("roots").join(&id)) {
                Ok(layers) => all.extend(layers),
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Writes down the layers of a root, and puts it where it belongs.
fn name_root(temporary: &Path, path: &Path, layers: &[Digest]) -> Result<()> {
    let list: String = layers.iter().map(|d| format!("{d}\n")).collect();
    let file = temporary.join(LAYERS);
    std::fs::write(&file, list).map_err(Error::io("write", &file))?;
    failpoint::hit("store.root.before");
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(rustix::fs::CWD, temporary, rustix::fs::CWD, path, flags).map_err(|error| match error {
        rustix::io::Errno::EXIST => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            RootError::Exists(name).into()
        }
        other => Error::io("rename", path)(other),
    })
}

pub(crate) fn layers_of(root: &Path) -> Result<Vec<Digest>> {
    let file = root.join(LAYERS);
    let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    let wrong = |_| Error::io("understand", &file)(std::io::Error::from(std::io::ErrorKind::InvalidData));
    text.lines().map(|line| line.parse().map_err(wrong)).collect()
}
