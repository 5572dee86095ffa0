//! Defining workloads, and looking at them.

use std::sync::{Arc, MutexGuard};

use atoll_model::{
    Draft, ImageRef, Mount, MountSource, Network, Phase, Share, Volume, Workload, WorkloadId, check_name, suggest_name,
};
use atoll_store::failpoint;

use crate::db::{Change, When};
use crate::entry::Entry;
use crate::image::ImageView;
use crate::merge::{self, Identity};
use crate::{Engine, Error, WaitCondition, Waiter, WorkloadView, host};

/// How many random names are tried before one with the id in it is taken.
const NAME_TRIES: usize = 8;

/// A workload was defined.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its identifier.
    pub id: WorkloadId,
    /// What its maker should know.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Defines a workload: afterwards it is in the durable record and has a root file system.
    ///
    /// # Errors
    /// When the image is not here, the name is taken, or the draft contradicts itself.
    pub async fn create(&self, mut draft: Draft) -> Result<Created, Error> {
        self.resolve_others(&mut draft)?;
        draft.resources.storage = draft.resources.storage.or(self.shared.settings.storage);
        draft.command.log = draft.command.log.settle(&self.shared.settings.log.default)?;
        self.check_receiver(&draft.command.log)?;
        let image = self.image(&draft.image).await?;
        self.shared.room.used(&image.id);
        let id = host::new_id()?;
        let name = match &draft.name {
            Some(name) => {
                let plain = name.strip_prefix('/').unwrap_or(name);
                check_name(plain)?;
                plain.to_owned()
            }
            None => self.free_name(&id)?,
        };
        let reference = ImageRef {
            name: draft.image.clone(),
            manifest: image.manifest.digest.clone(),
            id: image.id.clone(),
            layers: image.layers.iter().map(|layer| layer.0.clone()).collect(),
        };
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let identity = Identity { id, name, created: host::now(), host_name };
        let anonymous = || Ok(host::new_id()?.to_string());
        let workload = merge::fill(draft, identity, reference, &image.config, anonymous)?;
        self.define(workload, &image).await
    }

    async fn define(&self, mut workload: Workload, image: &ImageView) -> Result<Created, Error> {
        let id = workload.id.clone();
        let warnings = self.unkept(&mut workload)?;
        let entry = Arc::new(Entry::new(workload, Phase::CREATED));
        // Whoever finds it before all of it is there waits.
        let _operation = entry.operation.lock().await;
        self.register_using(&entry, image).await?;
        let engine = self.clone();
        let entry_there = Arc::clone(&entry);
        let result = host::blocking(move || engine.define_durably(&entry_there)).await;
        if let Err(error) = result {
            self.unregister(&entry);
            entry.standing.send_modify(|standing| standing.removed = true);
            return Err(error);
        }
        tracing::debug!(id = %id.short(), image = %image.id, "created");
        self.say(&entry, "create", &[]);
        Ok(Created { id, warnings })
    }

    /// Adds a workload as a user of its image, which nobody may have taken away since it was looked up.
    async fn register_using(&self, entry: &Arc<Entry>, image: &ImageView) -> Result<(), Error> {
        let (engine, entry, id) = (self.clone(), Arc::clone(entry), image.id.clone());
        host::blocking(move || {
            let _changing = engine.changing_images();
            let name = &entry.workload().image.name;
            if engine.find_image(name).is_ok_and(|now| now.id == id) || !engine.links_to(&id)?.is_empty() {
                return engine.register(&entry);
            }
            Err(Error::no_image(name))
        })
        .await
    }

    /// What of a workload's wishes is not kept, in sentences; what may not be left out is refused.
    fn unkept(&self, workload: &mut Workload) -> Result<Vec<String>, Error> {
        let mut warnings = self.fit(&mut workload.resources)?;
        if workload.host.namespaces.pid != Share::Own && !self.has_control_groups() {
            let message = "HostConfig.PidMode needs control groups, and none are delegated to this user: leave it out";
            return Err(Error::Unsupported(message.to_owned()));
        }
        if !workload.host.ports.is_empty() {
            if !self.info().rootless {
                let message =
                    "HostConfig.PortBindings is not supported by Atoll yet for the daemon of root: leave it out";
                return Err(Error::Unsupported(message.to_owned()));
            }
            match workload.host.network {
                Network::Host => warnings.push("Published ports are discarded when using host network mode".to_owned()),
                Network::None => warnings.push("Published ports are discarded without a network".to_owned()),
                Network::Bridge(_) | Network::Workload(_) => {}
            }
        }
        Ok(warnings)
    }

    /// The record first: from then on a killed daemon's successor knows what belongs to it.
    fn define_durably(&self, entry: &Entry) -> Result<(), Error> {
        let workload = entry.workload();
        // Most workloads have no volumes, and do not wait for each other.
        let uses = |mount: &Mount| matches!(mount.source, MountSource::Volume { .. });
        let changing = workload.mounts.iter().any(uses).then(|| self.changing_volumes());
        let volumes = self.missing_volumes(&workload)?;
        let mut changes = vec![Change::PutWorkload(&workload)];
        changes.extend(volumes.iter().map(Change::PutVolume));
        failpoint::hit("create.before-record");
        self.shared.db.apply(&changes, When::Now)?;
        failpoint::hit("create.after-record");
        let names: Vec<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
        let made = self.make_what_belongs(&workload, volumes, changing);
        if made.is_err() {
            let mut undone = vec![Change::RemoveWorkload(entry.id.as_str())];
            undone.extend(names.iter().map(|name| Change::RemoveVolume(name)));
            self.shared.db.apply(&undone, When::Now)?;
            self.delete_files(entry.id.as_str());
            self.forget_volumes(&names)?;
        }
        made
    }

    fn make_what_belongs(
        &self,
        workload: &Workload,
        volumes: Vec<Volume>,
        changing: Option<MutexGuard<'_, ()>>,
    ) -> Result<(), Error> {
        self.remember_volumes(volumes)?;
        drop(changing);
        let limit = workload.resources.storage;
        self.shared.store.create_root(workload.id.as_str(), &workload.image.layers, limit)?;
        failpoint::hit("create.after-root");
        self.fill_volumes(workload)?;
        failpoint::hit("create.after-volumes");
        host::make_folder(&self.folder(&workload.id))
    }

    /// Gives empty volumes what the image has at their target.
    fn fill_volumes(&self, workload: &Workload) -> Result<(), Error> {
        for mount in &workload.mounts {
            let MountSource::Volume { name, copy: true } = &mount.source else {
                continue;
            };
            let data = self.volume_data(name);
            if host::is_empty(&data)? && self.shared.store.copy_out(&workload.image.layers, &mount.target, &data)? {
                tracing::debug!(volume = name, target = mount.target, "filled from the image");
            }
        }
        Ok(())
    }

    /// Volumes that a workload names and that do not exist yet.
    fn missing_volumes(&self, workload: &Workload) -> Result<Vec<Volume>, Error> {
        let mut missing: Vec<Volume> = Vec::new();
        for mount in &workload.mounts {
            let MountSource::Volume { name, .. } = &mount.source else {
                continue;
            };
            if let Some(volume) = self.volume_table().get(name) {
                // Clients take "not found" at a creation for the image's.
                crate::volume::check_owner(volume, workload.host.project.as_deref())
                    .map_err(|error| Error::Invalid(error.to_string()))?;
                continue;
            }
            if missing.iter().any(|volume| volume.name == *name) {
                continue;
            }
            check_name(name)?;
            missing.push(crate::volume::fresh(name.clone(), Default::default(), workload.host.project.clone()));
        }
        Ok(missing)
    }

    fn free_name(&self, id: &WorkloadId) -> Result<String, Error> {
        for _ in 0..NAME_TRIES {
            let name = suggest_name(host::random()?);
            if self.find(&name).is_err() {
                return Ok(name);
            }
        }
        Ok(format!("atoll_{}", id.short()))
    }

    /// Gives a workload another name.
    ///
    /// # Errors
    /// When there is no such workload, or the name is taken or no name.
    pub async fn rename(&self, name: &str, new: &str) -> Result<(), Error> {
        let entry = self.find(name)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        check_name(new)?;
        let _operation = entry.hold(name).await?;
        let old = entry.workload().name.clone();
        if old == new {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".to_owned()));
        }
        self.reclaim(&entry.id, &old, new)?;
        let mut workload = Workload::clone(&entry.workload());
        new.clone_into(&mut workload.name);
        let db = self.shared.db.clone();
        let (workload, result) = host::blocking(move || {
            let result = db.apply(&[Change::PutWorkload(&workload)], When::Now);
            (workload, result)
        })
        .await;
        if let Err(error) = result {
            self.reclaim(&entry.id, new, &old)?;
            return Err(error);
        }
        entry.replace_workload(workload);
        self.say(&entry, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Every workload, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<WorkloadView> {
        self.entries().iter().map(|entry| self.view(entry)).collect()
    }

    /// One workload, by name, id or unambiguous beginning of its id.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn inspect(&self, name: &str) -> Result<WorkloadView, Error> {
        Ok(self.view(&*self.find(name)?))
    }

    /// Begins to wait for a workload: what happens after this call is not missed.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiter, Error> {
        Ok(self.find(name)?.wait(condition))
    }

    fn view(&self, entry: &Entry) -> WorkloadView {
        let standing = entry.standing.borrow().clone();
        WorkloadView {
            workload: entry.workload(),
            phase: standing.phase,
            failure: standing.failure,
            restarts: standing.restarts,
            health: standing.health,
            endpoint: self.endpoint(&entry.id),
            execs: self.exec_ids(entry),
            log: self.log_file(entry),
        }
    }
}
