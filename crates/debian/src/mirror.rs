//! Mirrors of a Debian archive: HTTP(S) servers and `file://` folders, in front of a cache of verified files.
//!
//! A file of known size and SHA256 streams into a temporary file of the cache, is checked, and gets its hash as its name;
//! from then on it is read from the cache, checked again each time. Transient failures are tried again a few times.
//! Left out: `ftp:`, resuming half a file (the temporary file is dropped), `mirror+` lists.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_oci::Hasher;
use futures_util::StreamExt;
use reqwest::{Client, StatusCode, Url};
use tokio::io::AsyncWriteExt;

use crate::release::FileEntry;

/// How often a transient failure is tried in all.
const ATTEMPTS_MAX: u32 = 3;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a mirror may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes per read of a local file.
const BUFFER: usize = 256 << 10;

/// Why a file did not come from the mirror.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mirror's address cannot be used.
    #[error("mirror \"{uri}\" is not an http://, https:// or file:// address without a query")]
    Address {
        /// As it was given.
        uri: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot set up HTTP")]
    Client(#[source] reqwest::Error),
    /// No answer, or it broke off.
    #[error("cannot read {url}: check the network, or name another mirror with --mirror")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The mirror has no such file.
    #[error("the mirror has no {url}")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// Another answer than the file.
    #[error("the mirror answered {status} for {url}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// A file of a local mirror cannot be read.
    #[error("cannot read {path} of the mirror")]
    Folder {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are more or fewer bytes than the index says.
    #[error(
        "{url} has {got} bytes where {expected} are signed for: the mirror is broken or being updated; try again later, or another mirror"
    )]
    Size {
        /// What was asked for.
        url: String,
        /// Bytes by the signed index (or the limit).
        expected: u64,
        /// Bytes received until it was given up.
        got: u64,
    },
    /// The bytes are others than the index says.
    #[error(
        "{url} has SHA256 {got} where {expected} is signed for: the mirror is broken or lies; try another with --mirror"
    )]
    Hash {
        /// What was asked for.
        url: String,
        /// By the signed index.
        expected: String,
        /// Of what was received.
        got: String,
    },
    /// The cache cannot be written or read.
    #[error("cannot use cache file {path}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same request may succeed a moment later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether the mirror could not be spoken to at all, so that a cached copy is the next best thing.
    pub fn is_offline(&self) -> bool {
        self.is_transient()
    }
}

#[derive(Debug)]
enum Base {
    Http { url: String, client: Client },
    Folder(PathBuf),
}

/// One mirror with its cache.
#[derive(Debug)]
pub struct Mirror {
    base: Base,
    cache: PathBuf,
}

impl Mirror {
    /// Prepares a mirror by its address; `cache` is made if it is not there, and half-made files of dead processes go.
    pub fn new(uri: &str, cache: &Path) -> Result<Self, Error> {
        let address = || Error::Address { uri: uri.to_owned() };
        let parsed = Url::parse(uri).map_err(|_| address())?;
        let base = match parsed.scheme() {
            "http" | "https" if parsed.query().is_none() => {
                // Fails only if a provider is installed already, which is as good.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let client = Client::builder()
                    .user_agent(concat!("atoll/", env!("CARGO_PKG_VERSION")))
                    .connect_timeout(CONNECT_TIMEOUT)
                    .read_timeout(READ_TIMEOUT)
                    .build()
                    .map_err(Error::Client)?;
                Base::Http { url: uri.trim_end_matches('/').to_owned(), client }
            }
            "file" => Base::Folder(parsed.to_file_path().map_err(|()| address())?),
            _ => return Err(address()),
        };
        fs::create_dir_all(cache).map_err(|source| Error::Cache { path: cache.to_owned(), source })?;
        remove_leftovers(cache);
        Ok(Self { base, cache: cache.to_owned() })
    }

    /// The address of a path below the mirror's root, for messages.
    pub fn address(&self, path: &str) -> String {
        match &self.base {
            Base::Http { url, .. } => format!("{url}/{path}"),
            Base::Folder(folder) => format!("file://{}/{path}", folder.display()),
        }
    }

    /// Where the cache keeps a file of this hash.
    pub fn cached(&self, sha256: &str) -> PathBuf {
        self.cache.join(sha256)
    }

    /// Reads a small file whose size and hash nobody promised, up to `limit` bytes.
    pub async fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut attempt = 1;
        loop {
            match self.read_once(path, limit).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => wait(attempt).await,
                result => return result,
            }
            attempt += 1;
        }
    }

    async fn read_once(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.address(path);
        match &self.base {
            Base::Http { client, .. } => {
                let response = get(client, &url).await?;
                let mut stream = response.bytes_stream();
                let mut bytes = Vec::new();
                while let Some(chunk) = stream.next().await {
                    bytes.extend_from_slice(&chunk.map_err(|source| Error::Unreachable { url: url.clone(), source })?);
                    if bytes.len() as u64 > limit {
                        return Err(Error::Size { url, expected: limit, got: bytes.len() as u64 });
                    }
                }
                Ok(bytes)
            }
            Base::Folder(folder) => {
                let mut bytes = Vec::new();
                let file = open(&folder.join(path), &url)?;
                file.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|source| Error::Folder { path: folder.join(path), source })?;
                let got = bytes.len() as u64;
                if got > limit { Err(Error::Size { url, expected: limit, got }) } else { Ok(bytes) }
            }
        }
    }

    /// Brings a file into the cache and returns its path there. `paths` are tried in order where one is not found;
    /// `on_bytes` hears how many more bytes are here.
    pub async fn fetch(
        &self,
        paths: &[String],
        entry: &FileEntry,
        on_bytes: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<PathBuf, Error> {
        let cached = self.cached(&entry.sha256);
        if self.is_cached(&cached, entry).await? {
            on_bytes(entry.size);
            return Ok(cached);
        }
        let mut last = None;
        for path in paths {
            let mut attempt = 1;
            loop {
                match self.fetch_once(path, entry, on_bytes).await {
                    Ok(()) => return Ok(cached),
                    Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => wait(attempt).await,
                    Err(error @ (Error::NotFound { .. } | Error::Hash { .. } | Error::Size { .. })) => {
                        last = Some(error);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                attempt += 1;
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound { url: self.address("") }))
    }

    /// Whether the cache holds exactly this file; a damaged copy is removed.
    async fn is_cached(&self, path: &Path, entry: &FileEntry) -> Result<bool, Error> {
        let (owned, expected) = (path.to_owned(), entry.clone());
        let check = move || -> io::Result<bool> {
            let file = match fs::File::open(&owned) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            let intact = file.metadata()?.len() == expected.size && hash_file(file)? == expected.sha256;
            if !intact {
                tracing::warn!(path = %owned.display(), "cached file is damaged: fetching it again");
                fs::remove_file(&owned)?;
            }
            Ok(intact)
        };
        blocking(check).await.map_err(|source| Error::Cache { path: path.to_owned(), source })
    }

    async fn fetch_once(
        &self,
        path: &str,
        entry: &FileEntry,
        on_bytes: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let url = self.address(path);
        let part = Part::new(&self.cache, &entry.sha256);
        let cache_error = |source| Error::Cache { path: part.0.clone(), source };
        let got = match &self.base {
            Base::Http { client, .. } => {
                let response = get(client, &url).await?;
                let mut file = tokio::io::BufWriter::with_capacity(
                    BUFFER,
                    tokio::fs::File::create(&part.0).await.map_err(cache_error)?,
                );
                let mut stream = response.bytes_stream();
                let (mut hasher, mut got) = (Hasher::sha256(), 0);
                while let Some(chunk) = stream.next().await {
                    let chunk = chunk.map_err(|source| Error::Unreachable { url: url.clone(), source })?;
                    got += chunk.len() as u64;
                    if got > entry.size {
                        return Err(Error::Size { url, expected: entry.size, got });
                    }
                    hasher.update(&chunk);
                    file.write_all(&chunk).await.map_err(cache_error)?;
                    on_bytes(chunk.len() as u64);
                }
                file.flush().await.map_err(cache_error)?;
                file.get_ref().sync_all().await.map_err(cache_error)?;
                (got, hasher.finish().hex().to_owned())
            }
            Base::Folder(folder) => {
                let source_path = folder.join(path);
                let input = open(&source_path, &url)?;
                let (target, limit) = (part.0.clone(), entry.size + 1);
                let got = blocking(move || copy_hashed(input.take(limit), &target))
                    .await
                    .map_err(|source| Error::Folder { path: source_path, source })?;
                on_bytes(got.0.min(entry.size));
                got
            }
        };
        if got.0 != entry.size {
            return Err(Error::Size { url, expected: entry.size, got: got.0 });
        }
        if got.1 != entry.sha256 {
            return Err(Error::Hash { url, expected: entry.sha256.clone(), got: got.1 });
        }
        fs::rename(&part.0, self.cached(&entry.sha256)).map_err(cache_error)?;
        sync_folder(&self.cache).map_err(cache_error)
    }

    /// Keeps bytes in the cache under a name of the caller's (not a hash), replacing what was there.
    pub fn remember(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let part = Part::new(&self.cache, name);
        let write = || -> io::Result<()> {
            fs::write(&part.0, bytes)?;
            fs::File::open(&part.0)?.sync_all()?;
            fs::rename(&part.0, self.cache.join(name))?;
            sync_folder(&self.cache)
        };
        write().map_err(|source| Error::Cache { path: part.0.clone(), source })
    }

    /// What [`Mirror::remember`] kept under a name.
    pub fn recall(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.cache.join(name)).ok()
    }
}

async fn wait(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(300 * u64::from(attempt * attempt))).await;
}

async fn get(client: &Client, url: &str) -> Result<reqwest::Response, Error> {
    let url_text = || url.to_owned();
    let response = client.get(url).send().await.map_err(|source| Error::Unreachable { url: url_text(), source })?;
    match response.status() {
        StatusCode::OK => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound { url: url_text() }),
        status => Err(Error::Status { url: url_text(), status }),
    }
}

fn open(path: &Path, url: &str) -> Result<fs::File, Error> {
    fs::File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { url: url.to_owned() },
        _ => Error::Folder { path: path.to_owned(), source },
    })
}

fn hash_file(mut file: fs::File) -> io::Result<String> {
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().hex().to_owned()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Copies to a new file, synced; returns bytes and SHA256.
fn copy_hashed(mut input: impl Read, target: &Path) -> io::Result<(u64, String)> {
    let mut output = fs::File::create(target)?;
    let (mut hasher, mut total) = (Hasher::sha256(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        io::Write::write_all(&mut output, &buffer[..count])?;
        total += count as u64;
    }
    output.sync_all()?;
    Ok((total, hasher.finish().hex().to_owned()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Runs blocking work; a panic there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// A temporary file of the cache, removed unless it was renamed.
struct Part(PathBuf);

impl Part {
    fn new(cache: &Path, name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(cache.join(format!("{name}.{}.{number}.part", std::process::id())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes temporary files whose process is gone.
fn remove_leftovers(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".part")) else { continue };
        let process = name.rsplit('.').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
