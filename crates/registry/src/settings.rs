//! Which registries are trusted how: TLS with the host's and extra authorities, or plain HTTP where that was allowed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Identity};
use reqwest::{Client, ClientBuilder};

use crate::error::Error;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a registry may stay silent.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the default registry's API is.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// What is known of registries on this host.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries that may be spoken to without TLS, or with certificates that nobody vouches for: `HOST`, `HOST:PORT`, or a
    /// network such as `10.0.0.0/8`. Those on the loopback are always among them.
    pub insecure: Vec<String>,
    /// A folder of further certificate authorities and of certificates of our own, as Docker has it: `HOST[:PORT]/*.crt`,
    /// `HOST[:PORT]/NAME.cert` with `NAME.key`, PEM.
    pub certificates: PathBuf,
    /// Where else a registry's images may be had, in the order in which that is tried before the registry itself: registry
    /// to mirrors, each as `HOST[:PORT]`. A mirror is shown no credentials.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// A place where a registry's images may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host with an optional port, by which it is trusted.
    pub(crate) host: String,
    /// Whether that is another than the registry itself.
    pub(crate) mirror: bool,
}

/// How far a registry is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// TLS with a certificate that an authority vouches for.
    Verified,
    /// TLS with any certificate, or plain HTTP.
    Insecure,
}

impl Registries {
    /// How far a registry (host with an optional port) is trusted.
    #[must_use]
    pub fn trust(&self, registry: &str) -> Trust {
        let host = host_of(registry);
        let address = host.parse::<IpAddr>().ok();
        let listed = self.insecure.iter().any(|entry| {
            entry == registry || entry == host || address.is_some_and(|address| network_has(entry, address))
        });
        if is_loopback(host) || listed { Trust::Insecure } else { Trust::Verified }
    }

    /// The places where a registry's images may be had, itself last.
    pub(crate) fn places(&self, registry: &str) -> Vec<Place> {
        let mirrors = self.mirrors.get(registry).into_iter().flatten();
        let mut places: Vec<_> = mirrors.map(|host| Place { host: host.clone(), mirror: true }).collect();
        places.push(Place { host: registry.to_owned(), mirror: false });
        places
    }

    /// The addresses that a registry's API may be at, in the order in which they are tried.
    pub(crate) fn bases(&self, registry: &str) -> Vec<String> {
        let host = if registry == atoll_oci::reference::DEFAULT_REGISTRY { DEFAULT_HOST } else { registry };
        let schemes: &[&str] = match self.trust(registry) {
            Trust::Verified => &["https"],
            Trust::Insecure => &["https", "http"],
        };
        schemes.iter().map(|scheme| format!("{scheme}://{host}")).collect()
    }

    /// An HTTP client for one registry. Redirects are not followed: they are looked at first.
    pub(crate) fn client(&self, registry: &str) -> Result<Client, Error> {
        let builder = self.builder(registry)?.read_timeout(READ_TIMEOUT);
        builder.build().map_err(|source| Error::Client { source })
    }

    /// As [`client`](Self::client), for sending large bodies: silence is no sign of trouble while they go out.
    pub(crate) fn sending_client(&self, registry: &str) -> Result<Client, Error> {
        self.builder(registry)?.build().map_err(|source| Error::Client { source })
    }

    fn builder(&self, registry: &str) -> Result<ClientBuilder, Error> {
        // Fails only if a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("atoll/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none());
        if is_loopback(host_of(registry)) {
            // What HTTP_PROXY and its like name is not asked for what is on this host.
            builder = builder.no_proxy();
        }
        builder = match self.trust(registry) {
            Trust::Insecure => builder.tls_danger_accept_invalid_certs(true),
            Trust::Verified => builder.tls_certs_merge(self.authorities(registry)?),
        };
        Ok(match self.identity(registry)? {
            Some(identity) => builder.identity(identity),
            None => builder,
        })
    }

    /// The extra authorities for a registry.
    fn authorities(&self, registry: &str) -> Result<Vec<Certificate>, Error> {
        let mut authorities = Vec::new();
        for path in self.files(registry, "crt")? {
            let read = Certificate::from_pem_bundle(&read(&path)?);
            authorities.extend(read.map_err(unusable(&path))?);
        }
        Ok(authorities)
    }

    /// What we show to a registry that wants to know its clients: the first certificate, with its key.
    fn identity(&self, registry: &str) -> Result<Option<Identity>, Error> {
        let Some(path) = self.files(registry, "cert")?.into_iter().next() else { return Ok(None) };
        let pem = [read(&path)?, b"\n".to_vec(), read(&path.with_extension("key"))?].concat();
        Identity::from_pem(&pem).map(Some).map_err(unusable(&path))
    }

    /// A registry's files with one ending, sorted.
    fn files(&self, registry: &str, ending: &str) -> Result<Vec<PathBuf>, Error> {
        let folder = self.certificates.join(registry);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Certificate { path: folder, source }),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
        paths.sort();
        Ok(paths)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Certificate { path: path.to_owned(), source })
}

fn unusable(path: &Path) -> impl FnOnce(reqwest::Error) -> Error + use<> {
    let path = path.to_owned();
    move |error| Error::Certificate { path, source: std::io::Error::other(error) }
}

/// Whether a host without its port is this one.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A registry without its port, an IPv6 address without its brackets.
pub(crate) fn host_of(registry: &str) -> &str {
    match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    }
}

/// Whether `network`, such as `10.0.0.0/8`, has `address`.
fn network_has(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let bits = |address| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let ((base, width), (address, other)) = (bits(base), bits(address));
    let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
    width == other && length <= width && (base ^ address) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_listed_registries() {
        let insecure = ["plain.example", "other.example:5000", "10.1.0.0/16", "fd00::/8", "bad/8", "1.2.3.4/99"];
        let registries = Registries { insecure: insecure.map(str::to_owned).to_vec(), ..Registries::default() };
        let check = |registry: &str, trust: Trust| assert_eq!(registries.trust(registry), trust, "{registry}");
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            check(registry, Trust::Insecure);
        }
        for registry in ["plain.example", "plain.example:80", "other.example:5000", "10.1.255.1:1", "[fd00::1]"] {
            check(registry, Trust::Insecure);
        }
        for registry in ["docker.io", "localhost.example", "other.example", "10.2.0.1", "1.2.3.4", "[fe80::1]:5000"] {
            check(registry, Trust::Verified);
        }
        assert_eq!(registries.bases("docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(registries.bases("localhost:1"), ["https://localhost:1", "http://localhost:1"]);
    }
}
