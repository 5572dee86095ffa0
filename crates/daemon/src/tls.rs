//! Mutual TLS: who the daemon is, and whose certificates it takes.
//!
//! Versions 1.2 and 1.3. A client without a certificate that the authority signed gets no further than the handshake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

/// Where the authority, the certificate and the key lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What takes connections of those who have a certificate.
pub(crate) fn acceptor(files: &Files) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(&files.authority)? {
        let not_taken = || format!("{} is no authority's certificate", files.authority.display());
        authorities.add(certificate).with_context(not_taken)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider)).build()?;
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("reading {}", files.key.display()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&files.certificate)?, key)
        .with_context(|| format!("{} does not fit {}", files.key.display(), files.certificate.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let reading = || format!("reading {}", path.display());
    let all = CertificateDer::pem_file_iter(path).with_context(reading)?.collect::<Result<Vec<_>, _>>();
    let all = all.with_context(reading)?;
    if all.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(all)
}

/// The subject of a certificate that was verified, as `CN=alice,O=team`.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> String {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(certificate) => name(certificate.subject()),
        // One that passed the handshake is one.
        Err(_) => String::new(),
    }
}

/// A distinguished name (X.501) from the content of its sequence: what has no short name here is passed over.
fn name(der: &[u8]) -> String {
    /// The last number of object identifiers 2.5.4.x.
    const KINDS: [(u8, &str); 6] = [(3, "CN"), (10, "O"), (11, "OU"), (7, "L"), (8, "ST"), (6, "C")];
    let mut parts = Vec::new();
    let mut sets = der;
    while let Some((set, rest)) = element(sets) {
        sets = rest;
        let mut pairs = set;
        while let Some((pair, rest)) = element(pairs) {
            pairs = rest;
            let Some((kind, rest)) = element(pair) else { break };
            let Some((value, _)) = element(rest) else { break };
            let short = |(number, _): &&(u8, &str)| kind == [0x55, 0x04, *number];
            if let Some((_, short)) = KINDS.iter().find(short) {
                parts.push(format!("{short}={}", String::from_utf8_lossy(value)));
            }
        }
    }
    parts.reverse();
    parts.join(",")
}

/// The content of the first element of DER (X.690), and what follows it. Lengths above two bytes are none of a name.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_at_checked(2)?;
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
    }

    fn part(kind: u8, value: &str) -> Vec<u8> {
        let pair = [tagged(6, &[0x55, 4, kind]), tagged(12, value.as_bytes())].concat();
        tagged(0x31, &tagged(0x30, &pair))
    }

    #[test]
    fn names_are_read_from_the_end() {
        let check = |der: &[u8], expected: &str| assert_eq!(name(der), expected);
        check(&[], "");
        check(&[part(10, "team"), part(3, "alice")].concat(), "CN=alice,O=team");
        check(&[part(99, "odd"), part(3, "bob")].concat(), "CN=bob");
    }

    #[test]
    fn what_is_no_name_is_read_to_where_it_breaks() {
        let whole = [part(10, "team"), part(3, "alice")].concat();
        for length in 0..whole.len() {
            assert!(name(&whole[..length]).len() <= "O=team".len());
        }
        assert_eq!(name(&[0x31, 0x82, 0xff]), "");
        assert_eq!(name(&[0x31, 0x89, 1, 2, 3]), "");
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let files = Files { authority: "/no/ca.pem".into(), certificate: "/no/c.pem".into(), key: "/no/k.pem".into() };
        let error = format!("{:#}", acceptor(&files).err().expect("no files"));
        assert!(error.contains("/no/ca.pem"), "{error}");
    }
}
