//! What the state takes on the disk: of each folder what `du -s -B1` says of it (see [`atoll_store::disk_bytes`]), and in all
//! what it says of the root.
//!
//! ```text
//!   store/layers, store/blobs      images          store/roots/ID/upper   each workload
//!   volumes/NAME/_data             each volume     workloads              logs
//!   store/tmp, store/partial       transfers       all the rest           metadata, names of folders
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use atoll_model::WorkloadId;
use atoll_oci::Digest;
use atoll_store::{Part, Parts, disk_bytes, disk_bytes_without};

use crate::{Engine, Error, host};

/// Folders of the root.
const LOGS: &str = "workloads";
const TRANSFERS: [&str; 2] = ["store/tmp", "store/partial"];

/// What images take on the disk, in bytes.
#[derive(Clone, Debug, Default)]
pub struct ImagesUsage {
    /// All layers and blobs, each once, whoever keeps them.
    pub bytes: u64,
    /// What each image keeps, by its id.
    pub each: HashMap<Digest, ImageUsage>,
}

/// What one image keeps on the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its layers and blobs.
    pub bytes: u64,
    /// Those of them that another image keeps too.
    pub shared: u64,
}

/// What belongs to no image, no workload's root and no volume, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestUsage {
    /// Logs of workloads, and the files that are mounted over their `/etc`.
    pub logs: u64,
    /// What is on its way, and what is left of transfers that broke off.
    pub transfers: u64,
    /// The metadata and the folders themselves.
    pub other: u64,
}

impl Engine {
    /// What images take on the disk.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn image_usage(&self) -> Result<ImagesUsage, Error> {
        let engine = self.clone();
        host::blocking(move || {
            let usage = engine.shared.store.usage()?;
            let each = usage_of(&engine.image_parts()?);
            Ok(ImagesUsage { bytes: usage.layer_bytes + usage.blob_bytes, each })
        })
        .await
    }

    /// What each image keeps, by its id.
    pub(crate) fn image_parts(&self) -> Result<HashMap<Digest, Parts>, Error> {
        let mut groups: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (_, target) in self.shared.store.links()? {
            // One that cannot be read is in no list either; what it takes is part of the whole.
            if let Ok(id) = self.id_of(&target) {
                groups.entry(id).or_default().push(target.digest);
            }
        }
        let (ids, groups): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
        Ok(ids.into_iter().zip(self.shared.store.kept_by(&groups)?).collect())
    }

    /// What is in each volume; walks through all of them.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn volume_sizes(&self) -> Result<BTreeMap<String, u64>, Error> {
        let names: Vec<String> = self.volumes().into_iter().map(|view| view.volume.name).collect();
        let engine = self.clone();
        host::blocking(move || {
            let size = |name: String| Ok((name.clone(), disk_bytes(&engine.volume_data(&name))?));
            names.into_iter().map(size).collect()
        })
        .await
    }

    /// What unpacked layers and blobs take on the disk, in bytes.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn store_bytes(&self) -> Result<(u64, u64), Error> {
        let store = self.shared.store.clone();
        let usage = host::blocking(move || store.usage()).await?;
        Ok((usage.layer_bytes, usage.blob_bytes))
    }

    /// What each workload has written to its root file system, in bytes.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn workload_sizes(&self) -> Result<BTreeMap<WorkloadId, u64>, Error> {
        let ids: Vec<WorkloadId> = self.entries().into_iter().map(|entry| entry.id.clone()).collect();
        let store = self.shared.store.clone();
        host::blocking(move || {
            let size = |id: WorkloadId| Ok((id.clone(), store.root_usage(id.as_str())?));
            ids.into_iter().map(size).collect()
        })
        .await
    }

    /// What belongs to no image, no workload's root and no volume.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn rest_usage(&self) -> Result<RestUsage, Error> {
        let engine = self.clone();
        host::blocking(move || {
            let root = &engine.shared.settings.root;
            // It may be a link to a larger disk.
            let root = &std::fs::canonicalize(root).map_err(Error::host(format!("finding {}", root.display())))?;
            let mut told: HashSet<PathBuf> = [LOGS, "store/layers", "store/blobs"].map(PathBuf::from).into();
            told.extend(TRANSFERS.map(PathBuf::from));
            let uppers = engine.entries().into_iter().map(|entry| format!("store/roots/{}/upper", entry.id));
            let volumes = engine.volumes().into_iter().map(|view| format!("volumes/{}/_data", view.volume.name));
            told.extend(uppers.chain(volumes).map(PathBuf::from));
            Ok(RestUsage {
                logs: disk_bytes(&root.join(LOGS))?,
                transfers: TRANSFERS.iter().map(|path| disk_bytes(&root.join(path))).sum::<Result<u64, _>>()?,
                other: disk_bytes_without(root, &told)?,
            })
        })
        .await
    }
}

/// What each image takes, and how much of it another keeps too.
fn usage_of(images: &HashMap<Digest, Parts>) -> HashMap<Digest, ImageUsage> {
    let mut keepers: HashMap<&Part, usize> = HashMap::new();
    for part in images.values().flat_map(HashMap::keys) {
        *keepers.entry(part).or_default() += 1;
    }
    let usage = |parts: &Parts| ImageUsage {
        bytes: parts.values().sum(),
        shared: parts.iter().filter(|(part, _)| keepers[part] > 1).map(|(_, bytes)| bytes).sum(),
    };
    images.iter().map(|(id, parts)| (id.clone(), usage(parts))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_images_keep_is_shared() {
        let digest = |name: &str| Digest::sha256(name.as_bytes());
        let layer = |name: &str, bytes| (Part::Layer(digest(name)), bytes);
        let blob = |name: &str, bytes| (Part::Blob(digest(name)), bytes);
        let images = HashMap::from([
            (digest("a"), Parts::from([layer("base", 100), layer("top", 10), blob("base", 50)])),
            (digest("b"), Parts::from([layer("base", 100), blob("top", 7)])),
        ]);
        let usage = usage_of(&images);
        assert_eq!(usage[&digest("a")], ImageUsage { bytes: 160, shared: 100 });
        assert_eq!(usage[&digest("b")], ImageUsage { bytes: 107, shared: 100 });
    }
}
