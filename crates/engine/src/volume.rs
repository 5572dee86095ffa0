//! Named folders that outlive the workloads that use them: records in the metadata, content in `volumes/NAME/_data`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use atoll_model::{EventKind, MountSource, Volume, check_name};
use atoll_store::failpoint;

use crate::db::{Change, Db, When};
use crate::{Engine, Error, host};

/// Every volume, by name.
#[derive(Debug, Default)]
pub(crate) struct Volumes(BTreeMap<String, Volume>);

/// A volume as callers see it.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// What is known of it.
    pub volume: Volume,
    /// The folder of its content.
    pub mountpoint: PathBuf,
    /// Workloads that name it.
    pub users: usize,
}

impl Volumes {
    pub(crate) fn load(db: &Db) -> Result<Self, Error> {
        let volumes = db.volumes()?;
        Ok(Self(volumes.into_iter().map(|volume| (volume.name.clone(), volume)).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Volume> {
        self.0.get(name)
    }
}

/// A volume made now; one whose name is an identifier of ours is anonymous.
pub(crate) fn fresh(name: String, labels: BTreeMap<String, String>, project: Option<String>) -> Volume {
    let anonymous = name.parse::<atoll_model::WorkloadId>().is_ok();
    Volume { name, created: host::now(), labels, anonymous, project }
}

/// Refuses a project what is another's, as if it were not there.
pub(crate) fn check_owner(volume: &Volume, project: Option<&str>) -> Result<(), Error> {
    match project {
        Some(_) if volume.project.as_deref() != project => Err(Error::no_volume(&volume.name)),
        _ => Ok(()),
    }
}

impl Engine {
    /// Every volume, by name.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeView> {
        let volumes: Vec<_> = self.volume_table().0.values().cloned().collect();
        volumes.into_iter().map(|volume| self.volume_view(volume)).collect()
    }

    /// One volume.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn volume(&self, name: &str) -> Result<VolumeView, Error> {
        let volume = self.volume_table().get(name).cloned();
        volume.map(|volume| self.volume_view(volume)).ok_or_else(|| Error::no_volume(name))
    }

    /// Makes a volume, under a name of ours if none is given; one that is there already is returned as it is.
    ///
    /// # Errors
    /// When the name is none, or for a project where it is another's.
    pub async fn volume_create(
        &self,
        name: Option<String>,
        labels: BTreeMap<String, String>,
        project: Option<String>,
    ) -> Result<VolumeView, Error> {
        let name = match name {
            Some(name) => name,
            None => host::new_id()?.to_string(),
        };
        if let Ok(view) = self.volume(&name) {
            check_owner(&view.volume, project.as_deref())?;
            return Ok(view);
        }
        check_name(&name)?;
        let engine = self.clone();
        host::blocking(move || {
            let _changing = engine.changing_volumes();
            // Somebody else may have made it meanwhile.
            if let Ok(view) = engine.volume(&name) {
                return Ok(view);
            }
            let volume = fresh(name, labels, project);
            engine.shared.db.apply(&[Change::PutVolume(&volume)], When::Now)?;
            engine.remember_volumes(vec![volume.clone()])?;
            Ok(engine.volume_view(volume))
        })
        .await
    }

    /// Takes a volume and its content away; `force`: no error when there is none.
    ///
    /// # Errors
    /// When a workload names it.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let engine = self.clone();
        let name = name.to_owned();
        host::blocking(move || engine.remove_volume_now(name, force)).await
    }

    fn remove_volume_now(&self, name: String, force: bool) -> Result<(), Error> {
        let _changing = self.changing_volumes();
        if self.volume(&name).is_err() {
            return if force { Ok(()) } else { Err(Error::no_volume(&name)) };
        }
        let users: Vec<_> = self.users_of(&name);
        if !users.is_empty() {
            return Err(Error::InUse(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        failpoint::hit("volume-remove.before-record");
        self.shared.db.apply(&[Change::RemoveVolume(&name)], When::Now)?;
        failpoint::hit("volume-remove.after-record");
        self.forget_volumes(&[name])
    }

    /// Keeps others from making volumes and taking them away. Who defines a workload is known as its volumes' user before.
    pub(crate) fn changing_volumes(&self) -> MutexGuard<'_, ()> {
        self.shared.changes.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn volume_table(&self) -> MutexGuard<'_, Volumes> {
        self.shared.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_volume(&self, name: &str) -> bool {
        self.volume_table().get(name).is_some()
    }

    pub(crate) fn volume_users(&self, name: &str) -> usize {
        self.users_of(name).len()
    }

    fn users_of(&self, name: &str) -> Vec<String> {
        let uses = |source: &MountSource| matches!(source, MountSource::Volume { name: used, .. } if used == name);
        let entries = self.entries();
        let users = entries.iter().filter(|entry| entry.workload().mounts.iter().any(|mount| uses(&mount.source)));
        users.map(|entry| entry.id.to_string()).collect()
    }

    /// Makes the folders of volumes that are in the record, and knows them from now on.
    pub(crate) fn remember_volumes(&self, volumes: Vec<Volume>) -> Result<(), Error> {
        for volume in volumes {
            host::make_folder(&self.volume_data(&volume.name))?;
            self.shared.events.emit(
                volume.project.as_deref(),
                EventKind::Volume,
                "create",
                &volume.name,
                BTreeMap::from([("driver".to_owned(), "local".to_owned())]),
            );
            self.volume_table().0.insert(volume.name.clone(), volume);
        }
        Ok(())
    }

    /// Deletes the content of volumes that are no longer in the record.
    pub(crate) fn forget_volumes(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            let project = self.volume_table().0.remove(name).and_then(|volume| volume.project);
            let folder = self.shared.settings.root.join("volumes").join(name);
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::host(format!("deleting {}", folder.display()))(error));
                }
                _ => {}
            }
            let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
            self.shared.events.emit(project.as_deref(), EventKind::Volume, "destroy", name, attributes);
        }
        Ok(())
    }

    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.shared.settings.root.join("volumes").join(name).join("_data")
    }

    fn volume_view(&self, volume: Volume) -> VolumeView {
        let (mountpoint, users) = (self.volume_data(&volume.name), self.volume_users(&volume.name));
        VolumeView { volume, mountpoint, users }
    }
}
