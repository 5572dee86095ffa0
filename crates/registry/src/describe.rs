//! What a name stands for at its registry (`docker manifest inspect`'s kind of question): nothing is kept.

use atoll_oci::config::CONFIG_MAX;
use atoll_oci::manifest::MANIFEST_MAX;
use atoll_oci::{Descriptor, Digest, ImageConfig, Parsed, Platform, Reference, media_type, parse_any};
use reqwest::header::CONTENT_TYPE;

use crate::pull::{ACCEPT, check_digest};
use crate::session::{Session, Subject};
use crate::{Credentials, Error, Registries};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// The platforms that there are images for.
    pub platforms: Vec<Platform>,
}

/// Asks a registry what `reference` stands for.
///
/// # Errors
/// [`Error`]
pub async fn describe(
    registries: &Registries,
    reference: &Reference,
    credentials: &Credentials,
) -> Result<Described, Error> {
    let subject = Subject::image(reference.registry(), reference, "pull");
    let session = Session::open(registries, subject, credentials).await?;
    let digest = reference.digest();
    let name = digest.map(ToString::to_string).or_else(|| reference.tag().map(ToOwned::to_owned));
    let limit = MANIFEST_MAX as u64;
    let path = format!("manifests/{}", name.unwrap_or_default());
    let (headers, bytes) = session.get(&path, &ACCEPT, limit + 1).await?;
    check_digest(&headers, &bytes, digest)?;
    let announced = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (said, kind, platforms) = match parse_any(&bytes, announced).map_err(Error::manifest(reference))? {
        Parsed::Index(index) => {
            let platforms = index.manifests.into_iter().filter_map(|entry| entry.platform).collect();
            (index.media_type, media_type::OCI_INDEX, platforms)
        }
        Parsed::Manifest(manifest) => {
            let limit = CONFIG_MAX as u64;
            let (_, bytes) = session.get(&format!("blobs/{}", manifest.config.digest), &[], limit).await?;
            let platforms = ImageConfig::parse(&bytes).map(|config| vec![config.platform()]).unwrap_or_default();
            (manifest.media_type, media_type::OCI_MANIFEST, platforms)
        }
    };
    let digest = digest.cloned().unwrap_or_else(|| Digest::sha256(&bytes));
    let descriptor = Descriptor::new(said.as_deref().unwrap_or(kind), digest, bytes.len() as u64);
    Ok(Described { descriptor, platforms })
}
