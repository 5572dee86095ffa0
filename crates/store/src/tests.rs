//! The whole store: blobs, layers, names, leases, sweeps, imports, and what is left after a crash at every failpoint.

mod crash;
mod import;
mod packed;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use atoll_oci::{Compression, Descriptor, Digest, ImageConfig, Manifest, media_type};

use crate::tar::{Entry, EntryKind, Writer};
use crate::{CommitOptions, Error, Layer, LayerSource, Lease, Store, Swept};

struct Bed {
    dir: tempfile::TempDir,
    store: Store,
}

fn open(dir: &Path) -> Store {
    let db = Arc::new(redb::Database::create(dir.join("atoll.redb")).unwrap());
    Store::open(&dir.join("store"), db).unwrap()
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { dir, store }
    }

    fn reopen(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        let store = open(dir.path());
        Self { dir, store }
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.dir.path().join("store").join(folder)).unwrap().count()
    }
}

/// A layer archive with one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.append_bytes(&Entry::file(name, 0o644, 0), content).unwrap();
    writer.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn packed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => gzip(bytes),
        Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
    }
}

fn unpack(store: &Store, lease: &Lease, blob: &[u8], compression: Compression, diff: &Digest) -> Result<Layer, Error> {
    let descriptor = Descriptor::of_bytes(compression.layer_media_type(), blob);
    let source = LayerSource { descriptor: Some(&descriptor), diff_id: Some(diff), compression: None, keep: true };
    store.unpack(lease, source, &mut &*blob)
}

/// A complete image of one layer, linked as `name`.
fn image(store: &Store, lease: &Lease, name: &str, content: &[u8]) -> Descriptor {
    let tar = archive("file", content);
    let layer = unpack(store, lease, &gzip(&tar), Compression::Gzip, &Digest::sha256(&tar)).unwrap();
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids.push(layer.diff_id);
    let config = serde_json::to_vec(&config).unwrap();
    let config = store.put_bytes(lease, media_type::OCI_CONFIG, &config).unwrap();
    let manifest = Manifest::new(config, vec![layer.blob.unwrap()]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let manifest = store.put_bytes(lease, media_type::OCI_MANIFEST, &manifest).unwrap();
    store.link(name, &manifest).unwrap();
    manifest
}

#[test]
fn blobs_are_checked_while_they_stream() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let good = Descriptor::of_bytes("x", b"hello");
    let put = |d: &Descriptor, bytes: &[u8]| bed.store.put(&lease, d, &mut &*bytes);
    let mut short = good.clone();
    short.size = 4;
    assert!(matches!(put(&short, b"hello"), Err(Error::Size { expected: 4, .. })));
    assert!(matches!(put(&good, b"hell"), Err(Error::Size { expected: 5, found: 4 })));
    assert!(matches!(put(&good, b"jello"), Err(Error::Digest { .. })));
    assert_eq!(bed.store.stat(&good.digest).unwrap(), None);
    assert_eq!(bed.count("blobs/sha256"), 0);
    put(&good, b"hello").unwrap();
    // Here already: the reader is not touched.
    put(&good, b"nonsense").unwrap();
    assert_eq!(bed.store.read(&good.digest, 5).unwrap(), b"hello");
    assert!(matches!(bed.store.read(&good.digest, 4), Err(Error::Limit { .. })));
    let mut text = String::new();
    bed.store.get(&good.digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert!(matches!(bed.store.get(&Digest::sha256(b"no")), Err(Error::MissingBlob(_))));
}

#[test]
fn layers_of_every_packing_are_one_layer() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let tar = archive("f", &vec![b'x'; 3 << 20]);
    let diff = Digest::sha256(&tar);
    let mut paths = Vec::new();
    for compression in [Compression::Gzip, Compression::None, Compression::Zstd] {
        let layer = unpack(&bed.store, &lease, &packed(&tar, compression), compression, &diff).unwrap();
        assert_eq!((&layer.diff_id, layer.size, layer.entries), (&diff, 3 << 20, 1));
        assert_eq!(fs::metadata(layer.path.join("f")).unwrap().len(), 3 << 20);
        let blob = layer.blob.unwrap();
        assert_eq!(bed.store.stat(&blob.digest).unwrap(), Some(blob.size));
        paths.push(layer.path);
    }
    assert!(paths.iter().all(|p| *p == paths[0]));
    assert_eq!(bed.count("layers"), 1);
    for compression in [Compression::Gzip, Compression::None, Compression::Zstd] {
        let other = Bed::new();
        let lease = other.store.lease("test").unwrap();
        let layer = unpack(&other.store, &lease, &packed(&tar, compression), compression, &diff).unwrap();
        assert_eq!(layer.diff_id, diff, "{compression:?}");
    }
}

#[test]
fn bad_layers_leave_nothing() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let tar = archive("f", &vec![b'x'; 1 << 20]);
    let diff = Digest::sha256(&tar);
    let blob = gzip(&tar);
    let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER_GZIP, &blob);
    let check = |descriptor: &Descriptor, diff_id: &Digest, bytes: &[u8], part: &str| {
        let source =
            LayerSource { descriptor: Some(descriptor), diff_id: Some(diff_id), compression: None, keep: true };
        let error = bed.store.unpack(&lease, source, &mut &*bytes).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!((bed.count("layers"), bed.count("blobs/sha256")), (0, 0));
        let session = bed.store.temporary();
        assert_eq!(fs::read_dir(session.parent().unwrap()).unwrap().count(), 0, "half-made things stay");
    };
    check(&descriptor, &diff, &blob[..blob.len() - 10], "bytes, expected");
    let mut corrupt = blob.clone();
    corrupt[blob.len() / 2] ^= 0x55;
    check(&descriptor, &diff, &corrupt, "has digest");
    check(&descriptor, &Digest::sha256(b"other"), &blob, "has digest");
    let lying = Descriptor::of_bytes("x", &corrupt);
    check(&lying, &diff, &corrupt, "");
    let junk = b"this is no archive".repeat(100);
    check(&Descriptor::of_bytes("x", &junk), &diff, &junk, "archive");
    let cut = gzip(&tar[..tar.len() / 2]);
    check(&Descriptor::of_bytes("x", &cut), &diff, &cut, "archive");
    let escaping = archive("../x", b"");
    check(&Descriptor::of_bytes("x", &escaping), &diff, &escaping, "..");
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the registry hung up"))
        }
    }
    let source = LayerSource { descriptor: Some(&descriptor), keep: true, ..LayerSource::default() };
    assert!(matches!(bed.store.unpack(&lease, source, &mut Broken), Err(Error::Source(_))));
    assert!(matches!(bed.store.unpack(&lease, source, &mut (&blob[..9]).chain(Broken)), Err(Error::Source(_))));
}

#[test]
fn images_names_and_reopening() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let manifest = image(&bed.store, &lease, "docker.io/library/a:1", b"one");
    drop(lease);
    let bed = bed.reopen();
    let found = bed.store.image(&manifest.digest).unwrap();
    assert_eq!(found.layers.len(), 1);
    assert_eq!(fs::read(found.layers[0].path.join("file")).unwrap(), b"one");
    assert_eq!(found.config_digest, found.manifest.config.digest);
    assert_eq!(bed.store.links().unwrap(), [("docker.io/library/a:1".to_owned(), manifest.clone())]);
    assert_eq!(bed.store.resolve("docker.io/library/a:1").unwrap(), Some(manifest.clone()));
    assert_eq!(bed.store.select(&manifest, &"linux/arm64".parse().unwrap()).unwrap(), manifest);
    let missing = Descriptor::of_bytes("x", b"nowhere");
    assert!(matches!(bed.store.link("b", &missing), Err(Error::MissingBlob(_))));
    assert_eq!(bed.store.unlink("docker.io/library/a:1").unwrap(), Some(manifest.clone()));
    assert_eq!(bed.store.unlink("docker.io/library/a:1").unwrap(), None);
    assert_eq!(bed.store.sweep(std::slice::from_ref(&manifest.digest)).unwrap(), Swept::default());
    assert_eq!(bed.store.sweep(std::slice::from_ref(&found.config_digest)).unwrap().layers, 0);
    assert!(bed.store.layer(&found.layers[0].diff_id).unwrap().is_some());
}

#[test]
fn a_sweep_spares_leases_names_and_roots() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let kept = image(&bed.store, &lease, "kept", b"kept");
    let gone = image(&bed.store, &lease, "gone", b"gone");
    bed.store.unlink("gone").unwrap();
    assert_eq!(bed.store.sweep(&[]).unwrap(), Swept::default(), "the lease holds everything");
    let layers: Vec<Digest> = bed.store.image(&gone.digest).unwrap().layers.into_iter().map(|l| l.diff_id).collect();
    let root = bed.store.create_root("w1", &layers, None).unwrap();
    assert!(root.upper.is_dir() && root.work.is_dir() && root.lower.len() == 1);
    assert_eq!(bed.store.root("w1").unwrap(), root);
    assert!(matches!(bed.store.create_root("w1", &layers, None), Err(Error::Root(crate::RootError::Exists(_)))));
    assert!(bed.store.create_root("../w2", &layers, None).is_err());
    assert!(matches!(bed.store.create_root("w2", &[Digest::sha256(b"no")], None), Err(Error::MissingLayer(_))));
    drop(lease);
    let swept = bed.store.sweep(&[]).unwrap();
    assert_eq!((swept.blobs, swept.layers), (2, 0), "the root holds its layer, and that the blob that it came as");
    assert_eq!(bed.store.roots().unwrap(), ["w1"]);
    bed.store.remove_root("w1").unwrap();
    bed.store.remove_root("w1").unwrap();
    let swept = bed.store.sweep(&[]).unwrap();
    assert_eq!((swept.blobs, swept.layers), (1, 1));
    bed.store.image(&kept.digest).unwrap();
    let usage = bed.store.usage().unwrap();
    assert_eq!((usage.links, usage.blobs, usage.layers, usage.roots), (1, 3, 1, 0));
    assert_eq!((bed.count("layers"), bed.count("blobs/sha256"), bed.count("leases")), (1, 3, 0));
}

#[test]
fn sweeps_beside_pulls_lose_nothing() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| (0..60).for_each(|_| assert!(bed.store.sweep(&[]).is_ok())));
        for worker in 0..2 {
            let store = bed.store.clone();
            scope.spawn(move || {
                for round in 0..15 {
                    let lease = store.lease("pull").unwrap();
                    let name = format!("w{worker}");
                    let manifest = image(&store, &lease, &name, format!("{}", round % 3).as_bytes());
                    drop(lease);
                    store.image(&manifest.digest).unwrap();
                }
            });
        }
        sweeper.join().unwrap();
    });
}

#[test]
fn many_layers_have_short_names() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let mut layers = Vec::new();
    for number in 0..127 {
        let layer = bed.store.build_layer(&lease, |writer| -> Result<(), Error> {
            Ok(writer.append_bytes(&Entry::file(format!("f{number}"), 0o644, 0), b"x")?)
        });
        layers.push(layer.unwrap().diff_id);
    }
    let root = bed.store.create_root("w", &layers, None).unwrap();
    assert_eq!(root.lower.len(), 127);
    assert!(root.lower[0].join("f126").exists(), "top first");
    let option: usize = root.lower.iter().map(|l| l.file_name().unwrap().len() + 1).sum();
    assert!(option < 1024, "{option}");
}

#[test]
fn an_upper_folder_becomes_the_same_layer_twice() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to make whiteouts");
        return;
    }
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let make = |reverse: bool| {
        let upper = tempfile::tempdir().unwrap();
        let path = upper.path();
        fs::create_dir_all(path.join("d/o")).unwrap();
        let mut names = vec!["b", "a", "d/x"];
        if reverse {
            names.reverse();
        }
        for name in names {
            fs::write(path.join(name), name).unwrap();
        }
        fs::hard_link(path.join("a"), path.join("z")).unwrap();
        std::os::unix::fs::symlink("a", path.join("s")).unwrap();
        let device = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, path.join("d/gone"), device, rustix::fs::Mode::empty(), 0).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path.join("d/o"), "user.overlay.opaque", b"y", flags).unwrap();
        rustix::fs::setxattr(path.join("d/o"), "user.overlay.impure", b"y", flags).unwrap();
        rustix::fs::setxattr(path.join("a"), "user.kept", b"v", flags).unwrap();
        upper
    };
    let options = CommitOptions { clamp_mtime: Some(1000), ..CommitOptions::default() };
    let first = bed.store.commit_upper(&lease, make(false).path(), options).unwrap();
    let second = bed.store.commit_upper(&lease, make(true).path(), options).unwrap();
    assert_eq!(first, second);
    let layer = &first.path;
    assert_eq!(fs::read(layer.join("z")).unwrap(), b"a");
    let meta = |p: &str| fs::symlink_metadata(layer.join(p)).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((meta("a").ino(), meta("a").mtime()), (meta("z").ino(), 1000));
    assert_eq!((meta("d/gone").rdev(), meta("d/gone").mode() & 0o170_000), (0, 0o020_000));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(layer.join("d/o"), "user.overlay.opaque", &mut value[..]), Ok(1));
    assert!(rustix::fs::getxattr(layer.join("d/o"), "user.overlay.impure", &mut value[..]).is_err());
    // The blob says so in the layer format, and unpacks to the same elsewhere.
    let blob = bed.store.read(&first.diff_id, 1 << 20).unwrap();
    let mut reader = crate::tar::Reader::new(&*blob);
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        paths.push(String::from_utf8(entry.path).unwrap());
        assert!(!matches!(entry.kind, EntryKind::CharDevice { .. }));
    }
    assert_eq!(paths, ["a", "b", "d/", "d/.wh.gone", "d/o/", "d/o/.wh..wh..opq", "d/x", "s", "z"]);
}

#[test]
fn a_foreign_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(redb::Database::create(dir.path().join("db")).unwrap());
    let txn = db.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("store/meta");
    txn.open_table(table).unwrap().insert("version", 99).unwrap();
    txn.commit().unwrap();
    assert!(matches!(Store::open(dir.path(), db), Err(Error::Schema { found: 99, .. })));
}

#[test]
fn a_folder_of_an_image_is_copied_out() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let layer = |entries: &[(Entry, &[u8])]| {
        let made = bed.store.build_layer(&lease, |writer| -> Result<(), Error> {
            entries.iter().try_for_each(|(entry, data)| Ok(writer.append_bytes(entry, data)?))
        });
        made.unwrap().diff_id
    };
    let folder = |path: &str, mode| Entry::new(path, EntryKind::Directory, mode);
    let owned = Entry { uid: 33, ..Entry::file("srv/data/kept", 0o640, 5) };
    let lower = layer(&[
        (folder("srv/data", 0o2770), b""),
        (Entry::file("srv/data/gone", 0o644, 0), b"old"),
        (owned, b"below"),
        (Entry::new("link", EntryKind::Symlink(b"/srv/data".to_vec()), 0o777), b""),
        (Entry::new("out", EntryKind::Symlink(b"../../../../../../../tmp".to_vec()), 0o777), b""),
        (Entry::file("file", 0o644, 0), b""),
    ]);
    let upper = layer(&[
        (folder("srv/data", 0o2770), b""),
        (Entry::file("srv/data/.wh.gone", 0o644, 0), b""),
        (Entry::file("srv/data/new", 0o600, 0), b"above"),
        (Entry::new("srv/data/name", EntryKind::HardLink(b"srv/data/new".to_vec()), 0o600), b""),
    ]);
    let layers = [lower, upper];
    let check = |path: &str, expected: Option<&[&str]>| {
        let target = bed.dir.path().join("_data");
        fs::create_dir(&target).unwrap();
        assert_eq!(bed.store.copy_out(&layers, path, &target).unwrap(), expected.is_some(), "{path}");
        let mut names: Vec<_> =
            fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, expected.unwrap_or_default(), "{path}");
        target
    };
    use std::os::unix::fs::MetadataExt;
    for path in ["/srv/data", "link/."] {
        let target = check(path, Some(&["kept", "name", "new"]));
        assert_eq!(fs::read(target.join("new")).unwrap(), b"above");
        let kept = fs::metadata(target.join("kept")).unwrap();
        assert_eq!((kept.uid(), kept.mode() & 0o7777), (33, 0o640));
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o2770);
        assert_eq!(fs::metadata(target.join("new")).unwrap().nlink(), 2);
        fs::remove_dir_all(target).unwrap();
    }
    for path in ["/nothing", "/file", "/out"] {
        fs::remove_dir(check(path, None)).unwrap();
    }
    assert!(!bed.dir.path().join("_data.new").exists());
}
