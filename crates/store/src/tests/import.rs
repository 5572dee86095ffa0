//! `docker load`: archives as Docker's `save` and OCI layouts, in any order and packing, and hostile ones.

use atoll_oci::{Compression, Descriptor, Digest, ImageConfig, Index, Manifest, media_type};

use super::{Bed, archive, gzip, packed};
use crate::tar::{Entry, EntryKind, Writer};
use crate::{Error, Loaded};

type Files = Vec<(String, Vec<u8>)>;

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.iter().map(|l| Digest::sha256(l)).collect();
    serde_json::to_vec(&config).unwrap()
}

fn pack(files: &Files, links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, bytes) in files {
        writer.append_bytes(&Entry::file(path.as_str(), 0o644, 0), bytes).unwrap();
    }
    for (path, target) in links {
        writer.append_bytes(&Entry::new(*path, EntryKind::Symlink((*target).into()), 0o777), &[]).unwrap();
    }
    writer.finish().unwrap()
}

fn load(bed: &Bed, bytes: &[u8]) -> Result<Vec<Loaded>, Error> {
    let lease = bed.store.lease("load").unwrap();
    let loaded = bed.store.import_archive(&lease, &mut &*bytes, &|_| ())?;
    for image in &loaded {
        for name in &image.names {
            bed.store.link(name, &image.manifest).unwrap();
        }
    }
    drop(lease);
    bed.store.sweep(&[]).unwrap();
    Ok(loaded)
}

fn why(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

fn docker_archive() -> Files {
    let layers = [archive("one", b"1"), archive("two", &vec![b'2'; 2 << 20])];
    let list = r#"[{"Config":"c.json","RepoTags":["web:1","r.example/web:2"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    vec![
        ("a/layer.tar".into(), layers[0].clone()),
        ("b/layer.tar".into(), gzip(&layers[1])),
        ("c.json".into(), config(&layers)),
        ("manifest.json".into(), list.into()),
        ("repositories".into(), b"{}".to_vec()),
    ]
}

#[test]
fn a_docker_archive_in_any_order_and_packing() {
    let mut digests = Vec::new();
    for reverse in [false, true] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let bed = Bed::new();
            let mut files = docker_archive();
            if reverse {
                files.reverse();
            }
            let loaded = load(&bed, &packed(&pack(&files, &[]), compression)).unwrap();
            assert_eq!(loaded[0].names, ["docker.io/library/web:1", "r.example/web:2"]);
            let image = bed.store.image(&loaded[0].manifest.digest).unwrap();
            assert_eq!(std::fs::read(image.layers[0].path.join("one")).unwrap(), b"1");
            assert_eq!(image.layers[1].size, 2 << 20);
            assert_eq!(image.manifest.layers[1].media_type, media_type::DOCKER_LAYER_GZIP);
            digests.push(loaded[0].manifest.digest.clone());
            // Loading it again changes nothing.
            assert_eq!(load(&bed, &pack(&files, &[])).unwrap(), loaded);
            assert_eq!((bed.count("layers"), bed.count("blobs/sha256")), (2, 4));
        }
    }
    assert!(digests.iter().all(|d| *d == digests[0]));
}

#[test]
fn links_resolve_inside_the_archive_only() {
    let bed = Bed::new();
    let mut files = docker_archive();
    files[0].0 = "shared/layer.tar".into();
    let loaded = load(&bed, &pack(&files, &[("a/layer.tar", "../shared/layer.tar")])).unwrap();
    assert_eq!(bed.store.image(&loaded[0].manifest.digest).unwrap().layers.len(), 2);
    for target in ["/etc/passwd", "../../etc/passwd", "../a/layer.tar", "../gone"] {
        let bed = Bed::new();
        assert!(load(&bed, &pack(&files, &[("a/layer.tar", target)])).is_err(), "{target}");
        assert_eq!((bed.count("layers"), bed.count("blobs/sha256")), (0, 0));
    }
}

fn layout() -> (Files, Descriptor) {
    let tar = archive("one", b"1");
    let blob = gzip(&tar);
    let mut files = Files::new();
    let mut add = |kind: &str, bytes: Vec<u8>| {
        let descriptor = Descriptor::of_bytes(kind, &bytes);
        files.push((format!("blobs/sha256/{}", descriptor.digest.hex()), bytes));
        descriptor
    };
    let layer = add(media_type::OCI_LAYER_GZIP, blob);
    let config = add(media_type::OCI_CONFIG, config(&[tar]));
    let manifest = Manifest::new(config, vec![layer]);
    let manifest = add(media_type::OCI_MANIFEST, serde_json::to_vec(&manifest).unwrap());
    let mut named = manifest.clone();
    named.annotations.insert("io.containerd.image.name".into(), "docker.io/library/web:1".into());
    files.push(("index.json".into(), serde_json::to_vec(&Index::new(vec![named])).unwrap()));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    (files, manifest)
}

#[test]
fn an_oci_layout_keeps_its_digest() {
    let bed = Bed::new();
    let (files, manifest) = layout();
    let loaded = load(&bed, &pack(&files, &[])).unwrap();
    assert_eq!(loaded, [Loaded { names: vec!["docker.io/library/web:1".into()], manifest: manifest.clone() }]);
    assert_eq!(bed.store.image(&manifest.digest).unwrap().layers.len(), 1);
}

#[test]
fn an_index_needs_one_complete_platform() {
    let bed = Bed::new();
    let (mut files, mut manifest) = layout();
    manifest.platform = Some("linux/amd64".parse().unwrap());
    let mut absent = Descriptor::of_bytes(media_type::OCI_MANIFEST, b"absent");
    absent.platform = Some("linux/arm64".parse().unwrap());
    let index = serde_json::to_vec(&Index::new(vec![absent, manifest.clone()])).unwrap();
    let outer = Descriptor::of_bytes(media_type::OCI_INDEX, &index);
    files.push((format!("blobs/sha256/{}", outer.digest.hex()), index));
    files.retain(|(name, _)| name != "index.json");
    files.push(("index.json".into(), serde_json::to_vec(&Index::new(vec![outer.clone()])).unwrap()));
    let lease = bed.store.lease("load").unwrap();
    let bytes = pack(&files, &[]);
    let loaded = bed.store.import_archive(&lease, &mut &*bytes, &|_| ()).unwrap();
    assert_eq!(loaded[0].manifest, outer);
    assert_eq!(bed.store.select(&outer, &"linux/amd64".parse().unwrap()).unwrap(), manifest);
    assert!(bed.store.select(&outer, &"linux/arm64".parse().unwrap()).is_err());
    bed.store.link("multi", &outer).unwrap();
    drop(lease);
    assert_eq!(bed.store.sweep(&[]).unwrap().blobs, 0);
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    #[track_caller]
    fn check(files: &Files, part: &str) {
        let bed = Bed::new();
        let text = why(&load(&bed, &pack(files, &[])).expect_err(part));
        assert!(text.contains(part), "{text}");
        bed.store.sweep(&[]).unwrap();
        assert_eq!((bed.count("layers"), bed.count("blobs/sha256"), bed.count("leases")), (0, 0, 0));
        let session = bed.store.temporary();
        assert_eq!(std::fs::read_dir(session.parent().unwrap()).unwrap().count(), 0, "half-made things stay");
    }
    let docker = docker_archive();
    let without = |name: &str| docker.iter().filter(|(n, _)| n != name).cloned().collect::<Files>();
    check(&without("manifest.json"), "neither manifest.json nor index.json");
    check(&without("a/layer.tar"), "\"a/layer.tar\" is missing");
    check(&without("c.json"), "\"c.json\" is missing");
    let with = |name: &str, bytes: &[u8]| [without(name), vec![(name.into(), bytes.to_vec())]].concat();
    check(&with("manifest.json", b"{"), "manifest.json cannot be read");
    check(&with("manifest.json", br#"[{"Config":"../../etc/passwd"}]"#), "inside the archive");
    check(&with("manifest.json", br#"[{"Config":"c.json","RepoTags":["Web"],"Layers":[]}]"#), "lowercase");
    check(&with("manifest.json", br#"[{"Config":"c.json","Layers":["a/layer.tar"]}]"#), "1 layers");
    check(&with("a/layer.tar", &archive("other", b"x")), "unpacks to");
    check(&with("a/layer.tar", &b"no archive at all".repeat(99)), "no tar archive");
    check(&with("a/layer.tar", &gzip(b"x")[..10]), "corrupt");
    check(&with("../x", b""), "inside the archive");
    let mut twice = docker.clone();
    twice.push(("c.json".into(), b"{}".to_vec()));
    check(&twice, "twice");
    let (layout, _) = layout();
    let mut wrong = layout.clone();
    wrong[0].1.push(0);
    check(&wrong, "has the digest");
    let mut missing = layout.clone();
    missing.remove(0);
    check(&missing, "is missing");
    let mut confused = layout;
    confused[3].1 = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_vec();
    check(&confused, "ambiguous");
    let bed = Bed::new();
    let bytes = pack(&docker, &[]);
    assert!(load(&bed, &bytes[..bytes.len() / 2]).is_err());
    assert!(load(&bed, b"junk").is_err());
    assert!(load(&bed, b"").is_err());
}

/// An archive for the crash tests.
pub(super) fn files() -> Vec<u8> {
    pack(&docker_archive(), &[])
}
