//! Opening a suite: InRelease verified and checked, then the package index of one architecture.
//!
//! InRelease comes from the mirror, or from the cache when the mirror cannot be reached; everything after it is bound by its
//! hashes. Only component `main` of the suite itself is read. Left out on purpose: `SUITE-updates` and `SUITE-security` as
//! sources of packages (a point release carries both; the `apt` variant configures them, so `apt-get upgrade` brings the rest).

use std::io::Read;

use atoll_oci::Digest;

use crate::deb::Packing;
use crate::mirror::{self, Mirror, blocking};
use crate::packages::{self, Index};
use crate::release::{self, FileEntry, Release};
use crate::signature::{self, Keyring};
use crate::{Progress, Stage};

/// Bytes of an InRelease file (Debian's have about 200 KB).
pub const INRELEASE_MAX: u64 = 16 << 20;
/// Bytes of an unpacked index (Debian's have about 60 MB).
pub const INDEX_MAX: u64 = 1 << 30;
/// Where an architecture that the asked suite lacks is looked for.
const KNOWN_SUITES: [&str; 4] = ["bookworm", "trixie", "forky", "sid"];

/// Why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the name of a suite.
    #[error("\"{0}\" is not the name of a suite: name one such as trixie, bookworm or stable")]
    Name(String),
    /// The mirror does not have it.
    #[error("{address} has no suite {suite}: check the name, or the mirror with --mirror")]
    NoSuchSuite {
        /// The suite asked for.
        suite: String,
        /// Where it was looked for.
        address: String,
    },
    /// The suite has not got the architecture.
    #[error("suite {suite} has no packages for {arch} (it has {has}): {elsewhere}")]
    NoArchitecture {
        /// The suite asked for.
        suite: String,
        /// Debian's name of the architecture.
        arch: String,
        /// What the suite has.
        has: String,
        /// Suites that have it, as advice.
        elsewhere: String,
    },
    /// The signed file lists no index that can be read.
    #[error("the Release file of {suite} lists no main/binary-{arch}/Packages.xz, .gz or plain")]
    NoIndex {
        /// The suite asked for.
        suite: String,
        /// Debian's name of the architecture.
        arch: String,
    },
    /// The index does not unpack.
    #[error("the package index of {suite} is damaged")]
    Unpack {
        /// The suite asked for.
        suite: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The mirror failed.
    #[error(transparent)]
    Mirror(#[from] mirror::Error),
    /// The signature failed.
    #[error(transparent)]
    Signature(#[from] signature::Error),
    /// The Release file failed.
    #[error(transparent)]
    Release(#[from] release::Error),
    /// The index failed.
    #[error(transparent)]
    Packages(#[from] packages::Error),
}

/// A verified suite with the index of one architecture.
#[derive(Debug)]
pub struct Suite {
    /// What the suite is.
    pub release: Release,
    /// Its packages.
    pub index: Index,
    /// SHA256 of the InRelease file, in hexadecimal.
    pub inrelease_sha256: String,
}

/// Whether a name can be a suite: it becomes part of addresses.
pub fn is_suite_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Reads, verifies and checks a suite for one architecture (Debian's name). `now` is in seconds since 1970.
pub async fn open(
    mirror: &Mirror,
    keyring: &Keyring,
    suite: &str,
    arch: &str,
    (now, progress): (i64, &(dyn Fn(Progress) + Send + Sync)),
) -> Result<Suite, Error> {
    if !is_suite_name(suite) {
        return Err(Error::Name(suite.to_owned()));
    }
    let (release, inrelease_sha256) = read_release(mirror, keyring, suite, now).await?;
    if !release.architectures.iter().any(|name| name == arch) {
        return Err(no_architecture(mirror, keyring, suite, arch, (&release, now)).await);
    }
    let (name, packing) = [(".xz", Packing::Xz), (".gz", Packing::Gzip), ("", Packing::Plain)]
        .into_iter()
        .map(|(ending, packing)| (format!("main/binary-{arch}/Packages{ending}"), packing))
        .find(|(name, _)| release.files.contains_key(name))
        .ok_or_else(|| Error::NoIndex { suite: suite.to_owned(), arch: arch.to_owned() })?;
    let entry = &release.files[&name];
    let total = entry.size;
    let done = std::sync::atomic::AtomicU64::new(0);
    let report = |bytes: u64| {
        let current = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
        progress(Progress { stage: Stage::Index, item: name.clone(), current: current.min(total), total });
    };
    let path = mirror.fetch(&index_paths(suite, &name, entry, release.by_hash), entry, &report).await?;
    let unpacked = entry_of_plain(&release, arch).map_or(INDEX_MAX, |plain| plain.size.min(INDEX_MAX));
    let parse = move || -> Result<Index, std::io::Error> {
        let mut bytes = Vec::with_capacity(unpacked.min(128 << 20) as usize);
        packing.unpack(std::fs::File::open(path)?, unpacked.saturating_add(1))?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > unpacked {
            return Err(std::io::Error::other("it is larger than the signed file says"));
        }
        let text = String::from_utf8(bytes).map_err(|_| std::io::Error::other(packages::Error::NotText))?;
        Index::parse(text).map_err(std::io::Error::other)
    };
    let index = blocking(parse).await.map_err(|source| Error::Unpack { suite: suite.to_owned(), source })?;
    Ok(Suite { release, index, inrelease_sha256 })
}

fn entry_of_plain<'a>(release: &'a Release, arch: &str) -> Option<&'a FileEntry> {
    release.files.get(&format!("main/binary-{arch}/Packages"))
}

/// Where an index lies: by its hash first, where the archive offers that, so that a mirror in mid-update still has it.
fn index_paths(suite: &str, name: &str, entry: &FileEntry, by_hash: bool) -> Vec<String> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let hashed = by_hash.then(|| format!("dists/{suite}/{folder}/by-hash/SHA256/{}", entry.sha256));
    hashed.into_iter().chain([format!("dists/{suite}/{name}")]).collect()
}

/// The verified Release of a suite and the SHA256 of its InRelease file.
async fn read_release(mirror: &Mirror, keyring: &Keyring, suite: &str, now: i64) -> Result<(Release, String), Error> {
    let path = format!("dists/{suite}/InRelease");
    let address = mirror.address(&path);
    let kept_as = format!("inrelease-{}", Digest::sha256(address.as_bytes()).hex());
    let (bytes, is_new) = match mirror.read(&path, INRELEASE_MAX).await {
        Ok(bytes) => (bytes, true),
        Err(mirror::Error::NotFound { .. }) => {
            return Err(Error::NoSuchSuite { suite: suite.to_owned(), address: mirror.address("dists") });
        }
        Err(error) if error.is_offline() => match mirror.recall(&kept_as) {
            Some(bytes) => {
                tracing::warn!(%error, "using the cached InRelease of {suite}");
                (bytes, false)
            }
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let (release, text) = verify_release(keyring, suite, &address, &bytes, now)?;
    release.check_fresh(suite, &text, now)?;
    if is_new {
        mirror.remember(&kept_as, &bytes)?;
    }
    Ok((release, Digest::sha256(&bytes).hex().to_owned()))
}

/// Verifies the signature and parses; the clock is not looked at except for signatures.
fn verify_release(
    keyring: &Keyring,
    suite: &str,
    address: &str,
    bytes: &[u8],
    now: i64,
) -> Result<(Release, String), Error> {
    let signed = std::str::from_utf8(bytes)
        .map_err(|error| signature::Error::NotSigned { file: address.to_owned(), reason: error.to_string() })?;
    let text = keyring.verify(address, signed, now)?;
    Ok((Release::parse(suite, &text)?, text))
}

/// The error for a missing architecture, with the suites of this mirror that have it.
async fn no_architecture(
    mirror: &Mirror,
    keyring: &Keyring,
    suite: &str,
    arch: &str,
    (release, now): (&Release, i64),
) -> Error {
    let mut found = Vec::new();
    for other in KNOWN_SUITES.into_iter().filter(|other| *other != suite && *other != release.codename) {
        let path = format!("dists/{other}/InRelease");
        let Ok(bytes) = mirror.read(&path, INRELEASE_MAX).await else { continue };
        let parsed = verify_release(keyring, other, &mirror.address(&path), &bytes, now);
        if parsed.is_ok_and(|(parsed, _)| parsed.architectures.iter().any(|name| name == arch)) {
            found.push(other);
        }
    }
    let elsewhere = if found.is_empty() {
        "no other suite of this mirror has it".to_owned()
    } else {
        format!("choose a suite that has it: {}", found.join(", "))
    };
    Error::NoArchitecture {
        suite: suite.to_owned(),
        arch: arch.to_owned(),
        has: release.architectures.join(" "),
        elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_suites() {
        for name in ["trixie", "bookworm-backports", "stable", "2.0"] {
            assert!(is_suite_name(name), "{name}");
        }
        for name in ["", "..", "a/b", "-x", "a b", "trixie?x", ".hidden"] {
            assert!(!is_suite_name(name), "{name}");
        }
    }

    #[test]
    fn paths_of_an_index() {
        let entry = FileEntry { size: 1, sha256: "ab".to_owned() };
        assert_eq!(
            index_paths("sid", "main/binary-amd64/Packages.xz", &entry, false),
            ["dists/sid/main/binary-amd64/Packages.xz"]
        );
        assert_eq!(
            index_paths("sid", "main/binary-amd64/Packages.xz", &entry, true)[0],
            "dists/sid/main/binary-amd64/by-hash/SHA256/ab"
        );
    }
}
