//! Checking a store that nobody has open: every blob against its name, every layer and root file system against the records,
//! every image against what it needs. Nothing is changed.
//!
//! Contents of layers' folders are not checked: their blobs are, and they can be unpacked again.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::manifest::MANIFEST_MAX;
use atoll_oci::{Descriptor, Digest, Hasher, ImageConfig, Manifest, Parsed, parse_any};
use redb::Database;

use crate::blob::PIECE;
use crate::error::{Error, Result};
use crate::{meta, owner, root, tree};

/// How many indexes may be one in another.
const INDEXES_MAX: u32 = 4;

/// Something in a store that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The content of a blob is not what its name says.
    Blob {
        /// What it is called.
        path: PathBuf,
    },
    /// A layer is recorded whose folder is not there.
    Layer {
        /// Which.
        diff_id: Digest,
        /// The blob that it came from.
        blob: Option<Box<Descriptor>>,
    },
    /// An image lacks something.
    Image {
        /// Its name.
        name: String,
        /// A sentence.
        lacks: String,
    },
    /// A root file system is above a layer that is not recorded, or cannot be read.
    Root {
        /// The workload.
        id: String,
    },
    /// Something that nothing knows of.
    Leftover {
        /// Where.
        path: PathBuf,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob { path } => write!(f, "blob {}: its content is not what its name says", path.display()),
            Self::Layer { diff_id, .. } => write!(f, "layer {diff_id}: its folder is gone"),
            Self::Image { name, lacks } => write!(f, "image {name}: {lacks}"),
            Self::Root { id } => write!(f, "container {id}: a layer below its root file system is gone"),
            Self::Leftover { path } => write!(f, "leftover {}: nothing knows of it", path.display()),
        }
    }
}

/// Looks through the store in `dir`. Without its records only blobs can be checked.
///
/// # Errors
/// Something cannot be read.
pub fn check(dir: &Path, records: Option<&Database>) -> Result<Vec<Problem>> {
    let mut check = Check { dir, problems: Vec::new() };
    check.blobs()?;
    check.abandoned()?;
    if let Some(records) = records {
        let known = check.layers(records)?;
        check.images(records, &known)?;
        check.roots(&known)?;
    }
    Ok(check.problems)
}

/// Takes away what [`check`] found of no use: blobs with wrong contents, which a pull brings again, and leftovers. What
/// remains needs records.
///
/// # Errors
/// The disk refuses.
pub fn remove_useless(problems: &[Problem]) -> Result<()> {
    problems.iter().try_for_each(|problem| match problem {
        Problem::Blob { path } | Problem::Leftover { path } => tree::delete(path),
        _ => Ok(()),
    })
}

struct Check<'a> {
    dir: &'a Path,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn blobs(&mut self) -> Result<()> {
        for algorithm in ["sha256", "sha512"] {
            let folder = self.dir.join("blobs").join(algorithm);
            for name in names(&folder)? {
                let path = folder.join(&name);
                match format!("{algorithm}:{name}").parse::<Digest>() {
                    Ok(digest) if digest_of(&path, &digest)? == digest => {}
                    Ok(_) => self.problems.push(Problem::Blob { path }),
                    Err(_) => self.problems.push(Problem::Leftover { path }),
                }
            }
        }
        Ok(())
    }

    /// What processes left that are no more.
    fn abandoned(&mut self) -> Result<()> {
        let own = owner::Owner::current()?;
        for folder in ["tmp", "leases"].map(|name| self.dir.join(name)) {
            for name in names(&folder)?.into_iter().filter(|name| !owner::is_live(name, &own)) {
                self.problems.push(Problem::Leftover { path: folder.join(name) });
            }
        }
        Ok(())
    }

    /// The diff ids of layers that are recorded.
    fn layers(&mut self, records: &Database) -> Result<BTreeSet<String>> {
        let folder = self.dir.join("layers");
        let layers = meta::layers(records)?;
        let there: BTreeSet<String> = names(&folder)?.into_iter().collect();
        for (diff_id, record) in layers.iter().filter(|(_, record)| !there.contains(&record.id)) {
            let diff_id = diff_id.parse::<Digest>().map_err(|_| Error::Record("store/layers"))?;
            self.problems.push(Problem::Layer { diff_id, blob: record.blob.clone().map(Box::new) });
        }
        let known: BTreeSet<&String> = layers.values().map(|record| &record.id).collect();
        for name in there.iter().filter(|name| !known.contains(name)) {
            self.problems.push(Problem::Leftover { path: folder.join(name) });
        }
        Ok(layers.into_keys().collect())
    }

    fn images(&mut self, records: &Database, layers: &BTreeSet<String>) -> Result<()> {
        for (name, target) in meta::links(records)? {
            if let Some(lacks) = self.lacks(&target.digest, layers, 0)? {
                self.problems.push(Problem::Image { name, lacks });
            }
        }
        Ok(())
    }

    /// What an image lacks, as a sentence. Of an index one image is enough: the others are for other platforms.
    fn lacks(&self, digest: &Digest, layers: &BTreeSet<String>, depth: u32) -> Result<Option<String>> {
        let Some(bytes) = self.read(digest, MANIFEST_MAX)? else {
            return Ok(Some(format!("its manifest {digest} is missing")));
        };
        match parse_any(&bytes, None) {
            Err(error) => Ok(Some(format!("its manifest {digest} cannot be understood: {error}"))),
            Ok(Parsed::Manifest(manifest)) => self.manifest_lacks(&manifest, layers),
            // A blob with wrong contents may name itself.
            Ok(Parsed::Index(_)) if depth == INDEXES_MAX => {
                Ok(Some(format!("its index {digest} is nested too deeply")))
            }
            Ok(Parsed::Index(index)) => {
                let mut there = 0;
                for entry in &index.manifests {
                    if self.path(&entry.digest).exists() {
                        there += 1;
                        if let Some(lacks) = self.lacks(&entry.digest, layers, depth + 1)? {
                            return Ok(Some(lacks));
                        }
                    }
                }
                Ok((there == 0).then(|| format!("every image of its index {digest} is missing")))
            }
        }
    }

    fn manifest_lacks(&self, manifest: &Manifest, layers: &BTreeSet<String>) -> Result<Option<String>> {
        let digest = &manifest.config.digest;
        let Some(bytes) = self.read(digest, CONFIG_MAX)? else {
            return Ok(Some(format!("its configuration {digest} is missing")));
        };
        // What is no image's (an attestation's) has blobs alone.
        let diff_ids = ImageConfig::parse(&bytes).map(|config| config.rootfs.diff_ids).unwrap_or_default();
        let missing = manifest.layers.iter().enumerate().find(|(index, layer)| {
            let unpacked = diff_ids.get(*index).is_some_and(|diff_id| layers.contains(&diff_id.to_string()));
            !unpacked && !self.path(&layer.digest).exists()
        });
        Ok(missing.map(|(_, layer)| format!("its layer {} is missing", layer.digest)))
    }

    fn roots(&mut self, layers: &BTreeSet<String>) -> Result<()> {
        let folder = self.dir.join("roots");
        for id in names(&folder)? {
            let whole = root::layers_of(&folder.join(&id));
            let whole = whole.is_ok_and(|below| below.iter().all(|diff_id| layers.contains(&diff_id.to_string())));
            if !whole {
                self.problems.push(Problem::Root { id });
            }
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// A blob that is small; none where it is not there.
    fn read(&self, digest: &Digest, limit: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        match std::fs::File::open(&path).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }
}

/// The digest that a file has.
fn digest_of(path: &Path, expected: &Digest) -> Result<Digest> {
    let mut file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Hasher::for_digest(expected);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(Error::io("read", path))? {
            0 => return Ok(hasher.finish()),
            len => hasher.update(&piece[..len]),
        }
    }
}

/// The names in a folder, which need not be there.
fn names(folder: &Path) -> Result<Vec<String>> {
    if folder.exists() { owner::names(folder) } else { Ok(Vec::new()) }
}
