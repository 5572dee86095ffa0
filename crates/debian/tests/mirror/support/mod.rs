//! A small Debian mirror in a folder: hand-made packages, an index, and an InRelease signed by a key of the test's own.

#![allow(unreachable_pub, reason = "shared by the test program's modules")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use atoll_oci::Digest;
use flate2::{Compression, write::GzEncoder};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::packet::{Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Password, Timestamp};

/// Date of the mirror's Release file.
pub const DATE: &str = "Sat, 11 Jul 2026 10:16:37 UTC";

/// Numbers that only have to differ.
#[derive(Debug)]
pub struct TestRandom(u64);

impl rand::RngCore for TestRandom {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            let digest = Digest::sha256(&self.0.to_le_bytes());
            let bytes: Vec<u8> =
                (0..32).map(|at| u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16).unwrap()).collect();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl rand::CryptoRng for TestRandom {}

/// A key that signs archives, with a signing subkey.
pub struct Signer {
    key: SignedSecretKey,
}

impl Signer {
    /// Makes a key from a seed.
    pub fn new(seed: u64) -> Self {
        Self::created(seed, Timestamp::from_secs(1_600_000_000))
    }

    /// Makes a key that came into being at `created`.
    pub fn created(seed: u64, created: Timestamp) -> Self {
        let subkey = SubkeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .created_at(created)
            .build()
            .unwrap();
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .created_at(created)
            .primary_user_id("Test Archive <archive@test.invalid>".to_owned())
            .subkeys(vec![subkey])
            .build()
            .unwrap();
        Self { key: params.generate(TestRandom(seed << 32)).unwrap() }
    }

    /// The keyring with this key alone.
    pub fn keyring(&self) -> Vec<u8> {
        SignedPublicKey::from(self.key.clone()).to_bytes().unwrap()
    }

    /// The same in armour.
    pub fn armoured_keyring(&self) -> String {
        SignedPublicKey::from(self.key.clone()).to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// Signs with the primary key.
    pub fn sign(&self, text: &str) -> String {
        let message =
            CleartextSignedMessage::sign(TestRandom(7), text, &self.key.primary_key, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// Signs with the subkey, at `made`, to last `seconds`.
    pub fn sign_with_subkey(&self, text: &str, made: u32, seconds: Option<u32>) -> String {
        let subkey = &self.key.secret_subkeys[0].key;
        let mut config =
            pgp::packet::SignatureConfig::from_key(TestRandom(8), subkey, pgp::packet::SignatureType::Text).unwrap();
        let mut hashed = vec![
            SubpacketData::SignatureCreationTime(Timestamp::from_secs(made)),
            SubpacketData::IssuerFingerprint(subkey.fingerprint()),
        ];
        hashed.extend(
            seconds.map(|seconds| SubpacketData::SignatureExpirationTime(pgp::types::Duration::from_secs(seconds))),
        );
        config.hashed_subpackets = hashed.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect();
        let message = CleartextSignedMessage::new(text, config, subkey, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// One file of a package: path, mode, and contents or the target of a link.
pub enum Item<'a> {
    /// A regular file.
    File(&'a str, u32, &'a [u8]),
    /// A symbolic link.
    Link(&'a str, &'a str),
    /// A hard link.
    Hard(&'a str, &'a str),
    /// A folder.
    Folder(&'a str),
}

/// A tar archive, made without the code under test.
pub fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let (path, mode, flag, link, data): (_, _, _, _, &[u8]) = match item {
            Item::File(path, mode, data) => (path, *mode, b'0', "", data),
            Item::Link(path, target) => (path, 0o777, b'2', *target, b""),
            Item::Hard(path, target) => (path, 0o644, b'1', *target, b""),
            Item::Folder(path) => (path, 0o755, b'5', "", b""),
        };
        let mut block = [0u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        let mut put = |at: usize, text: String| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(100, format!("{mode:07o}\0"));
        put(108, format!("{:07o}\0", 0));
        put(116, format!("{:07o}\0", 0));
        put(124, format!("{:011o}\0", data.len()));
        put(136, format!("{:011o}\0", 1_700_000_000));
        put(148, "        ".to_owned());
        put(257, "ustar\x0000".to_owned());
        put(157, link.to_owned());
        block[156] = flag;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&block);
        out.extend_from_slice(data);
        out.resize(out.len().div_ceil(512) * 512, 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Compresses with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A package file from its control paragraph, further control files and data.
pub fn deb(control: &str, scripts: &[Item<'_>], data: &[Item<'_>]) -> Vec<u8> {
    let mut members = vec![Item::File("./control", 0o644, control.as_bytes())];
    members.extend(scripts.iter().map(|item| match item {
        Item::File(path, mode, data) => Item::File(path, *mode, data),
        _ => unreachable!("control files are files"),
    }));
    let mut out = b"!<arch>\n".to_vec();
    let parts = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&tar(&members))),
        ("data.tar.zst", zstd::encode_all(&tar(data)[..], 1).unwrap()),
    ];
    for (name, bytes) in parts {
        out.extend_from_slice(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).as_bytes(),
        );
        out.extend_from_slice(&bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// A mirror in a folder.
pub struct TestMirror {
    /// Where it lies.
    pub folder: tempfile::TempDir,
    /// Its key.
    pub signer: Signer,
    index: String,
}

impl TestMirror {
    /// An empty mirror.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pool")).unwrap();
        let signer = Signer::new(1);
        fs::write(folder.path().join("keyring.gpg"), signer.keyring()).unwrap();
        Self { folder, signer, index: String::new() }
    }

    /// Adds a package: `fields` are further lines of its control paragraph.
    pub fn add(&mut self, name: &str, fields: &str, scripts: &[Item<'_>], data: &[Item<'_>]) {
        let control = format!("Package: {name}\nVersion: 1.0\nArchitecture: amd64\n{fields}Description: test\n more\n");
        let bytes = deb(&control, scripts, data);
        let path = format!("pool/{name}.deb");
        let hash = Digest::sha256(&bytes);
        fs::write(self.path(&path), &bytes).unwrap();
        self.index += &format!("{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n", bytes.len(), hash.hex());
    }

    /// Writes index and InRelease of a suite; `edit` changes the Release text before it is signed.
    pub fn publish(&self, suite: &str, archs: &str, edit: impl Fn(String) -> String) {
        let packed = gzip(self.index.as_bytes());
        let mut table = String::new();
        let mut listed: BTreeMap<String, &[u8]> = BTreeMap::new();
        for arch in archs.split(' ') {
            listed.insert(format!("main/binary-{arch}/Packages"), self.index.as_bytes());
            listed.insert(format!("main/binary-{arch}/Packages.gz"), &packed);
        }
        for (name, bytes) in listed {
            let path = self.path(&format!("dists/{suite}/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            table += &format!(" {} {} {name}\n", Digest::sha256(bytes).hex(), bytes.len());
        }
        let text = format!(
            "Origin: Debian\nSuite: {suite}-alias\nVersion: 13.1\nCodename: {suite}\nDate: {DATE}\nArchitectures: all {archs}\n\
             Components: main\nDescription: test - suite\nSHA256:\n{table}"
        );
        fs::write(self.path(&format!("dists/{suite}/InRelease")), self.signer.sign(&edit(text))).unwrap();
    }

    /// A path below the mirror.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }
}

/// One entry of a tar: path, type, mode, link, data.
pub type TarEntry = (String, char, u32, String, Vec<u8>);

/// The entries of a plain tar, read without the code under test.
pub fn read_tar(bytes: &[u8]) -> Vec<TarEntry> {
    let mut out = Vec::new();
    let mut at = 0;
    let text = |range: &[u8]| String::from_utf8_lossy(range).trim_end_matches(['\0', ' ']).to_owned();
    while bytes[at] != 0 {
        let block = &bytes[at..at + 512];
        let size = usize::from_str_radix(&text(&block[124..136]), 8).unwrap();
        let mode = u32::from_str_radix(&text(&block[100..108]), 8).unwrap();
        let data = bytes[at + 512..at + 512 + size].to_vec();
        out.push((text(&block[..100]), block[156] as char, mode, text(&block[157..257]), data));
        at += 512 + size.div_ceil(512) * 512;
    }
    out
}

/// Whether a folder holds no half-made file.
pub fn has_no_leftovers(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| {
        !entries.any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "part"))
    })
}

impl TestMirror {
    /// Puts other bytes in the place of a package and makes the index vouch for them.
    pub fn replace(&mut self, name: &str, bytes: &[u8]) {
        let path = format!("pool/{name}.deb");
        let old = fs::read(self.path(&path)).unwrap();
        let line = |bytes: &[u8]| {
            format!("Filename: {path}\nSize: {}\nSHA256: {}\n", bytes.len(), Digest::sha256(bytes).hex())
        };
        self.index = self.index.replace(&line(&old), &line(bytes));
        fs::write(self.path(&path), bytes).unwrap();
    }
}
