//! Which registries are trusted how: TLS with the host's and extra authorities, or plain HTTP where that was allowed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;

use crate::error::Error;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a registry may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the default registry's API is.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// What is known of registries on this host.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries that may be spoken to without TLS, or with certificates that nobody vouches for: `HOST`, `HOST:PORT`, or a
    /// network such as `10.0.0.0/8`. Those on the loopback are always among them.
    pub insecure: Vec<String>,
    /// A folder of further certificate authorities, as Docker has it: `HOST[:PORT]/*.crt`, PEM.
    pub certificates: PathBuf,
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
        let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let listed = self.insecure.iter().any(|entry| {
            entry == registry || entry == host || address.is_some_and(|address| network_has(entry, address))
        });
        if loopback || listed { Trust::Insecure } else { Trust::Verified }
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
        // Fails only if a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("atoll/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(Policy::none());
        match self.trust(registry) {
            // Registries of this host or its network are not behind a proxy.
            Trust::Insecure => builder = builder.tls_danger_accept_invalid_certs(true).no_proxy(),
            Trust::Verified => builder = builder.tls_certs_merge(self.authorities(registry)?),
        }
        builder.build().map_err(|source| Error::Client { source })
    }

    /// The extra authorities for a registry.
    fn authorities(&self, registry: &str) -> Result<Vec<Certificate>, Error> {
        let folder = self.certificates.join(registry);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Certificate { path: folder, source }),
        };
        let mut authorities = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "crt") {
                let failed = |source| Error::Certificate { path: path.clone(), source };
                let pem = std::fs::read(&path).map_err(failed)?;
                let read = Certificate::from_pem_bundle(&pem);
                authorities.extend(read.map_err(|error| failed(std::io::Error::other(error)))?);
            }
        }
        Ok(authorities)
    }
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
        let registries =
            Registries { insecure: insecure.map(str::to_owned).to_vec(), certificates: PathBuf::from("/none") };
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
