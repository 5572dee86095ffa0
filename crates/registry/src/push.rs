//! From an image in the store to a registry.
//!
//! ```text
//!   layers, several at a time ─► configuration ─► manifest ─► index, where it is one that is here as a whole
//! ```
//!
//! A blob that the registry has already is not sent: neither where the repository has it, nor where another of the same
//! registry does, from which it is mounted. Layers that are kept unpacked are packed on the way; the manifest that goes out
//! then names what they packed to. Content comes before what names it, so that nobody finds an image in pieces.

use std::collections::HashMap;

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::manifest::MANIFEST_MAX;
use atoll_oci::{Compression, Descriptor, Digest, ImageConfig, Manifest, Parsed, Reference, media_type, parse_any};
use atoll_store::{Packed, Store};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;

use crate::pull::{CONTENT_DIGEST, blocking};
use crate::session::{Ask, Session, Subject};
use crate::upload::{Begun, Upload};
use crate::{Credentials, Error, Registries};

/// Blobs that are on their way at a time, as Docker has it.
const BLOBS_AT_A_TIME: usize = 5;
/// How deep indexes may nest.
const NESTING_MAX: usize = 4;

/// How far a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushPhase {
    /// It will be looked at.
    Preparing,
    /// The repository has it already.
    Exists,
    /// The registry took it from this other repository.
    Mounted(String),
    /// It goes out.
    Pushing {
        /// Bytes that have gone.
        current: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// It is there.
    Pushed,
}

/// Is told how far each blob is, by the digest of its plain archive where it is a layer: from tasks that push, so it must not
/// wait.
pub type PushProgress = dyn Fn(&Digest, PushPhase) + Send + Sync;

/// Pushes what `target` stands for under the name `reference`, which has a tag or a digest; gives what the registry knows it by
/// now. The caller keeps it from being swept.
///
/// # Errors
/// [`Error`]; what had been sent is the registry's to clean up then.
pub async fn push(
    registries: &Registries,
    (store, target): (&Store, &Descriptor),
    reference: &Reference,
    credentials: &Credentials,
    progress: &PushProgress,
) -> Result<Descriptor, Error> {
    let subject = Subject::image(reference.registry(), reference, "pull,push");
    let session = Session::open(registries, subject, credentials).await?;
    let (of_store, of_reference) = (store.clone(), reference.clone());
    let elsewhere = blocking(move || elsewhere(&of_store, &of_reference)).await.map_err(Error::store("the image"))?;
    let pusher = Pusher { session: &session, store, reference, elsewhere, progress };
    let name = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(ToOwned::to_owned));
    pusher.target(target, name.as_deref(), 0).await
}

/// Which other repository of the same registry is likely to have a blob: one that an image here is named after.
fn elsewhere(store: &Store, reference: &Reference) -> Result<HashMap<Digest, String>, atoll_store::Error> {
    let mut found = HashMap::new();
    for (name, target) in store.links()? {
        let Ok(other) = Reference::parse(&name) else { continue };
        if name.parse::<Digest>().is_ok()
            || other.registry() != reference.registry()
            || other.repository() == reference.repository()
        {
            continue;
        }
        let Ok(bytes) = store.read(&target.digest, MANIFEST_MAX as u64) else { continue };
        let Ok(Parsed::Manifest(manifest)) = parse_any(&bytes, None) else { continue };
        let blobs = manifest.layers.into_iter().chain([manifest.config]);
        found.extend(blobs.map(|blob| (blob.digest, other.repository().to_owned())));
    }
    Ok(found)
}

struct Pusher<'a> {
    session: &'a Session<'a>,
    store: &'a Store,
    reference: &'a Reference,
    elsewhere: HashMap<Digest, String>,
    progress: &'a PushProgress,
}

impl Pusher<'_> {
    /// Pushes a manifest or an index with everything below it, under `name` or its digest.
    async fn target(&self, target: &Descriptor, name: Option<&str>, depth: usize) -> Result<Descriptor, Error> {
        let bytes = self.read("the manifest", target, MANIFEST_MAX as u64).await?;
        let parsed = parse_any(&bytes, Some(&target.media_type)).map_err(Error::manifest(self.reference))?;
        let (entries, field, said) = match parsed {
            Parsed::Manifest(manifest) => (self.manifest(&manifest).await?, "layers", manifest.media_type),
            Parsed::Index(_) if depth == NESTING_MAX => {
                return Err(Error::Size { what: "the nesting of indexes", limit: NESTING_MAX as u64 });
            }
            Parsed::Index(index) => {
                let mut entries = Vec::new();
                for entry in &index.manifests {
                    entries.push(Box::pin(self.target(entry, None, depth + 1)).await?);
                }
                (entries, "manifests", index.media_type)
            }
        };
        let kind = if field == "layers" { media_type::OCI_MANIFEST } else { media_type::OCI_INDEX };
        let media_type = said.as_deref().filter(|said| !said.is_empty()).unwrap_or(kind);
        let (bytes, digest) = match renamed(&bytes, field, &entries) {
            Some(changed) => (changed.clone(), Digest::sha256(&changed)),
            None => (bytes, target.digest.clone()),
        };
        let pushed = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.put_manifest(&pushed, bytes, name).await?;
        Ok(pushed)
    }

    async fn read(&self, what: &str, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let (store, digest) = (self.store.clone(), blob.digest.clone());
        blocking(move || store.read(&digest, limit)).await.map_err(Error::store(what))
    }

    /// Pushes what a manifest names; gives its layers as they are there.
    async fn manifest(&self, manifest: &Manifest) -> Result<Vec<Descriptor>, Error> {
        let config = self.read("the image's configuration", &manifest.config, CONFIG_MAX as u64).await?;
        let diff_ids = ImageConfig::parse(&config).map(|config| config.rootfs.diff_ids).unwrap_or_default();
        let is_image = diff_ids.len() == manifest.layers.len();
        let mut wanted: Vec<(&Descriptor, Option<&Digest>)> = Vec::new();
        for (at, layer) in manifest.layers.iter().enumerate() {
            let diff_id =
                diff_ids.get(at).filter(|_| is_image && Compression::of_media_type(&layer.media_type).is_some());
            if !wanted.iter().any(|(known, _)| known.digest == layer.digest) {
                (self.progress)(diff_id.unwrap_or(&layer.digest), PushPhase::Preparing);
                wanted.push((layer, diff_id));
            }
        }
        let mut work = Vec::with_capacity(wanted.len());
        for (layer, diff_id) in wanted {
            work.push(async move { Ok::<_, Error>((layer.digest.clone(), self.layer(layer, diff_id).await?)) });
        }
        let pushed: HashMap<Digest, Descriptor> =
            futures_util::stream::iter(work).buffer_unordered(BLOBS_AT_A_TIME).try_collect().await?;
        self.blob(&manifest.config, None, &|_| {}).await?;
        Ok(manifest.layers.iter().filter_map(|layer| pushed.get(&layer.digest).cloned()).collect())
    }

    async fn layer(&self, layer: &Descriptor, diff_id: Option<&Digest>) -> Result<Descriptor, Error> {
        let shown = diff_id.unwrap_or(&layer.digest);
        self.blob(layer, diff_id, &|phase| (self.progress)(shown, phase)).await
    }

    /// Pushes a blob, unless the registry has it; gives it as it is there.
    async fn blob(
        &self,
        blob: &Descriptor,
        diff_id: Option<&Digest>,
        say: &(dyn Fn(PushPhase) + Sync),
    ) -> Result<Descriptor, Error> {
        let what = || format!("blob {}", blob.digest.short());
        let (store, wanted, of_layer) = (self.store.clone(), blob.clone(), diff_id.cloned());
        let packed = blocking(move || store.packed(&wanted, of_layer.as_ref())).await.map_err(Error::store(what()))?;
        for known in &packed.known {
            if self.exists(known).await? {
                say(PushPhase::Exists);
                return Ok(known.clone());
            }
        }
        let mut begun = None;
        for known in &packed.known {
            let Some(from) = self.elsewhere.get(&known.digest) else { continue };
            match Begun::mounted(self.session, &known.digest, from).await? {
                None => {
                    say(PushPhase::Mounted(from.clone()));
                    return Ok(known.clone());
                }
                other => begun = other,
            }
        }
        let sent = self.send(&packed, begun, say).await?;
        if let Some(diff_id) = diff_id.filter(|_| packed.descriptor().is_none()) {
            let (store, diff_id, note) = (self.store.clone(), diff_id.clone(), sent.clone());
            blocking(move || store.note_packed(&diff_id, &note)).await.map_err(Error::store(what()))?;
        }
        say(PushPhase::Pushed);
        Ok(sent)
    }

    async fn send(
        &self,
        packed: &Packed,
        begun: Option<Begun>,
        say: &(dyn Fn(PushPhase) + Sync),
    ) -> Result<Descriptor, Error> {
        let total = packed.descriptor().map(|known| known.size);
        say(PushPhase::Pushing { current: 0, total });
        let report = |current| say(PushPhase::Pushing { current, total });
        let (digest, size) = Upload::new(self.session, (self.store, packed), begun, &report)?.run().await?;
        Ok(Descriptor::new(&packed.media_type, digest, size))
    }

    /// Whether the repository has a blob.
    async fn exists(&self, blob: &Descriptor) -> Result<bool, Error> {
        let ask = Ask::new(Method::HEAD, self.session.url(&format!("blobs/{}", blob.digest))?);
        match self.session.request(&ask).await {
            Ok(response) => {
                let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                Ok(length.is_none_or(|length| length.parse() == Ok(blob.size)))
            }
            Err(error) if error.is_status(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put_manifest(&self, pushed: &Descriptor, bytes: Vec<u8>, name: Option<&str>) -> Result<(), Error> {
        let digest = pushed.digest.to_string();
        let url = self.session.url(&format!("manifests/{}", name.unwrap_or(&digest)))?;
        let body = || Body::from(bytes.clone());
        let ask = Ask::new(Method::PUT, url).header(CONTENT_TYPE, &pushed.media_type).body(&body);
        let response = self.session.request(&ask).await?;
        let said = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match said {
            Some(found) if found.algorithm() == pushed.digest.algorithm() && found != pushed.digest => {
                Err(Error::Digest { expected: pushed.digest.clone(), found })
            }
            _ => Ok(()),
        }
    }
}

/// A manifest or an index whose entries are called otherwise now, everything else as it was; `None` where nothing changed.
fn renamed(bytes: &[u8], field: &str, entries: &[Descriptor]) -> Option<Vec<u8>> {
    let mut document = serde_json::from_slice::<Value>(bytes).ok()?;
    let list = document.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
    let mut changed = false;
    for (entry, now) in list.zip(entries) {
        let digest = now.digest.to_string();
        if entry["digest"] != digest.as_str() {
            entry["mediaType"] = now.media_type.as_str().into();
            entry["digest"] = digest.into();
            entry["size"] = now.size.into();
            changed = true;
        }
    }
    changed.then(|| document.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_called_otherwise_changes() {
        let bytes = br#"{"schemaVersion":2, "x": 1, "layers":[{"mediaType":"a","digest":"sha256:1","size":1,"annotations":{"k":"v"}}]}"#;
        let same = Descriptor::of_bytes("b", b"content");
        let changed = renamed(bytes, "layers", std::slice::from_ref(&same)).expect("it changed");
        let text = String::from_utf8(changed).expect("text");
        assert!(text.contains(&same.digest.to_string()) && text.contains(r#""size":7"#), "{text}");
        assert!(text.contains(r#""annotations":{"k":"v"}"#) && text.contains(r#""x":1"#), "{text}");
        assert_eq!(renamed(text.as_bytes(), "layers", &[same]), None);
    }
}
