//! Signatures: which texts come out of a signed file, and which files are refused.

use atoll_debian::signature::Keyring;
use pgp::types::Timestamp;

use super::support::Signer;

const NOW: i64 = 1_790_000_000;
const MADE: u32 = 1_780_000_000;

fn verify(keyring: impl AsRef<[u8]>, signed: &str) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keyring).unwrap();
    Keyring::open(file.path()).and_then(|ring| ring.verify("InRelease", signed, NOW)).map_err(|error| error.to_string())
}

#[test]
fn accepts_good_signatures() {
    let signer = Signer::new(1);
    for text in ["Suite: sid\n", "a\n- dashed\n-----BEGIN\nb\n", "line\n\nother\n"] {
        let signed = signer.sign(text);
        assert_eq!(verify(signer.keyring(), &signed).unwrap().trim_end(), text.trim_end());
        assert_eq!(verify(signer.armoured_keyring(), &signed).unwrap().trim_end(), text.trim_end());
        assert_eq!(verify(signer.keyring(), &signed.replace('\n', "\r\n")).unwrap().trim_end(), text.trim_end());
        let by_subkey = signer.sign_with_subkey(text, MADE, None);
        assert_eq!(verify(signer.keyring(), &by_subkey).unwrap().trim_end(), text.trim_end());
    }
    let two_keys = [Signer::new(2).keyring(), signer.keyring()].concat();
    verify(two_keys, &signer.sign("x\n")).unwrap();
}

#[test]
fn refuses_others() {
    fn check(keyring: impl AsRef<[u8]>, signed: &str, expected: &str) {
        let error = verify(keyring, signed).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let signer = Signer::new(1);
    let signed = signer.sign("Suite: sid\nDate: x\n");
    check(signer.keyring(), &signed.replace("Suite: sid", "Suite: six"), "bad signature");
    check(signer.keyring(), &format!("Suite: evil\n{signed}"), "not a cleartext-signed file");
    check(signer.keyring(), &format!("{signed}Suite: evil\n"), "not a cleartext-signed file");
    check(signer.keyring(), "Suite: sid\n", "not a cleartext-signed file");
    check(signer.keyring(), "", "not a cleartext-signed file");
    check(signer.keyring(), &signed[..signed.len() / 2], "not a cleartext-signed file");
    check(Signer::new(2).keyring(), &signed, "none of which is in keyring");
    check("", &signed, "holds no OpenPGP public key");
    check("rubbish", &signed, "holds no OpenPGP public key");
    check(signer.keyring(), &signer.sign_with_subkey("x\n", MADE, Some(60)), "it has expired");
    check(signer.keyring(), &signer.sign_with_subkey("x\n", 1_500_000_000, None), "made before its key");
    let young = Signer::created(3, Timestamp::from_secs(MADE));
    check(young.keyring(), &young.sign_with_subkey("x\n", MADE - 1, None), "made before its key");
}
