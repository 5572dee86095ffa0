//! A root file system that somebody sends, as an image of one layer.

use std::io::Read;

use atoll_oci::config::{Config, History, RootFs};
use atoll_oci::{Digest, ImageConfig, Platform, Reference};
use atoll_store::{LayerSource, failpoint};

use crate::{Engine, Error, host, instruction};

/// An image to be made of a root file system.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// What to call it; none is no name.
    pub name: Option<Reference>,
    /// A remark.
    pub message: String,
    /// Instructions, as a Dockerfile has them, one a line.
    pub changes: Vec<String>,
    /// For which platform it is; none is this host's.
    pub platform: Option<Platform>,
}

impl Engine {
    /// Takes a root file system in; the image's id.
    ///
    /// # Errors
    /// When an instruction is none, or the archive is not acceptable.
    pub async fn import(&self, request: ImportRequest, archive: impl Read + Send + 'static) -> Result<Digest, Error> {
        let engine = self.clone();
        host::blocking(move || engine.import_now(&request, archive)).await
    }

    fn import_now(&self, request: &ImportRequest, archive: impl Read + Send) -> Result<Digest, Error> {
        let mut config = Config::default();
        for change in &request.changes {
            instruction::apply(&mut config, change)?;
        }
        let store = &self.shared.store;
        let lease = store.lease("import")?;
        let mut plain = atoll_store::unpacked(archive).map_err(|error| Error::Invalid(error.to_string()))?;
        let source = LayerSource { keep: true, ..LayerSource::default() };
        let layer = store.unpack(&lease, source, &mut plain).map_err(unacceptable)?;
        failpoint::hit("import.after-layer");
        let platform = request.platform.clone().unwrap_or_else(Platform::host).normalised();
        let created = host::rfc3339(host::now());
        let comment = if request.message.is_empty() { "Imported from -" } else { &request.message };
        let image = ImageConfig {
            created: created.clone(),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config,
            rootfs: RootFs { diff_ids: vec![layer.diff_id.clone()], ..RootFs::default() },
            history: vec![History { created, comment: Some(comment.to_owned()), ..History::default() }],
            ..ImageConfig::default()
        };
        let manifest = self.put_image(&image, vec![self.plain_layer(&layer.diff_id)?], &lease)?;
        failpoint::hit("import.after-image");
        let id = self.settle_image(request.name.as_ref(), &manifest)?;
        self.say_image("import", &id, &id.to_string());
        Ok(id)
    }
}

/// The fault of what was sent is the sender's.
fn unacceptable(error: atoll_store::Error) -> Error {
    if error.is_the_archives() { Error::Invalid(atoll_model::sentence(&error)) } else { error.into() }
}
