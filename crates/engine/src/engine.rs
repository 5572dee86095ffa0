//! The engine itself: what it holds, how it is opened, how things are found by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use atoll_model::{Log, Timestamp, WorkloadId};
use atoll_store::Store;

use crate::db::Db;
use crate::entry::Entry;
use crate::events::Events;
use crate::runtime::{ContainerDriver, Driver, Fingerprint};
use crate::traces::Traces;
use crate::{Error, EventStream, Settings, host};

/// Name of the folder with the workloads' run folders.
pub(crate) const RUN_FOLDERS: &str = "w";

/// One host's truth. Clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) db: Db,
    pub(crate) store: Store,
    pub(crate) driver: ContainerDriver,
    pub(crate) events: Events,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) volumes: Mutex<crate::volume::Volumes>,
    pub(crate) changes: Changes,
    pub(crate) networks: crate::network::Networks,
    pub(crate) growth: crate::log::Growth,
    pub(crate) room: crate::room::Room,
    pub(crate) host: Host,
}

/// Who changes what workloads come to use.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Held while volumes are made or taken away, so that none goes while a workload comes to name it.
    pub(crate) volumes: Mutex<()>,
    /// The same for the names of images.
    pub(crate) images: Mutex<()>,
}

/// What was found when the engine was opened.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) fingerprint: Fingerprint,
    info: Info,
}

/// Every workload, by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: HashMap<WorkloadId, Arc<Entry>>,
    names: HashMap<String, WorkloadId>,
}

/// What an engine says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The identifier of its root: names of cgroups derive from it.
    pub id: String,
    /// Where it keeps things.
    pub root: PathBuf,
    /// The cgroup below which workloads get theirs.
    pub cgroup_parent: String,
    /// Whether an ordinary user runs it.
    pub rootless: bool,
}

impl Engine {
    /// Opens the state in `settings.root`, and takes over what an earlier engine left behind.
    ///
    /// # Errors
    /// When the state cannot be read, is of a later version, or is open elsewhere.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        host::make_folder(&settings.root)?;
        host::make_folder(&settings.run)?;
        let (db, store, info) = {
            let settings = settings.clone();
            host::blocking(move || open_state(&settings)).await?
        };
        let (shim, cdi) = (settings.shim.clone(), settings.cdi_folders.clone());
        let driver = ContainerDriver::new(shim, info.cgroup_parent.clone(), cdi);
        Traces::note(&settings.run, &info)?;
        let fingerprint = {
            let driver = driver.clone();
            host::blocking(move || driver.fingerprint()).await
        };
        for warning in &fingerprint.warnings {
            tracing::warn!("{warning}");
        }
        let volumes = Mutex::new(crate::volume::Volumes::load(&db)?);
        let room = crate::room::Room::load(&db)?;
        let shared = Shared {
            settings,
            db,
            store,
            driver,
            events: Events::default(),
            registry: RwLock::default(),
            volumes,
            changes: Changes::default(),
            networks: crate::network::Networks::new(&info.id, info.rootless)?,
            growth: crate::log::Growth::new().map_err(Error::host("watching logs"))?,
            room,
            host: Host { fingerprint, info },
        };
        let engine = Self { shared: Arc::new(shared) };
        engine.recover().await?;
        engine.keep_packing();
        engine.keep_room();
        Ok(engine)
    }

    /// What the engine says of itself.
    #[must_use]
    pub fn info(&self) -> Info {
        self.shared.host.info.clone()
    }

    /// What it was told when it was opened.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Where output is kept of workloads that do not say so themselves.
    #[must_use]
    pub fn default_log(&self) -> &Log {
        &self.shared.settings.log.default
    }

    /// What the owner of this host should know of it: sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.shared.host.fingerprint.warnings.clone();
        warnings.extend(self.network_warnings());
        warnings
    }

    /// Whether workloads have control groups: without, nothing is limited, counted or paused.
    #[must_use]
    pub fn has_control_groups(&self) -> bool {
        self.shared.host.fingerprint.control_groups
    }

    /// Events since a time (none: from now on), and all that follow.
    #[must_use]
    pub fn events(&self, since: Option<Timestamp>) -> EventStream {
        self.shared.events.watch(since)
    }

    /// How many watch events.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.shared.events.watchers()
    }

    /// How many events watchers were too slow for.
    #[must_use]
    pub fn missed_events(&self) -> u64 {
        self.shared.events.missed()
    }

    /// A workload by name, id or unambiguous beginning of its id.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Entry>, Error> {
        let registry = self.registry();
        let plain = name.strip_prefix('/').unwrap_or(name);
        if let Ok(id) = plain.parse::<WorkloadId>()
            && let Some(entry) = registry.entries.get(&id)
        {
            return Ok(Arc::clone(entry));
        }
        if let Some(entry) = registry.names.get(plain).and_then(|id| registry.entries.get(id)) {
            return Ok(Arc::clone(entry));
        }
        let mut fitting = registry.entries.values().filter(|entry| entry.id.as_str().starts_with(plain));
        match (fitting.next(), fitting.next()) {
            (Some(entry), None) if !plain.is_empty() => Ok(Arc::clone(entry)),
            (Some(_), Some(_)) if !plain.is_empty() => Err(Error::Ambiguous(name.to_owned())),
            _ => Err(Error::no_workload(name)),
        }
    }

    /// Every workload, newest first.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.registry().entries.values().cloned().collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.workload().created));
        entries
    }

    /// Adds a workload, unless its name is taken.
    pub(crate) fn register(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let mut registry = self.registry_mut();
        let name = entry.workload().name.clone();
        registry.claim(&name, &entry.id)?;
        registry.entries.insert(entry.id.clone(), Arc::clone(entry));
        Ok(())
    }

    /// Gives a workload another name, if that is free; the old one is free afterwards.
    pub(crate) fn reclaim(&self, id: &WorkloadId, old: &str, new: &str) -> Result<(), Error> {
        let mut registry = self.registry_mut();
        registry.claim(new, id)?;
        registry.names.remove(old);
        Ok(())
    }

    /// Forgets a workload.
    pub(crate) fn unregister(&self, entry: &Entry) {
        let mut registry = self.registry_mut();
        registry.names.remove(&entry.workload().name);
        registry.entries.remove(&entry.id);
    }

    fn registry(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.shared.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry_mut(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.shared.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable folder of a workload: its log and the files that are mounted over its `/etc`.
    pub(crate) fn folder(&self, id: &WorkloadId) -> PathBuf {
        self.shared.settings.root.join("workloads").join(id.as_str())
    }

    /// The folder of a workload that is gone at reboot: its supervisor's socket and records.
    pub(crate) fn run_folder(&self, id: &WorkloadId) -> PathBuf {
        self.shared.settings.run.join(RUN_FOLDERS).join(id.as_str())
    }
}

impl Registry {
    fn claim(&mut self, name: &str, id: &WorkloadId) -> Result<(), Error> {
        match self.names.get(name) {
            Some(holder) if holder != id => Err(Error::NameTaken { name: name.to_owned(), holder: holder.to_string() }),
            _ => {
                self.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }
}

fn open_state(settings: &Settings) -> Result<(Db, Store, Info), Error> {
    let db = Db::open(&settings.root)?;
    let store = Store::open(&settings.root.join("store"), db.database())?;
    if settings.storage.is_some() {
        store.check_limits()?;
    }
    let fresh: [u8; 4] = host::random()?;
    let id = db.meta_or_insert("root", || format!("{:08x}", u32::from_be_bytes(fresh)))?;
    let configured = settings.cgroup_parent.clone();
    let rootless = settings.rootless;
    let cgroup_parent = db.meta_or_insert("cgroup", || configured.unwrap_or_else(|| default_parent(&id, rootless)))?;
    Ok((db, store, Info { id, root: settings.root.clone(), cgroup_parent, rootless }))
}

/// Where workloads go when nobody said otherwise. Under systemd the daemon may have been started from any login, whose
/// cgroup goes with it, so the place is absolute; elsewhere (a sandbox, another container, an ordinary user's part) it is
/// below the daemon's own cgroup, because the rest of the tree is somebody else's.
fn default_parent(id: &str, rootless: bool) -> String {
    let absolute = !rootless && Path::new("/run/systemd/system").is_dir();
    if absolute { format!("/atoll-{id}") } else { format!("atoll-{id}") }
}
