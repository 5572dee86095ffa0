//! The image around the layers: configuration, labels and manifest, all of them functions of what was verified.
//!
//! Every field comes from the arguments, the Release file or the list of packages, and time is the Release file's date, so
//! that the same InRelease file and the same arguments give the same digest. Left out: annotations of the manifest.

use std::collections::BTreeMap;

use atoll_oci::config::{History, RootFs};
use atoll_oci::{Config, Descriptor, Digest, ImageConfig, Manifest, media_type};
use atoll_store::{Layer, Lease, Store};

use crate::Variant;
use crate::arch::Arch;
use crate::packages::Package;
use crate::release::Release;
use crate::time;

/// The search path that Debian and Docker's images use.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says about its origin.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The suite as it was asked for.
    pub suite: String,
    /// The architecture.
    pub arch: Arch,
    /// How it was made.
    pub variant: Variant,
    /// The further packages that were asked for.
    pub include: Vec<String>,
    /// SHA256 of InRelease.
    pub inrelease_sha256: String,
    /// SHA256 of the list of packages.
    pub packages_sha256: String,
    /// The suite's Release file.
    pub release: Release,
}

/// The digest of a list of packages: one line `name version architecture sha256` each, in order of name.
pub fn packages_digest<'a>(packages: impl Iterator<Item = &'a Package>) -> String {
    let mut text = String::new();
    for package in packages {
        text += &format!("{} {} {} {}\n", package.name, package.version, package.architecture, package.file.sha256);
    }
    Digest::sha256(text.as_bytes()).hex().to_owned()
}

impl Origin {
    /// The labels of the image.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let release = &self.release;
        let title = format!("Debian {} ({}, {})", release.codename, self.variant.as_str(), self.arch.debian);
        let version = release.version.clone().unwrap_or_else(|| release.codename.clone());
        [
            ("org.opencontainers.image.title", title),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.created", time::rfc3339(release.date)),
            ("org.opencontainers.image.vendor", release.origin.clone().unwrap_or_else(|| "Debian".to_owned())),
            ("atoll.debian.suite", self.suite.clone()),
            ("atoll.debian.codename", release.codename.clone()),
            ("atoll.debian.architecture", self.arch.debian.to_owned()),
            ("atoll.debian.variant", self.variant.as_str().to_owned()),
            ("atoll.debian.include", self.include.join(",")),
            ("atoll.debian.inrelease.sha256", self.inrelease_sha256.clone()),
            ("atoll.debian.packages.sha256", self.packages_sha256.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// The image's configuration over its layers: what each was made by, with its digest.
    pub fn config(&self, cmd: Option<&str>, layers: &[(&str, Digest)]) -> ImageConfig {
        let created = Some(time::rfc3339(self.release.date));
        let history = layers.iter().map(|(by, _)| History {
            created: created.clone(),
            created_by: Some((*by).to_owned()),
            ..History::default()
        });
        ImageConfig {
            created: created.clone(),
            architecture: self.arch.oci.to_owned(),
            variant: self.arch.variant.map(str::to_owned),
            os: "linux".to_owned(),
            config: Config {
                env: vec![format!("PATH={PATH}")],
                cmd: cmd.map(|program| vec![program.to_owned()]),
                labels: self.labels(),
                ..Config::default()
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|(_, diff_id)| diff_id.clone()).collect(),
            },
            history: history.collect(),
            ..ImageConfig::default()
        }
    }

    /// Puts configuration and manifest into the store and returns the manifest's descriptor.
    pub fn put(
        &self,
        store: &Store,
        lease: &Lease,
        cmd: Option<&str>,
        layers: &[(&str, &Layer)],
    ) -> Result<Descriptor, crate::Error> {
        let diff_ids: Vec<_> = layers.iter().map(|(by, layer)| (*by, layer.diff_id.clone())).collect();
        let config = serde_json::to_vec(&self.config(cmd, &diff_ids)).map_err(crate::Error::Encode)?;
        let config = store.put_bytes(lease, media_type::OCI_CONFIG, &config)?;
        let blobs: Result<Vec<_>, _> = layers
            .iter()
            .map(|(_, layer)| layer.blob.clone().ok_or_else(|| crate::Error::NoBlob(layer.diff_id.clone())))
            .collect();
        let manifest = Manifest::new(config, blobs?);
        let manifest = serde_json::to_vec(&manifest).map_err(crate::Error::Encode)?;
        Ok(store.put_bytes(lease, media_type::OCI_MANIFEST, &manifest)?)
    }
}
