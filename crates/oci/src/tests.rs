//! Small cases for every module, and properties of the parsers.

use proptest::prelude::*;

use crate::config::ImageConfig;
use crate::descriptor::{Compression, Descriptor, media_type};
use crate::digest::{Digest, Hasher};
use crate::manifest::{Index, MANIFEST_MAX, Manifest, ManifestError, Parsed, parse_any};
use crate::platform::Platform;
use crate::reference::{Reference, is_image_id};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn reference(input: &str) -> String {
    match Reference::parse(input) {
        Ok(reference) => format!("{reference} {}", reference.familiar()),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn references_by_dockers_rules() {
    #[track_caller]
    fn check(input: &str, canonical: &str, familiar: &str) {
        assert_eq!(reference(input), format!("{canonical} {familiar}"), "{input}");
    }
    check("debian", "docker.io/library/debian:latest", "debian:latest");
    check("debian:13", "docker.io/library/debian:13", "debian:13");
    check("team/web", "docker.io/team/web:latest", "team/web:latest");
    check("docker.io/debian", "docker.io/library/debian:latest", "debian:latest");
    check("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest");
    check("localhost/web", "localhost/web:latest", "localhost/web:latest");
    check("localhost:5000/web:1", "localhost:5000/web:1", "localhost:5000/web:1");
    check("web:5000", "docker.io/library/web:5000", "web:5000");
    check("r.example/a/b/c:t", "r.example/a/b/c:t", "r.example/a/b/c:t");
    check("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest");
    check("[::1]/web", "[::1]/web:latest", "[::1]/web:latest");
    check("Host/web", "Host/web:latest", "Host/web:latest");
    check("docker.io/localhost/web", "docker.io/localhost/web:latest", "docker.io/localhost/web:latest");
    check("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest");
    check("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest", "a--b__c.d_e:latest");
    let pinned = format!("debian@{EMPTY}");
    check(&pinned, &format!("docker.io/library/debian@{EMPTY}"), &pinned);
    let both = format!("debian:13@{EMPTY}");
    check(&both, &format!("docker.io/library/debian:13@{EMPTY}"), &both);
}

#[test]
fn references_that_are_none() {
    #[track_caller]
    fn check(input: &str, part: &str) {
        let text = reference(input);
        assert!(text.starts_with("error: ") && text.contains(part), "{input:?}: {text}");
    }
    check("", "is empty");
    check(&"a".repeat(2000), "too long");
    check("Debian", "must be lowercase: write \"debian\"");
    check("team/Web:1", "must be lowercase");
    check("a:", "tag");
    check("a:-x", "tag");
    check(&format!("a:{}", "x".repeat(129)), "tag");
    check("a..b", "repository");
    check("a___b", "repository");
    check("-a", "repository");
    check("a/", "repository");
    check("/a", "repository");
    check("a//b", "repository");
    check("a b", "repository");
    check("../a", "registry");
    check("host:99999/a", "registry");
    check("-h.example/a", "registry");
    check("[::1/a", "registry");
    check("a@sha256:00", "digest");
    check("a@", "digest");
    check(&"0".repeat(64), "looks like an image id");
    check(&format!("{}/x", "a".repeat(300)), "longer than 255");
}

#[test]
fn image_ids() {
    assert!(is_image_id("0123456789ab"));
    assert!(is_image_id(EMPTY));
    assert!(!is_image_id("0123456789a"));
    assert!(!is_image_id("0123456789aB"));
    assert!(!is_image_id(&"0".repeat(65)));
}

#[test]
fn digests() {
    assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    let mut hasher = Hasher::for_digest(&sha512);
    hasher.update(b"abc");
    assert!(hasher.finish().hex().starts_with("ddaf35a193617aba"));
    for wrong in ["", "sha256", ":00", "md5:00", "sha256:", "sha256:00", &EMPTY.to_uppercase(), &format!("{EMPTY}0")] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
    assert!(format!("sha256:{}", "G".repeat(64)).parse::<Digest>().is_err());
}

#[test]
fn platforms_are_normalised() {
    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(input.parse::<Platform>().map_or_else(|e| e.to_string(), |p| p.to_string()), expected);
    }
    check("linux/arm64/v8", "linux/arm64");
    check("linux/aarch64", "linux/arm64");
    check("x86_64", "linux/amd64");
    check("linux/amd64/v1", "linux/amd64");
    check("linux/amd64/v3", "linux/amd64/v3");
    check("linux/arm", "linux/arm/v7");
    check("linux/arm/6", "linux/arm/v6");
    check("linux/armel", "linux/arm/v6");
    check("riscv64", "linux/riscv64");
    check("linux/", "platform \"linux/\" must look like linux/arm64 or linux/arm/v7");
    check("a/b/c/d", "platform \"a/b/c/d\" must look like linux/arm64 or linux/arm/v7");
}

#[test]
fn the_best_entry_of_an_index_is_taken() {
    #[track_caller]
    fn check(host: &str, offered: &[&str], expected: Option<usize>) {
        let manifests = offered.iter().map(|text| {
            let mut d = Descriptor::of_bytes(media_type::OCI_MANIFEST, text.as_bytes());
            d.platform = (!text.is_empty()).then(|| text.parse().unwrap());
            d
        });
        let index = Index::new(manifests.collect());
        let host: Platform = host.parse().unwrap();
        let found = host.select(&index).map(|d| index.manifests.iter().position(|m| m == d).unwrap());
        assert_eq!(found, expected, "{host} of {offered:?}");
    }
    check("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1));
    check("linux/amd64", &["linux/386", "linux/amd64"], Some(1));
    check("linux/amd64", &["linux/386"], Some(0));
    check("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"], Some(1));
    check("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], Some(1));
    check("linux/arm/v6", &["linux/arm/v7"], None);
    check("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1));
    check("linux/riscv64", &["linux/amd64"], None);
    check("linux/riscv64", &[""], Some(0));
    check("linux/riscv64", &["", "linux/amd64"], None);
    check("linux/amd64", &["unknown/unknown"], None);
}

#[test]
fn compressions() {
    for (text, expected) in [
        (media_type::OCI_LAYER, Some(Compression::None)),
        (media_type::OCI_LAYER_GZIP, Some(Compression::Gzip)),
        (media_type::OCI_LAYER_ZSTD, Some(Compression::Zstd)),
        (media_type::DOCKER_LAYER_GZIP, Some(Compression::Gzip)),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Compression::Gzip)),
        ("application/vnd.oci.image.layer.v1.tar+xz", None),
        (media_type::OCI_CONFIG, None),
    ] {
        assert_eq!(Compression::of_media_type(text), expected, "{text}");
    }
    assert_eq!(Compression::sniff(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
    assert_eq!(Compression::sniff(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
    assert_eq!(Compression::sniff(&[0x50, 0x2a, 0x4d, 0x18]), Compression::Zstd);
    assert_eq!(Compression::sniff(b""), Compression::None);
}

#[test]
fn manifests_are_never_guessed() {
    #[track_caller]
    fn check(json: &str, announced: Option<&str>, expected: &str) {
        let d = format!(r#"{{"mediaType":"x","digest":"{EMPTY}","size":0}}"#);
        let json = json.replace('D', &d);
        let found = match parse_any(json.as_bytes(), announced) {
            Ok(Parsed::Manifest(m)) => format!("manifest of {}", m.layers.len()),
            Ok(Parsed::Index(i)) => format!("index of {}", i.manifests.len()),
            Err(ManifestError::Json(_)) => "json".into(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{json} {announced:?}: {found}");
    }
    check(r#"{"schemaVersion":2,"config":D,"layers":[D,D]}"#, None, "manifest of 2");
    check(r#"{"schemaVersion":2,"config":D,"layers":null,"annotations":null}"#, None, "manifest of 0");
    check(r#"{"schemaVersion":2,"manifests":[D]}"#, None, "index of 1");
    check(r#"{"schemaVersion":2,"manifests":[D]}"#, Some("application/json"), "index of 1");
    check(r#"{"schemaVersion":2,"manifests":[]}"#, Some(&format!("{}; charset=utf-8", media_type::OCI_INDEX)), "index");
    check(r#"{"schemaVersion":2,"manifests":[D],"layers":[D]}"#, None, "both manifests and layers");
    check(r#"{"schemaVersion":2,"manifests":[D],"config":D}"#, None, "both manifests and layers");
    check(r#"{"schemaVersion":2,"manifests":[D]}"#, Some(media_type::OCI_MANIFEST), "its content a list");
    check(r#"{"schemaVersion":2,"config":D,"layers":[]}"#, Some(media_type::DOCKER_LIST), "its content one image");
    let typed = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
    check(&typed, None, "index of 0");
    check(&typed, Some(media_type::DOCKER_LIST), "was announced as");
    check(r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "not supported");
    check(r#"{"schemaVersion":2,"mediaType":"text/x","layers":[]}"#, None, "not supported");
    check(r#"{"schemaVersion":2}"#, None, "json");
    check(r#"{"schemaVersion":2,"layers":[],"layers":[],"config":D}"#, None, "json");
    check(r#"{"schemaVersion":2,"config":{"digest":"x","size":1},"layers":[]}"#, None, "json");
    check(&r#"{"schemaVersion":2,"config":D,"layers":[]}"#.replace('D', r#"{"digest":"D","size":-1}"#), None, "json");
    let many = vec!["D"; 501].join(",");
    check(&format!(r#"{{"schemaVersion":2,"config":D,"layers":[{many}]}}"#), None, "501 layers");
    assert!(matches!(parse_any(&vec![b' '; MANIFEST_MAX + 1], None), Err(ManifestError::TooLong(_))));
}

#[test]
fn a_manifest_reads_back() {
    let blob = Descriptor::of_bytes(media_type::OCI_LAYER, b"x");
    let manifest = Manifest::new(blob.clone(), vec![blob]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(parse_any(&bytes, Some(media_type::OCI_MANIFEST)).unwrap(), Parsed::Manifest(manifest));
}

#[test]
fn a_configuration_as_docker_writes_it() {
    let json = format!(
        r#"{{"architecture":"arm64","os":"linux","variant":"v8","unknown":[1],
        "config":{{"Hostname":"","User":"www","ExposedPorts":{{"80/tcp":{{}}}},"Env":["A=b"],"Cmd":"one","Entrypoint":null,
        "Volumes":null,"Labels":null,"OnBuild":null,"AttachStdin":false,"Image":"sha256:x","StopSignal":"SIGQUIT",
        "ArgsEscaped":true,"Healthcheck":{{"Test":["CMD","x"],"Interval":5}},"Shell":["/bin/sh"]}},
        "rootfs":{{"type":"layers","diff_ids":["{EMPTY}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
    );
    let config = ImageConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(config.platform().to_string(), "linux/arm64");
    assert_eq!(config.config.cmd.as_deref(), Some(&["one".to_owned()][..]));
    assert_eq!(config.config.entrypoint, None);
    assert!(config.config.exposed_ports.contains_key("80/tcp") && config.config.volumes.is_empty());
    assert_eq!(config.config.healthcheck.as_ref().map(|h| h.interval), Some(5));
    assert!(config.config.args_escaped && config.history[0].empty_layer);
    assert_eq!(config.rootfs.diff_ids.len(), 1);
    let again = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    for nothing in [r#"{"config":null,"rootfs":null,"history":null}"#, "{}"] {
        assert_eq!(ImageConfig::parse(nothing.as_bytes()).unwrap(), ImageConfig::default());
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_cleanly(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        }
        let _ = text.parse::<Digest>();
        let _ = text.parse::<Platform>();
    }

    #[test]
    fn near_references_read_back(text in "([a-zA-Z0-9.:\\[\\]-]{1,9}/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9_.-]{1,9})?") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        }
    }

    #[test]
    fn platforms_read_back(text in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}") {
        let platform: Platform = text.parse().unwrap();
        prop_assert_eq!(&platform.to_string().parse::<Platform>().unwrap(), &platform);
        prop_assert!(platform.matches(&platform));
    }

    #[test]
    fn any_bytes_are_a_manifest_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_any(&bytes, None);
        let _ = ImageConfig::parse(&bytes);
    }
}
