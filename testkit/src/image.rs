//! Tiny images, written as the archives that `docker load` takes.
//!
//! An [`Image`] is layers and a configuration; [`Image::docker_archive`] and [`Image::oci_layout`] give the bytes of a
//! tar. The same image gives the same bytes. Sources: OCI image specification (image layout, config, manifest), Docker
//! image specification 1.2 (`manifest.json`).

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tar::{Entry, Kind, archive};

/// One layer, in the order that entries are added. Names are relative, without a leading `/`.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: Vec<Entry>,
}

impl Layer {
    /// An empty layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file; `mode` is its permission bits.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(name, mode, Kind::File(content.into()))
    }

    /// Adds a folder with mode 0755.
    #[must_use]
    pub fn folder(self, name: &str) -> Self {
        self.entry(&format!("{}/", name.trim_end_matches('/')), 0o755, Kind::Folder)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, 0o777, Kind::Symlink(target.to_owned()))
    }

    /// Adds a further name of a file already in the layer.
    #[must_use]
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, 0o644, Kind::HardLink(target.to_owned()))
    }

    /// Adds the whiteout of `name`, which hides it in the layers below.
    #[must_use]
    pub fn whiteout(self, name: &str) -> Self {
        let hidden = match name.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/.wh.{name}"),
            None => format!(".wh.{name}"),
        };
        self.entry(&hidden, 0o644, Kind::File(Vec::new()))
    }

    /// The layer as an uncompressed tar.
    #[must_use]
    pub fn tar(&self) -> Vec<u8> {
        archive(&self.entries)
    }

    /// Gives what was added last to another user and group than root.
    #[must_use]
    pub fn owned_by(mut self, user: u32, group: u32) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.owner = (user, group);
        }
        self
    }

    fn entry(mut self, name: &str, mode: u32, kind: Kind) -> Self {
        self.entries.push(Entry { name: name.to_owned(), mode, kind, owner: (0, 0) });
        self
    }
}

/// An image as a registry has it.
#[derive(Debug, Clone)]
pub struct Published {
    /// The descriptor of its manifest.
    pub manifest: Value,
    /// Manifest, configuration and layers, by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Published {
    /// The bytes of its manifest.
    ///
    /// # Panics
    /// Never: it is among the blobs.
    #[must_use]
    pub fn manifest_bytes(&self) -> Vec<u8> {
        self.blobs[self.manifest["digest"].as_str().expect("a digest is text")].clone()
    }
}

/// An image for the running machine's architecture.
#[derive(Debug, Clone, Default)]
pub struct Image {
    layers: Vec<Layer>,
    config: serde_json::Map<String, Value>,
}

impl Image {
    /// An image without layers and settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets a field of the inner configuration: `image.config("Cmd", ["sh"])`.
    #[must_use]
    pub fn config(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config.insert(field.to_owned(), value.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn layers_for_test(&self) -> &[Layer] {
        &self.layers
    }

    /// What `docker save` writes (Docker 1.10 to 24): `manifest.json`, the configuration, uncompressed layers.
    #[must_use]
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        self.docker_archive_of(name, self.layers.iter().map(Layer::tar).collect())
    }

    /// The same with gzip-compressed layers, which `docker load` takes too.
    #[must_use]
    pub fn docker_archive_packed(&self, name: &str) -> Vec<u8> {
        self.docker_archive_of(name, self.layers.iter().map(|layer| gzip(&layer.tar())).collect())
    }

    fn docker_archive_of(&self, name: &str, tars: Vec<Vec<u8>>) -> Vec<u8> {
        let config = self.config_file();
        let config_name = format!("{}.json", hex(&config));
        let names: Vec<String> =
            tars.iter().enumerate().map(|(at, tar)| format!("{}{at}/layer.tar", &hex(tar)[..16])).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
        let mut files = vec![file(&config_name, config)];
        files.extend(names.iter().zip(tars).map(|(name, tar)| file(name, tar)));
        files.push(file("manifest.json", manifest.to_string()));
        archive(&files)
    }

    /// The image as a registry has it, with gzip-compressed layers.
    #[must_use]
    pub fn published(&self) -> Published {
        let mut blobs = BTreeMap::new();
        let mut blob = |kind: &str, content: Vec<u8>| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            let digest = format!("sha256:{}", hex(&content));
            let descriptor = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
            blobs.insert(digest, content);
            descriptor
        };
        let config = blob("config.v1+json", self.config_file());
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| blob("layer.v1.tar+gzip", gzip(&layer.tar()))).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers});
        let manifest = blob("manifest.v1+json", manifest.to_string().into_bytes());
        Published { manifest, blobs }
    }

    /// An OCI image layout of [`Image::published`], its manifest named by `org.opencontainers.image.ref.name`.
    #[must_use]
    pub fn oci_layout(&self, name: &str) -> Vec<u8> {
        let Published { mut manifest, blobs } = self.published();
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name});
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest]});
        let mut files = vec![file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)];
        files.extend(blobs.into_iter().map(|(digest, content)| {
            let path = format!("blobs/{}", digest.replace(':', "/"));
            file(&path, content)
        }));
        files.push(file("index.json", index.to_string()));
        archive(&files)
    }

    /// The image configuration (OCI image specification, config).
    fn config_file(&self) -> Vec<u8> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| format!("sha256:{}", hex(&layer.tar()))).collect();
        let config = json!({"architecture": architecture, "os": "linux", "created": "2020-01-01T00:00:00Z",
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        config.to_string().into_bytes()
    }
}

fn file(name: &str, content: impl Into<Vec<u8>>) -> Entry {
    Entry { name: name.to_owned(), mode: 0o644, kind: Kind::File(content.into()), owner: (0, 0) }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
}
