//! OpenPGP cleartext signatures (RFC 9580 section 7) over InRelease files, verified against a keyring.
//!
//! An InRelease is parsed as one cleartext-signed message with nothing before or after it; the text that is returned is the
//! signed text itself, dash-unescaped, so unsigned bytes can never be used. One good signature of any key in the ring is
//! enough (the archive signs with several). Left out: the web of trust, and detached `Release.gpg` signatures.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::packet::Signature;
use pgp::types::{Duration, KeyDetails, Tag, Timestamp, VerifyingKey};

/// Debian's keyring as its package `debian-archive-keyring` installs it.
pub const DEFAULT_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// More signatures than this on one file are not looked at.
const SIGNATURES_MAX: usize = 32;

/// Why a signed file cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keyring is not there or cannot be read.
    #[error("keyring {path} cannot be read: `apt-get install debian-archive-keyring`, or name another with --keyring")]
    Keyring {
        /// Path of the keyring.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The keyring holds no usable public key.
    #[error("keyring {path} holds no OpenPGP public key: name a keyring with the archive's keys with --keyring")]
    EmptyKeyring {
        /// Path of the keyring.
        path: PathBuf,
    },
    /// The file is not exactly one cleartext-signed message.
    #[error("{file} is not a cleartext-signed file (is a proxy or login page in the way?): {reason}")]
    NotSigned {
        /// What was to be verified.
        file: String,
        /// The parser's words.
        reason: String,
    },
    /// None of its signatures is from a key of the ring.
    #[error(
        "{file} is signed by {signers}, none of which is in keyring {keyring}: update it with \
         `apt-get install debian-archive-keyring`, or name another with --keyring"
    )]
    UnknownSigner {
        /// What was to be verified.
        file: String,
        /// Key ids or fingerprints of the signers.
        signers: String,
        /// Path of the keyring.
        keyring: PathBuf,
    },
    /// A key of the ring made a signature, but it does not fit the text.
    #[error(
        "{file} has a bad signature by {signer}: it was changed on its way, or the mirror is broken; try another mirror"
    )]
    Bad {
        /// What was to be verified.
        file: String,
        /// Key id of the signer.
        signer: String,
    },
    /// The signature was made outside the life of its key, has itself expired, or the key was revoked.
    #[error("{file} has a signature by {signer} that does not count: {reason}")]
    OutOfDate {
        /// What was to be verified.
        file: String,
        /// Key id of the signer.
        signer: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

/// Public keys that are trusted to sign archives.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    keys: Vec<SignedPublicKey>,
}

/// What a key of the ring says about one signature.
enum Verdict {
    Good,
    NotMine,
    Bad(String),
    OutOfDate(String, &'static str),
}

impl Keyring {
    /// Reads a binary or armoured keyring.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Keyring { path: path.to_owned(), source })?;
        let keys = if bytes.starts_with(b"-----BEGIN") {
            SignedPublicKey::from_armor_many(BufReader::new(&bytes[..]))
                .map(|(keys, _)| keys.filter_map(Result::ok).collect())
                .unwrap_or_default()
        } else {
            SignedPublicKey::from_bytes_many(BufReader::new(&bytes[..]))
                .map(|keys| keys.filter_map(Result::ok).collect())
                .unwrap_or_default()
        };
        let ring = Self { path: path.to_owned(), keys };
        if ring.keys.is_empty() { Err(Error::EmptyKeyring { path: path.to_owned() }) } else { Ok(ring) }
    }

    /// Verifies a cleartext-signed file and returns its signed text with `\n` line ends. `now` is in seconds since 1970.
    pub fn verify(&self, file: &str, signed: &str, now: i64) -> Result<String, Error> {
        let not_signed = |reason: String| Error::NotSigned { file: file.to_owned(), reason };
        let (message, _) =
            CleartextSignedMessage::from_string(signed).map_err(|error| not_signed(error.to_string()))?;
        let text = message.signed_text();
        let mut refusal = None;
        for signature in message.signatures().iter().take(SIGNATURES_MAX) {
            for key in &self.keys {
                match judge(key, signature, text.as_bytes(), now) {
                    Verdict::Good => return Ok(text.replace("\r\n", "\n")),
                    Verdict::NotMine => {}
                    Verdict::Bad(signer) => refusal = Some(Error::Bad { file: file.to_owned(), signer }),
                    Verdict::OutOfDate(signer, reason) => {
                        refusal.get_or_insert(Error::OutOfDate { file: file.to_owned(), signer, reason });
                    }
                }
            }
        }
        if message.signatures().is_empty() {
            return Err(not_signed("there is no signature in it".to_owned()));
        }
        Err(refusal.unwrap_or_else(|| Error::UnknownSigner {
            file: file.to_owned(),
            signers: signers(message.signatures()),
            keyring: self.path.clone(),
        }))
    }
}

/// The names by which signatures call their signers.
fn signers(signatures: &[Signature]) -> String {
    let mut names: Vec<String> = signatures
        .iter()
        .take(SIGNATURES_MAX)
        .flat_map(|signature| {
            let fingerprints = signature.issuer_fingerprint().into_iter().map(ToString::to_string);
            let ids = signature.issuer_key_id().into_iter().map(ToString::to_string);
            fingerprints.chain(ids).take(1).collect::<Vec<_>>()
        })
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "an unnamed key".to_owned() } else { names.join(", ") }
}

/// Whether the signature names this key as its issuer.
fn names_key(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        let id = key.legacy_key_id();
        return signature.issuer_key_id().into_iter().any(|issuer| *issuer == id);
    }
    let own = key.fingerprint();
    fingerprints.into_iter().any(|fingerprint| *fingerprint == own)
}

/// Judges one signature by one certificate: its primary key or one of its signing subkeys.
fn judge(key: &SignedPublicKey, signature: &Signature, text: &[u8], now: i64) -> Verdict {
    let signer = key.fingerprint().to_string();
    if names_key(signature, &key.primary_key) {
        return match primary_self_signature(key) {
            Some(own) if own.key_flags().certify() && !own.key_flags().sign() => {
                Verdict::OutOfDate(signer, "its key is not meant for signing files")
            }
            Some(own) => judge_with(&key.primary_key, own, key, signature, (text, now)),
            None => Verdict::OutOfDate(signer, "its key has no valid self-signature"),
        };
    }
    for subkey in &key.public_subkeys {
        if names_key(signature, &subkey.key) {
            let binding = subkey
                .signatures
                .iter()
                .filter(|own| {
                    own.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok()
                        && is_cross_signed(key, subkey, own)
                })
                .max_by_key(|own| own.created().map(Timestamp::as_secs));
            return match binding {
                Some(own) => judge_with(&subkey.key, own, key, signature, (text, now)),
                None => Verdict::OutOfDate(signer, "its subkey is not bound to its key for signing"),
            };
        }
    }
    Verdict::NotMine
}

/// A signing subkey must itself confirm its primary key (RFC 9580 section 10.1.5), and must not be revoked.
fn is_cross_signed(key: &SignedPublicKey, subkey: &pgp::composed::SignedPublicSubKey, binding: &Signature) -> bool {
    let revoked = subkey.signatures.iter().any(|own| {
        own.typ() == Some(pgp::packet::SignatureType::SubkeyRevocation)
            && own.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok()
    });
    !revoked
        && binding.key_flags().sign()
        && binding
            .embedded_signature()
            .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok())
}

/// The newest valid signature of a primary key over one of its own user ids or over itself.
fn primary_self_signature(key: &SignedPublicKey) -> Option<&Signature> {
    let over_users = key.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|own| own.verify_certification(&key.primary_key, Tag::UserId, &user.id).is_ok())
    });
    let direct = key.details.direct_signatures.iter().filter(|own| own.verify_key(&key.primary_key).is_ok());
    over_users.chain(direct).max_by_key(|own| own.created().map(Timestamp::as_secs))
}

/// Checks times, revocation and at last the mathematics. `own` is the self-signature that describes `key`.
fn judge_with(
    key: &impl VerifyingKey,
    own: &Signature,
    certificate: &SignedPublicKey,
    signature: &Signature,
    (text, now): (&[u8], i64),
) -> Verdict {
    let signer = key.fingerprint().to_string();
    if signature.verify(&key, text).is_err() {
        return Verdict::Bad(signer);
    }
    let Some(made) = signature.created().map(|time| i64::from(time.as_secs())) else {
        return Verdict::OutOfDate(signer, "it does not say when it was made");
    };
    let lasts =
        |span: Option<Duration>| span.map(Duration::as_secs).filter(|span| *span != 0).map_or(i64::MAX, i64::from);
    let key_made = i64::from(key.created_at().as_secs());
    let is_revoked =
        certificate.details.revocation_signatures.iter().any(|own| own.verify_key(&certificate.primary_key).is_ok());
    let reason = if is_revoked {
        "its key was revoked"
    } else if made < key_made {
        "it was made before its key"
    } else if made > key_made.saturating_add(lasts(own.key_expiration_time())) {
        "its key had expired when it was made"
    } else if now > made.saturating_add(lasts(signature.signature_expiration_time())) {
        "it has expired"
    } else {
        return Verdict::Good;
    };
    Verdict::OutOfDate(signer, reason)
}
