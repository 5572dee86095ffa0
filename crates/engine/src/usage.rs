//! What the state takes on the disk.

use std::collections::BTreeMap;

use atoll_model::WorkloadId;

use crate::{Engine, Error, host};

/// What the state takes on the disk, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Unpacked layers.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// What is in each volume.
    pub volumes: BTreeMap<String, u64>,
}

impl Engine {
    /// What the state takes on the disk; walks through all volumes.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let names: Vec<String> = self.volumes().into_iter().map(|view| view.volume.name).collect();
        let engine = self.clone();
        host::blocking(move || {
            let store = engine.shared.store.usage()?;
            let size = |name: String| Ok((name.clone(), atoll_store::disk_bytes(&engine.volume_data(&name))?));
            let volumes = names.into_iter().map(size).collect::<Result<_, Error>>()?;
            Ok(Usage { layers: store.layer_bytes, blobs: store.blob_bytes, volumes })
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
}
