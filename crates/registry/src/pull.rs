//! From a reference to an image in the store.
//!
//! ```text
//!   reference ─► index ─► manifest ─► configuration ─► layers, several at a time, each unpacked while it streams
//! ```
//!
//! Everything is put under the caller's lease; the image exists for others once the caller gives it a name.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::manifest::MANIFEST_MAX;
use atoll_oci::{
    Compression, Descriptor, Digest, ImageConfig, Manifest, Parsed, Platform, Reference, media_type, parse_any,
};
use atoll_store::{LayerSource, Lease, Store};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use crate::body::{channel, feed};
use crate::session::{Session, Subject};
use crate::{Credentials, Error, Registries};

/// Layers that are on their way at a time, as Docker has it.
const LAYERS_AT_A_TIME: usize = 3;
/// How deep indexes may nest.
const NESTING_MAX: usize = 4;
/// What we can read.
pub(crate) const ACCEPT: [&str; 4] =
    [media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST];
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What the reference stands for: a manifest, or an index of several platforms.
    pub target: Descriptor,
    /// The manifest for the platform.
    pub manifest: Descriptor,
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is in the store already.
    Exists,
    /// It has to come.
    Waiting,
    /// It comes, and is unpacked meanwhile.
    Downloading {
        /// Bytes that have come.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It has come.
    Downloaded,
    /// It is in the store.
    Complete,
}

/// Is told how far each layer is: from the task that pulls, so it must not wait.
pub type Progress = dyn Fn(&Digest, Phase) + Send + Sync;

/// Pulls the image that `reference` names, for `platform`, into `store` under `lease`.
///
/// Where the reference stands for a single manifest, that is taken whatever it is for, unless `strict`.
///
/// # Errors
/// [`Error`]; nothing of the image can be reached then, and what had come is deleted when the lease ends.
pub async fn pull(
    registries: &Registries,
    (store, lease): (&Store, Arc<Lease>),
    reference: &Reference,
    (platform, strict): (&Platform, bool),
    credentials: &Credentials,
    progress: &Progress,
) -> Result<Pulled, Error> {
    for place in registries.places(reference.registry()) {
        let shown = if place.mirror { &Credentials::Anonymous } else { credentials };
        let pulled = async {
            let subject = Subject::image(&place.host, reference, "pull");
            let session = Session::open(registries, subject, shown).await?;
            let puller = Puller { session, store: store.clone(), lease: Arc::clone(&lease), reference };
            puller.pull((platform, strict), progress).await
        };
        match pulled.await {
            // What has come from it stays under the lease, and does not travel again.
            Err(error) if place.mirror => tracing::warn!(mirror = place.host, %error, "a mirror is passed over"),
            done => return done,
        }
    }
    Err(Error::Protocol { registry: reference.registry().to_owned(), why: "has no address" })
}

struct Puller<'a> {
    session: Session<'a>,
    store: Store,
    lease: Arc<Lease>,
    reference: &'a Reference,
}

impl Puller<'_> {
    async fn pull(&self, (platform, strict): (&Platform, bool), progress: &Progress) -> Result<Pulled, Error> {
        let (target, manifest, chosen) = self.choose(platform).await?;
        let config = self.config(&manifest).await?;
        if strict && !platform.matches(&config.platform()) {
            return Err(Error::platform(self.reference, platform));
        }
        self.layers(&manifest, &config, progress).await?;
        Ok(Pulled { target, manifest: chosen })
    }

    /// What the reference stands for, the manifest for the platform, and that one's descriptor.
    async fn choose(&self, platform: &Platform) -> Result<(Descriptor, Manifest, Descriptor), Error> {
        let digest = self.reference.digest();
        let name = digest.map(ToString::to_string).or_else(|| self.reference.tag().map(ToOwned::to_owned));
        let (target, mut parsed) = self.manifest(&name.unwrap_or_default(), digest, None).await?;
        let mut current = target.clone();
        for _ in 0..NESTING_MAX {
            let index = match parsed {
                Parsed::Manifest(manifest) => return Ok((target, manifest, current)),
                Parsed::Index(index) => index,
            };
            let entry = platform.select(&index).ok_or_else(|| Error::platform(self.reference, platform))?;
            let name = entry.digest.to_string();
            (current, parsed) = self.manifest(&name, Some(&entry.digest), Some(&entry.media_type)).await?;
        }
        Err(Error::platform(self.reference, platform))
    }

    /// Fetches, checks and keeps one manifest or index.
    async fn manifest(
        &self,
        name: &str,
        expected: Option<&Digest>,
        announced: Option<&str>,
    ) -> Result<(Descriptor, Parsed), Error> {
        let limit = MANIFEST_MAX as u64;
        let (headers, bytes) = self.session.get(&format!("manifests/{name}"), &ACCEPT, limit + 1).await?;
        let said_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        check_digest(&headers, &bytes, expected)?;
        let announced = announced.or(said_type);
        let parsed = parse_any(&bytes, announced).map_err(Error::manifest(self.reference))?;
        let media_type = match &parsed {
            Parsed::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST),
            Parsed::Index(index) => index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        };
        let digest = expected.cloned().unwrap_or_else(|| Digest::sha256(&bytes));
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.keep("the manifest", descriptor.clone(), bytes).await?;
        Ok((descriptor, parsed))
    }

    /// Fetches, checks and keeps the configuration.
    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let limit = CONFIG_MAX as u64;
        let blob = &manifest.config;
        if blob.size > limit {
            return Err(Error::Size { what: "the image's configuration", limit });
        }
        // One byte more than was promised is enough to see that the promise is not kept.
        let (_, bytes) = self.session.get(&format!("blobs/{}", blob.digest), &[], blob.size + 1).await?;
        self.keep("the image's configuration", blob.clone(), bytes.clone()).await?;
        let config = ImageConfig::parse(&bytes)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::Layers { layers, diff_ids });
        }
        Ok(config)
    }

    async fn keep(&self, what: &'static str, blob: Descriptor, bytes: Vec<u8>) -> Result<(), Error> {
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        blocking(move || store.put(&lease, &blob, &mut bytes.as_slice())).await.map_err(Error::store(what))
    }

    async fn layers(&self, manifest: &Manifest, config: &ImageConfig, progress: &Progress) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let wanted: Vec<_> = pairs.filter(|(blob, _)| seen.insert(&blob.digest)).collect();
        for (blob, _) in &wanted {
            if Compression::of_media_type(&blob.media_type).is_none() || !blob.urls.is_empty() {
                return Err(Error::LayerKind(blob.digest.clone(), blob.media_type.clone()));
            }
            progress(&blob.digest, Phase::Waiting);
        }
        let mut layers = Vec::with_capacity(wanted.len());
        for (blob, diff_id) in wanted {
            layers.push(self.layer(blob, diff_id, progress));
        }
        futures_util::stream::iter(layers).buffer_unordered(LAYERS_AT_A_TIME).try_collect::<()>().await
    }

    async fn layer(&self, blob: &Descriptor, diff_id: &Digest, progress: &Progress) -> Result<(), Error> {
        let what = || format!("layer {}", blob.digest.short());
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let wanted = diff_id.clone();
        let there = blocking(move || {
            store.hold(&lease, &wanted)?;
            store.layer(&wanted)
        });
        if there.await.map_err(Error::store(what()))?.is_some() {
            progress(&blob.digest, Phase::Exists);
            return Ok(());
        }
        let (store, digest) = (self.store.clone(), blob.digest.clone());
        let partial = blocking(move || store.take_partial(&digest)).await.map_err(Error::store(what()))?;
        let resumes = partial.is_some();
        match self.fetch(blob, diff_id, partial, progress).await {
            // What had come of it before may be what is wrong with it.
            Err(Error::Store { .. }) if resumes => self.fetch(blob, diff_id, None, progress).await,
            done => done,
        }
    }

    /// Gets and unpacks a layer, of which a part may have come before.
    async fn fetch(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        partial: Option<(File, u64)>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let (sender, reader) = channel();
        let (before, from) = match partial {
            Some((file, length)) if length < blob.size => (Some(file), length),
            _ => (None, 0),
        };
        let mut reader =
            before.map_or_else(|| Box::new(io::empty()) as Box<dyn Read + Send>, |file| Box::new(file)).chain(reader);
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let (descriptor, diff_id) = (blob.clone(), diff_id.clone());
        let unpacking = blocking(move || {
            let source =
                LayerSource { descriptor: Some(&descriptor), diff_id: Some(&diff_id), compression: None, keep: true };
            store.unpack(&lease, source, &mut reader)
        });
        let feeding = async {
            let report = |current| progress(&blob.digest, Phase::Downloading { current, total: blob.size });
            feed(&self.session, blob, from, sender, report).await?;
            progress(&blob.digest, Phase::Downloaded);
            Ok::<(), Error>(())
        };
        let (fed, unpacked) = tokio::join!(feeding, unpacking);
        // A transfer that broke off says more than that the layer has no end; a layer that was refused ends its transfer.
        fed?;
        unpacked.map_err(Error::store(format!("layer {}", blob.digest.short())))?;
        progress(&blob.digest, Phase::Complete);
        Ok(())
    }
}

/// Refuses a manifest that is too long, or that is another than was asked for or than its registry says.
pub(crate) fn check_digest(headers: &HeaderMap, bytes: &[u8], asked: Option<&Digest>) -> Result<(), Error> {
    let limit = MANIFEST_MAX as u64;
    if bytes.len() as u64 > limit {
        return Err(Error::Size { what: "the manifest", limit });
    }
    let said = headers.get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
    for expected in asked.into_iter().chain(&said) {
        let mut hasher = atoll_oci::Hasher::for_digest(expected);
        hasher.update(bytes);
        let found = hasher.finish();
        if found != *expected {
            return Err(Error::Digest { expected: expected.clone(), found });
        }
    }
    Ok(())
}

/// Runs what waits for the disk or for a slow transfer where it holds up nobody else.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
