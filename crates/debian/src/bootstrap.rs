//! The whole way from a request to an image, or to the first stage of one.
//!
//! [`bootstrap`] reads and verifies the suite, resolves, downloads in parallel, and builds the tree and its layer on a
//! blocking thread; every step hands a value to the next. Whatever fails leaves at most verified files in the cache and
//! blobs without a name, which the store sweeps. Left out: naming the image, which is the caller's (under the lease).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use atoll_oci::Descriptor;
use atoll_store::{Layer, Lease, Store};
use futures_util::{StreamExt, TryStreamExt};

use crate::arch::Arch;
use crate::image::{self, Origin};
use crate::mirror::{self, Mirror, blocking};
use crate::packages::{self, Package};
use crate::resolve::{self, Wishes};
use crate::signature::{self, Keyring};
use crate::suite::{self, Suite};
use crate::tree::{self, Tree};
use crate::{Progress, Stage, Variant, apt, layer, minimal, sources};

/// Packages downloaded at once.
const DOWNLOADS_MAX: usize = 6;
/// Bytes of all packages of one image.
const DOWNLOAD_BYTES_MAX: u64 = 16 << 30;
/// Steps of progress on their way from the blocking thread.
const PROGRESS_QUEUE: usize = 64;
/// Packages of a minimal image that names none.
const DEFAULT_INCLUDE: &str = "busybox-static";
/// Among alternatives these win: the tree has a merged `/usr` from the start.
const PREFERRED: [&str; 1] = ["usr-is-merged"];

/// What to make an image of.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// A suite or codename: `trixie`, `stable`.
    pub suite: String,
    /// An architecture by Debian's or OCI's name; the host's if `None`.
    pub arch: Option<String>,
    /// Further packages; for `minimal`, none means busybox-static.
    pub include: Vec<String>,
    /// How to make it.
    pub variant: Variant,
    /// `http://`, `https://` or `file://` address; apt's own mirror if `None`.
    pub mirror: Option<String>,
    /// The trusted keys; Debian's keyring if `None`.
    pub keyring: Option<PathBuf>,
    /// A folder for downloaded files, kept between bootstraps.
    pub cache: PathBuf,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The architecture is unknown.
    #[error("there is no architecture \"{0}\" in Debian: name one such as amd64, arm64 or riscv64")]
    UnknownArch(String),
    /// The `apt` variant was asked for an architecture that cannot run here.
    #[error(
        "variant apt runs programs of the image and so is for this host's architecture {host} only, not {arch}: use --variant minimal"
    )]
    ForeignArch {
        /// The architecture asked for.
        arch: String,
        /// The host's.
        host: String,
    },
    /// A name that no package can have.
    #[error("\"{0}\" is not the name of a package")]
    PackageName(String),
    /// The packages are too large together.
    #[error("the packages have {0} bytes together, more than {DOWNLOAD_BYTES_MAX}")]
    TooLarge(u64),
    /// The keyring failed.
    #[error(transparent)]
    Signature(#[from] signature::Error),
    /// The suite failed.
    #[error(transparent)]
    Suite(#[from] suite::Error),
    /// No set of packages satisfies the request.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A download failed.
    #[error(transparent)]
    Mirror(#[from] mirror::Error),
    /// The minimal tree failed.
    #[error(transparent)]
    Minimal(#[from] minimal::Error),
    /// Stage one failed.
    #[error(transparent)]
    Apt(#[from] apt::Error),
    /// The tree has no place to spool.
    #[error("the image cannot be put together in {folder}")]
    Spool {
        /// The cache folder.
        folder: PathBuf,
        /// What went wrong.
        source: tree::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
    /// The layer cannot be written.
    #[error("the layer cannot be written")]
    Layer(#[from] atoll_store::tar::Error),
    /// A layer was given without its archive, so that no manifest can name it.
    #[error("layer {0} has no archive in the store: it was not made for this image")]
    NoBlob(atoll_oci::Digest),
    /// The image's JSON cannot be written.
    #[error("the image configuration cannot be encoded")]
    Encode(#[source] serde_json::Error),
}

/// A finished image, not yet named. Name it while the lease lives.
#[derive(Debug)]
pub struct Built {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Keeps its blobs and layers from the sweep.
    pub lease: Lease,
}

/// The first stage of an `apt` image: what the engine needs to configure it.
///
/// The engine makes a root over [`Staged::layer`], runs `/bin/sh -c` [`Staged::script`] in it as root with
/// [`Staged::environment`] and no network, and on exit code 0 commits the upper folder with
/// `commit_upper(&staged.lease, upper, clamp_mtime: Some(staged.source_date_epoch))`; [`finish`] makes the image.
#[derive(Debug)]
pub struct Staged {
    /// Keeps the layer from the sweep.
    pub lease: Lease,
    /// The unpacked packages.
    pub layer: Layer,
    /// What to run with `/bin/sh -c`.
    pub script: &'static str,
    /// Its whole environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Date of the Release file, seconds since 1970; later times in the upper folder are set back to it.
    pub source_date_epoch: i64,
    origin: Origin,
}

/// What [`bootstrap`] gives.
#[derive(Debug)]
pub enum Outcome {
    /// The image is there.
    Image(Box<Built>),
    /// A container has to finish it.
    Staged(Box<Staged>),
}

/// Makes an image as the request says. Progress comes from this task and not more often than chunks of downloads arrive.
pub async fn bootstrap(
    store: &Store,
    request: &Bootstrap,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Outcome, Error> {
    let arch = check(request)?;
    let address =
        request.mirror.clone().unwrap_or_else(|| sources::default_mirror(Path::new("/etc/apt"), &request.suite));
    let address = address.trim_end_matches('/').to_owned();
    let mirror = Mirror::new(&address, &request.cache)?;
    let ring = request.keyring.clone().unwrap_or_else(|| PathBuf::from(signature::DEFAULT_KEYRING));
    let keyring = blocking(move || Keyring::open(&ring)).await?;
    let suite = suite::open(&mirror, &keyring, &request.suite, arch.debian, (now(), progress)).await?;
    let (suite, chosen) = choose(suite, request, arch, progress).await?;
    let debs = download(&mirror, chosen, progress).await?;
    let job = Job {
        store: store.clone(),
        origin: Origin {
            suite: request.suite.clone(),
            arch,
            variant: request.variant,
            include: include(request),
            inrelease_sha256: suite.inrelease_sha256,
            packages_sha256: image::packages_digest(debs.iter().map(|(package, _)| package)),
            release: suite.release,
        },
        debs,
        mirror: address,
        cache: request.cache.clone(),
    };
    with_progress(progress, move |report| job.run(report)).await
}

/// Makes the image of a configured first stage: `upper` is the layer of what the script changed, put under `staged.lease`.
pub fn finish(store: &Store, staged: Staged, upper: &Layer) -> Result<Built, Error> {
    let layers = [("atoll debian: unpack", &staged.layer), ("atoll debian: configure", upper)];
    let manifest = staged.origin.put(store, &staged.lease, Some("bash"), &layers)?;
    Ok(Built { manifest, lease: staged.lease })
}

/// Checks what can be checked without the mirror.
fn check(request: &Bootstrap) -> Result<Arch, Error> {
    let host = Arch::host();
    let arch = match (&request.arch, host) {
        (Some(name), _) => Arch::parse(name).ok_or_else(|| Error::UnknownArch(name.clone()))?,
        (None, Some(host)) => host,
        (None, None) => return Err(Error::UnknownArch(std::env::consts::ARCH.to_owned())),
    };
    if request.variant == Variant::Apt && host != Some(arch) {
        let host = host.map_or(std::env::consts::ARCH, |host| host.debian).to_owned();
        return Err(Error::ForeignArch { arch: arch.debian.to_owned(), host });
    }
    match request.include.iter().find(|name| !packages::is_package_name(name)) {
        Some(name) => Err(Error::PackageName(name.clone())),
        None => Ok(arch),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs() as i64)
}

/// The packages that are asked for by name, sorted.
fn include(request: &Bootstrap) -> Vec<String> {
    let mut names = request.include.clone();
    match request.variant {
        Variant::Minimal if names.is_empty() => names.push(DEFAULT_INCLUDE.to_owned()),
        _ => {}
    }
    names.sort();
    names.dedup();
    names
}

/// Resolves on a blocking thread.
async fn choose(
    suite: Suite,
    request: &Bootstrap,
    arch: Arch,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Suite, Vec<Package>), Error> {
    let (mut wanted, base) = (include(request), request.variant == Variant::Apt);
    if base {
        wanted.push("apt".to_owned());
        wanted.sort();
        wanted.dedup();
    }
    let total = suite.index.len() as u64;
    let resolve = move || {
        let wishes = Wishes { arch: arch.debian, base, include: &wanted, prefer: &PREFERRED };
        resolve::resolve(&suite.index, wishes).map(|chosen| (suite, chosen))
    };
    let (suite, chosen) = blocking(resolve).await?;
    progress(Progress { stage: Stage::Resolve, item: String::new(), current: chosen.len() as u64, total });
    Ok((suite, chosen.into_values().map(|(_, package)| package).collect()))
}

/// Brings all packages into the cache, some at once, and gives them back in the same order.
async fn download(
    mirror: &Mirror,
    packages: Vec<Package>,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Vec<(Package, PathBuf)>, Error> {
    let total = packages.iter().map(|package| package.file.size).fold(0, u64::saturating_add);
    if total > DOWNLOAD_BYTES_MAX {
        return Err(Error::TooLarge(total));
    }
    let done = AtomicU64::new(0);
    let done = &done;
    let downloads = packages.into_iter().map(|package| async move {
        let report = |bytes: u64| {
            let current = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            progress(Progress {
                stage: Stage::Download,
                item: package.name.clone(),
                current: current.min(total),
                total,
            });
        };
        let path = mirror.fetch(std::slice::from_ref(&package.path), &package.file, &report).await?;
        Ok::<_, Error>((package, path))
    });
    futures_util::stream::iter(downloads).buffered(DOWNLOADS_MAX).try_collect().await
}

/// Everything that the blocking thread needs.
struct Job {
    store: Store,
    origin: Origin,
    debs: Vec<(Package, PathBuf)>,
    mirror: String,
    cache: PathBuf,
}

impl Job {
    fn run(self, report: &(dyn Fn(Progress) + Send + Sync)) -> Result<Outcome, Error> {
        let spool = |source| Error::Spool { folder: self.cache.clone(), source };
        let (release, arch) = (&self.origin.release, self.origin.arch);
        let mut tree = Tree::new(&self.cache, release.date).map_err(spool)?;
        match self.origin.variant {
            Variant::Minimal => minimal::build(&mut tree, (arch, release), &self.debs, report)?,
            Variant::Apt => apt::build(&mut tree, (arch, release, &self.mirror), &self.debs, report)?,
        }
        let total = tree.nodes().count() as u64;
        let step = |current| report(Progress { stage: Stage::Layer, item: String::new(), current, total });
        step(0);
        let lease = self.store.lease("bootstrap")?;
        let made = self.store.build_layer(&lease, |writer| layer::write(&tree, writer).map_err(Error::from))?;
        step(total);
        match self.origin.variant {
            Variant::Minimal => {
                let cmd = ["bash", "sh"].into_iter().find(|name| tree.get(&format!("bin/{name}")).is_some());
                let manifest = self.origin.put(&self.store, &lease, cmd, &[("atoll debian: unpack", &made)])?;
                Ok(Outcome::Image(Box::new(Built { manifest, lease })))
            }
            Variant::Apt => Ok(Outcome::Staged(Box::new(Staged {
                lease,
                layer: made,
                script: apt::SCRIPT,
                environment: apt::environment(release),
                source_date_epoch: release.date,
                origin: self.origin,
            }))),
        }
    }
}

/// Runs blocking work and passes its progress on from this task.
async fn with_progress<T: Send + 'static>(
    progress: &(dyn Fn(Progress) + Send + Sync),
    work: impl FnOnce(&(dyn Fn(Progress) + Send + Sync)) -> T + Send + 'static,
) -> T {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(PROGRESS_QUEUE);
    let worker = blocking(move || {
        work(&|step| {
            // The receiver is gone only if nobody waits for the result any more.
            let _ = sender.blocking_send(step);
        })
    });
    tokio::pin!(worker);
    let value = loop {
        tokio::select! {
            biased;
            Some(step) = receiver.recv() => progress(step),
            value = &mut worker => break value,
        }
    };
    // The last steps may have come between the two looks.
    while let Ok(step) = receiver.try_recv() {
        progress(step);
    }
    value
}
