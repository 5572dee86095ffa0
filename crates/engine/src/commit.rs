//! A workload's changes: looked at, and made an image of.
//!
//! The new image has the layers of the one that the workload runs from and one more; its configuration is the workload's, with
//! instructions applied. What runs is frozen meanwhile, unless that is not wanted; a note in the run folder tells a daemon
//! that comes after a killed one to thaw it.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_model::{Phase, Workload, WorkloadId};
use atoll_oci::config::{Config, Empty, History};
use atoll_oci::{Compression, Descriptor, Digest, ImageConfig, Manifest, Reference, media_type};
use atoll_store::{Change, CommitOptions, Image, Lease, failpoint};

use crate::entry::Entry;
use crate::{Engine, Error, host, instruction};

/// Paths that are made in a root file system to be mounted over: no writes of the workload's.
const MOUNT_POINTS: [&[u8]; 7] =
    [b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"sbin/docker-init"];
/// The note that a workload is frozen only to be committed.
const FROZEN: &str = "frozen-for-commit";

/// An image to be made of a workload.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// Of which.
    pub container: String,
    /// What to call it; none is no name.
    pub name: Option<Reference>,
    /// A remark.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Whether what runs is not frozen.
    pub unfrozen: bool,
    /// Configuration instead of the workload's own, where it says something.
    pub config: Config,
    /// Instructions, as a Dockerfile has them, one a line.
    pub changes: Vec<String>,
}

impl Engine {
    /// What a workload has changed of its image's files, sorted by path.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn changes(&self, name: &str) -> Result<Vec<Change>, Error> {
        let entry = self.find(name)?;
        let store = self.shared.store.clone();
        Ok(host::blocking(move || store.changes(entry.id.as_str(), &MOUNT_POINTS)).await?)
    }

    /// Makes an image of a workload as it is; its id.
    ///
    /// # Errors
    /// When an instruction is none, or something cannot be read.
    pub async fn commit(&self, request: CommitRequest) -> Result<Digest, Error> {
        let entry = self.find(&request.container)?;
        let _operation = entry.hold(&request.container).await?;
        if entry.standing.borrow().removed {
            return Err(Error::no_workload(&request.container));
        }
        let freeze = !request.unfrozen && matches!(entry.phase(), Phase::Running { .. });
        if freeze {
            host::write_file(&self.run_folder(&entry.id).join(FROZEN), b"")?;
            if let Err(error) = self.pause_held(&entry).await {
                self.forget_freeze(&entry.id);
                return Err(error);
            }
        }
        let engine = self.clone();
        let there = Arc::clone(&entry);
        let made = host::blocking(move || engine.commit_now(&there, &request)).await;
        if freeze {
            // It may have been killed meanwhile.
            let thawed = match entry.phase() {
                Phase::Paused { .. } => self.unpause_held(&entry).await,
                _ => Ok(()),
            };
            self.forget_freeze(&entry.id);
            thawed?;
        }
        made
    }

    fn commit_now(&self, entry: &Entry, request: &CommitRequest) -> Result<Digest, Error> {
        let store = &self.shared.store;
        let workload = entry.workload();
        let base = store.image(&workload.image.manifest)?;
        let own = own_config(&workload, &base.config.config);
        let mut config = filled(request.config.clone(), own);
        for change in &request.changes {
            instruction::apply(&mut config, change)?;
        }
        let lease = store.lease("commit")?;
        let upper = store.root(entry.id.as_str())?.upper;
        let options = CommitOptions { leave_out: &MOUNT_POINTS, ..CommitOptions::default() };
        let layer = store.commit_upper(&lease, &upper, options)?;
        failpoint::hit("commit.after-layer");
        let step = History {
            created: host::rfc3339(host::now()),
            created_by: Some(workload.command.cmd.join(" ")),
            author: some(&request.author),
            comment: some(&request.comment),
            empty_layer: layer.entries == 0,
        };
        // A layer that was built here is kept as the plain archive that its diff id is the digest of.
        let added = (layer.entries > 0).then_some(layer.diff_id);
        let image = self.build_on(&base, config, step, added, &lease)?;
        failpoint::hit("commit.after-image");
        let id = self.settle_image(request.name.as_ref(), &image)?;
        let name = request.name.as_ref().map(Reference::familiar).unwrap_or_default();
        let about = [("comment", request.comment.clone()), ("imageID", id.to_string()), ("imageRef", name)];
        self.say(entry, "commit", &about);
        Ok(id)
    }

    /// The manifest of an image with one step more than another.
    fn build_on(
        &self,
        base: &Image,
        config: Config,
        step: History,
        added: Option<Digest>,
        lease: &Lease,
    ) -> Result<Descriptor, Error> {
        let mut image =
            ImageConfig { created: step.created.clone(), author: step.author.clone(), config, ..base.config.clone() };
        image.history.push(step);
        let mut layers: Vec<Descriptor> = base.manifest.layers.iter().map(as_oci).collect();
        if let Some(diff_id) = added {
            layers.push(self.plain_layer(&diff_id)?);
            image.rootfs.diff_ids.push(diff_id);
        }
        self.put_image(&image, layers, lease)
    }

    /// The descriptor of a layer that is kept as a plain archive.
    pub(crate) fn plain_layer(&self, diff_id: &Digest) -> Result<Descriptor, Error> {
        let size = self.shared.store.stat(diff_id)?;
        let size = size.ok_or_else(|| atoll_store::Error::MissingBlob(diff_id.clone()))?;
        Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), size))
    }

    /// Puts configuration and manifest of an image whose layers are there.
    pub(crate) fn put_image(
        &self,
        image: &ImageConfig,
        layers: Vec<Descriptor>,
        lease: &Lease,
    ) -> Result<Descriptor, Error> {
        let store = &self.shared.store;
        for layer in &layers {
            store.hold(lease, &layer.digest)?;
        }
        let config = serde_json::to_vec(image).expect("plain data with text keys");
        let config = store.put_bytes(lease, media_type::OCI_CONFIG, &config)?;
        let manifest = serde_json::to_vec(&Manifest::new(config, layers)).expect("plain data with text keys");
        Ok(store.put_bytes(lease, media_type::OCI_MANIFEST, &manifest)?)
    }

    /// Gives a new image its name, or its own digest for one; its id.
    pub(crate) fn settle_image(&self, name: Option<&Reference>, manifest: &Descriptor) -> Result<Digest, Error> {
        match name {
            Some(name) => self.name_image(name, manifest)?,
            None => drop(self.shared.store.link(&manifest.digest.to_string(), manifest)?),
        }
        Ok(self.shared.store.image(&manifest.digest)?.config_digest)
    }

    /// Thaws a workload that a daemon which was killed meanwhile had frozen.
    pub(crate) async fn thaw_committed(&self, entry: &Arc<Entry>) {
        if !self.run_folder(&entry.id).join(FROZEN).exists() {
            return;
        }
        if matches!(entry.phase(), Phase::Paused { .. })
            && let Err(error) = self.unpause_held(entry).await
        {
            tracing::warn!(%error, id = %entry.id.short(), "thawing a workload that was being committed");
        }
        self.forget_freeze(&entry.id);
    }

    fn forget_freeze(&self, id: &WorkloadId) {
        let note = self.run_folder(id).join(FROZEN);
        if let Err(error) = std::fs::remove_file(&note)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, note = %note.display(), "removing a note");
        }
    }
}

/// What a workload was asked for, as the configuration of an image.
fn own_config(workload: &Workload, image: &Config) -> Config {
    let command = &workload.command;
    Config {
        user: command.user.clone(),
        exposed_ports: command.exposed_ports.iter().map(|port| (port.clone(), Empty {})).collect(),
        env: command.env.clone(),
        entrypoint: some_words(&command.entrypoint),
        cmd: some_words(&command.cmd),
        working_dir: command.working_dir.clone(),
        labels: workload.labels.clone(),
        stop_signal: some(&workload.life.stop_signal),
        stop_timeout: workload.life.stop_timeout_s,
        volumes: image.volumes.clone(),
        healthcheck: image.healthcheck.clone(),
        shell: image.shell.clone(),
        ..Config::default()
    }
}

/// What was asked for, its gaps filled from the workload's own, by the rules of creation.
fn filled(asked: Config, own: Config) -> Config {
    let mut config = asked;
    if config.entrypoint.is_none() {
        config.cmd = config.cmd.or(own.cmd);
        config.entrypoint = own.entrypoint;
    }
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let known: Vec<String> = config.env.iter().map(name).collect();
    config.env.extend(own.env.into_iter().filter(|entry| !known.contains(&name(entry))));
    config.user = Some(config.user).filter(|user| !user.is_empty()).unwrap_or(own.user);
    config.working_dir = Some(config.working_dir).filter(|path| !path.is_empty()).unwrap_or(own.working_dir);
    let labels: BTreeMap<_, _> = own.labels.into_iter().chain(config.labels).collect();
    config.labels = labels;
    config.exposed_ports.extend(own.exposed_ports);
    config.volumes.extend(own.volumes);
    config.stop_signal = config.stop_signal.or(own.stop_signal);
    config.stop_timeout = config.stop_timeout.or(own.stop_timeout);
    config.healthcheck = config.healthcheck.or(own.healthcheck);
    config.shell = config.shell.or(own.shell);
    config
}

/// A layer of Docker's under the type that an OCI manifest has for it.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let compression = Compression::of_media_type(&layer.media_type);
    let media_type =
        compression.map_or_else(|| layer.media_type.clone(), |packed| packed.layer_media_type().to_owned());
    Descriptor { media_type, ..layer.clone() }
}

pub(crate) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn some_words(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_comes_first() {
        let words = |text: &str| Some(vec![text.to_owned()]);
        let own = || Config {
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            entrypoint: words("own"),
            cmd: words("own"),
            user: "own".to_owned(),
            ..Config::default()
        };
        assert_eq!(filled(Config::default(), own()), own());
        let asked = Config { env: vec!["B=3".to_owned()], entrypoint: words("asked"), ..Config::default() };
        let both = filled(asked, own());
        assert_eq!(both.env, ["B=3", "A=1"]);
        assert_eq!((both.entrypoint, both.cmd), (words("asked"), None));
    }
}
