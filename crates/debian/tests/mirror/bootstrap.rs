//! Whole bootstraps from a mirror in a folder: what comes out, that it is the same twice, and what is refused.

use std::path::Path;
use std::sync::Mutex;

use atoll_debian::{Bootstrap, Error, Outcome, Progress, Stage, Variant, bootstrap};
use atoll_oci::{ImageConfig, Manifest, Parsed, parse_any};
use atoll_store::Store;

use super::store;
use super::support::{self, Item, TarEntry, TestMirror, has_no_leftovers, read_tar};

/// A mirror with busybox, a library and a program that needs it.
fn mirror() -> TestMirror {
    let mut mirror = TestMirror::new();
    let names = "[ [[ ar ash awk busybox cat cp date dd echo grep ls mkdir mv rm sh test true vi";
    let binary = format!("\x7fELF..\0{}\0\0", names.replace(' ', "\0"));
    mirror.add(
        "busybox-static",
        "Provides: busybox\nConflicts: busybox\n",
        &[Item::File("./md5sums", 0o644, b"x  bin/busybox\n")],
        &[Item::Folder("./"), Item::Folder("./bin/"), Item::File("./bin/busybox", 0o755, binary.as_bytes())],
    );
    mirror.add(
        "tool",
        "Depends: libtool1 (>= 1.0) | never\n",
        &[],
        &[
            Item::File("./usr/bin/tool", 0o4755, b"tool"),
            Item::Hard("./usr/bin/tool2", "./usr/bin/tool"),
            Item::Link("./sbin/tool3", "../bin/tool"),
        ],
    );
    mirror.add("libtool1", "", &[], &[Item::Folder("./lib/"), Item::File("./lib/libtool.so.1", 0o644, b"library")]);
    mirror.add("loner", "Depends: missing\n", &[], &[]);
    mirror.publish("trixie", "amd64 riscv64", |text| text);
    mirror.publish("bookworm", "amd64", |text| text);
    mirror
}

fn request(mirror: &TestMirror, include: &str, cache: &Path) -> Bootstrap {
    Bootstrap {
        suite: "trixie".to_owned(),
        arch: Some("amd64".to_owned()),
        include: include.split_ascii_whitespace().map(str::to_owned).collect(),
        variant: Variant::Minimal,
        mirror: Some(mirror.address()),
        keyring: Some(mirror.path("keyring.gpg")),
        cache: cache.to_owned(),
    }
}

/// Runs a request in a fresh runtime and gives the manifest.
fn run(store: &Store, request: &Bootstrap) -> Result<atoll_debian::Built, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match runtime.block_on(bootstrap(store, request, &|_| {}))? {
        Outcome::Image(built) => Ok(*built),
        Outcome::Staged(_) => panic!("a minimal image needs no container"),
    }
}

/// The image's manifest, configuration and the entries of its layer.
fn open(store: &Store, built: &atoll_debian::Built) -> (Manifest, ImageConfig, Vec<TarEntry>) {
    let bytes = store.read(&built.manifest.digest, 1 << 20).unwrap();
    let Parsed::Manifest(manifest) = parse_any(&bytes, None).unwrap() else { panic!("an index") };
    let config = ImageConfig::parse(&store.read(&manifest.config.digest, 1 << 20).unwrap()).unwrap();
    let layer = store.read(&manifest.layers[0].digest, 1 << 26).unwrap();
    (manifest, config, read_tar(&layer))
}

#[test]
fn minimal_image() {
    let (mirror, folder) = (mirror(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    let built = run(&store, &request(&mirror, "", &folder.path().join("cache"))).unwrap();
    let (manifest, config, entries) = open(&store, &built);
    assert_eq!(manifest.layers.len(), 1);
    assert_eq!(config.rootfs.diff_ids.len(), 1);
    assert_eq!((config.architecture.as_str(), config.os.as_str()), ("amd64", "linux"));
    assert_eq!(config.created.as_deref(), Some("2026-07-11T10:16:37Z"));
    assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
    assert_eq!(config.config.labels["atoll.debian.codename"], "trixie");
    assert_eq!(config.config.labels["atoll.debian.inrelease.sha256"].len(), 64);
    let find = |path: &str| {
        entries.iter().find(|entry| entry.0.trim_end_matches('/') == path).unwrap_or_else(|| panic!("no {path}"))
    };
    assert_eq!((find("bin").1, find("bin").3.as_str()), ('2', "usr/bin"));
    assert_eq!((find("usr/bin/sh").1, find("usr/bin/sh").3.as_str()), ('2', "busybox"));
    assert_eq!(find("usr/bin/[").1, '2');
    assert_eq!((find("usr/bin/busybox").1, find("usr/bin/busybox").2), ('0', 0o755));
    assert_eq!((find("tmp").1, find("tmp").2), ('5', 0o1777));
    for path in [
        "proc",
        "sys",
        "dev",
        "run",
        "var/tmp",
        "root",
        "etc/os-release",
        "var/lib/dpkg/status.d/busybox-static.md5sums",
    ] {
        find(path);
    }
    assert!(find("etc/passwd").4.starts_with(b"root:x:0:0:root:/root:/bin/sh\n"));
    assert!(find("var/lib/dpkg/status.d/busybox-static").4.starts_with(b"Package: busybox-static\n"));
    let mut sorted: Vec<_> = entries.iter().map(|entry| entry.0.trim_end_matches('/').to_owned()).collect();
    sorted.sort();
    assert!(sorted.iter().eq(entries.iter().map(|entry| entry.0.trim_end_matches('/'))));
    assert!(has_no_leftovers(&folder.path().join("cache")));
}

#[test]
fn dependencies_links_and_set_id_bits() {
    let (mirror, folder) = (mirror(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    let built = run(&store, &request(&mirror, "tool", &folder.path().join("cache"))).unwrap();
    let (_, config, entries) = open(&store, &built);
    let find = |path: &str| entries.iter().find(|entry| entry.0 == path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!((find("usr/bin/tool").2, find("usr/bin/tool").4.as_slice()), (0o4755, &b"tool"[..]));
    assert_eq!((find("usr/bin/tool2").1, find("usr/bin/tool2").3.as_str()), ('1', "usr/bin/tool"));
    assert_eq!(find("usr/sbin/tool3").3, "../bin/tool");
    assert_eq!(find("usr/lib/libtool.so.1").4, b"library");
    assert_eq!(config.config.cmd, None);
}

#[test]
fn same_input_same_digest() {
    let mirror = mirror();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let digest = |folder: &tempfile::TempDir, include| {
        let request = request(&mirror, include, &folder.path().join("cache"));
        run(&store(&folder.path().join(include.replace(' ', "-"))), &request).unwrap().manifest
    };
    let first = digest(&one, "tool busybox-static");
    assert_eq!(first, digest(&two, "busybox-static tool"));
    assert_ne!(first.digest, digest(&two, "tool").digest);
    // The cache alone is enough for the packages.
    std::fs::remove_dir_all(mirror.path("pool")).unwrap();
    assert_eq!(first, digest(&one, "tool  busybox-static"));
}

#[test]
fn a_damaged_cache_is_not_used() {
    let (mirror, folder) = (mirror(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    let cache = folder.path().join("cache");
    let first = run(&store, &request(&mirror, "", &cache)).unwrap().manifest;
    for entry in std::fs::read_dir(&cache).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("inrelease") {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            bytes[20] ^= 1;
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
    assert_eq!(run(&store, &request(&mirror, "", &cache)).unwrap().manifest, first);
}

#[test]
fn tells_progress() {
    let (mirror, folder) = (mirror(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    let seen: Mutex<Vec<Progress>> = Mutex::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = request(&mirror, "tool", &folder.path().join("cache"));
    runtime.block_on(bootstrap(&store, &request, &|step| seen.lock().unwrap().push(step))).unwrap();
    let seen = seen.into_inner().unwrap();
    for stage in [Stage::Index, Stage::Resolve, Stage::Download, Stage::Unpack] {
        assert!(seen.iter().any(|step| step.stage == stage), "{stage:?}");
    }
    assert!(seen.iter().all(|step| step.current <= step.total), "{seen:?}");
    let last = seen.iter().rfind(|step| step.stage == Stage::Download).unwrap();
    assert_eq!(last.current, last.total);
}

/// All sources of an error in one text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += ": ";
        text += &error.to_string();
        next = error.source();
    }
    text
}

/// Changes the mirror or the request and expects an error with these words, and nothing half-made.
fn check_refused(change: impl FnOnce(&mut TestMirror, &mut Bootstrap), expected: &str) {
    let (mut mirror, folder) = (mirror(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    let cache = folder.path().join("cache");
    let mut request = request(&mirror, "", &cache);
    change(&mut mirror, &mut request);
    let error = chain(&run(&store, &request).unwrap_err());
    assert!(error.contains(expected), "{error}");
    assert!(has_no_leftovers(&cache));
}

/// Changes one file of the mirror.
fn edit(mirror: &TestMirror, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(mirror.path(path)).unwrap();
    change(&mut bytes);
    std::fs::write(mirror.path(path), bytes).unwrap();
}

#[test]
fn refuses_bad_requests() {
    check_refused(|_, request| request.arch = Some("vax".to_owned()), "no architecture \"vax\"");
    check_refused(|_, request| request.suite = "../x".to_owned(), "not the name of a suite");
    check_refused(|_, request| request.suite = "woody".to_owned(), "has no suite woody");
    check_refused(|_, request| request.include = vec!["busibox-static".to_owned()], "did you mean busybox-static?");
    check_refused(|_, request| request.include = vec!["../x".to_owned()], "not the name of a package");
    check_refused(|_, request| request.include = vec!["loner".to_owned()], "package loner needs missing");
    check_refused(|_, request| request.mirror = Some("gopher://x".to_owned()), "is not an http://");
    check_refused(|_, request| request.mirror = Some("file:///nowhere/at/all".to_owned()), "has no suite trixie");
    check_refused(
        |_, request| request.mirror = Some("http://127.0.0.1:9/debian".to_owned()),
        "cannot read http://127.0.0.1:9",
    );
    check_refused(|_, request| request.keyring = Some("/nowhere.gpg".into()), "apt-get install debian-archive-keyring");
    let foreign = if std::env::consts::ARCH == "riscv64" { "amd64" } else { "riscv64" };
    check_refused(
        |_, request| (request.variant, request.arch) = (Variant::Apt, Some(foreign.to_owned())),
        "for this host's architecture",
    );
    check_refused(
        |_, request| (request.suite, request.arch) = ("bookworm".to_owned(), Some("riscv64".to_owned())),
        "suite bookworm has no packages for riscv64 (it has amd64): choose a suite that has it: trixie",
    );
    check_refused(|_, request| request.arch = Some("s390x".to_owned()), "no other suite of this mirror has it");
}

#[test]
fn refuses_bad_mirrors() {
    let index = "dists/trixie/main/binary-amd64/Packages.gz";
    let package = "pool/busybox-static.deb";
    check_refused(|mirror, _| edit(mirror, index, |bytes| bytes[30] ^= 1), "is signed for");
    check_refused(|mirror, _| edit(mirror, index, |bytes| bytes.truncate(40)), "has 40 bytes where");
    check_refused(|mirror, _| edit(mirror, index, |bytes| bytes.push(0)), "bytes where");
    check_refused(|mirror, _| std::fs::remove_file(mirror.path(index)).unwrap(), "the mirror has no");
    check_refused(|mirror, _| edit(mirror, package, |bytes| bytes[100] ^= 1), "is signed for");
    check_refused(|mirror, _| edit(mirror, package, |bytes| bytes.truncate(100)), "has 100 bytes where");
    check_refused(|mirror, _| std::fs::remove_file(mirror.path(package)).unwrap(), "the mirror has no");
    let inrelease = "dists/trixie/InRelease";
    let text = |mirror: &TestMirror| std::fs::read_to_string(mirror.path(inrelease)).unwrap();
    check_refused(
        |mirror, _| std::fs::write(mirror.path(inrelease), text(mirror).replacen("amd64", "amd65", 1)).unwrap(),
        "has a bad signature",
    );
    check_refused(
        |mirror, _| std::fs::write(mirror.path(inrelease), "<html>login</html>").unwrap(),
        "not a cleartext-signed file",
    );
    check_refused(
        |mirror, _| std::fs::copy(mirror.path("dists/bookworm/InRelease"), mirror.path(inrelease)).map(drop).unwrap(),
        "asked the mirror for trixie, but its Release file is of bookworm-alias",
    );
    check_refused(
        |mirror, _| {
            mirror.publish("trixie", "amd64", |text| {
                text.replace("Components:", "Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nComponents:")
            });
        },
        "was valid until Sat, 18 Jul 2026",
    );
    check_refused(|mirror, _| mirror.publish("trixie", "amd64", |text| text.replace("2026", "2096")), "set the clock");
    check_refused(
        |mirror, _| std::fs::write(mirror.path("keyring.gpg"), support::Signer::new(2).keyring()).unwrap(),
        "none of which is in keyring",
    );
}

#[test]
fn refuses_hostile_packages() {
    let hostile: [(&[Item<'_>], &str); 5] = [
        (&[Item::File("./../../etc/shadow", 0o644, b"x")], "is not allowed"),
        (&[Item::File("./etc", 0o644, b"x")], "is a folder already"),
        (&[Item::Link("./a", "b"), Item::Link("./b", "a"), Item::File("./a/x", 0o644, b"x")], "no folder"),
        (&[Item::File("./file", 0o644, b""), Item::File("./file/x", 0o644, b"x")], "no folder"),
        (&[Item::Hard("./usr/bin/x", "./usr/bin/none")], "which is no file of its package"),
    ];
    for (data, expected) in hostile {
        check_refused(
            |mirror, request| {
                mirror.add("evil", "", &[], data);
                mirror.publish("trixie", "amd64", |text| text);
                request.include = vec!["evil".to_owned()];
            },
            expected,
        );
    }
    check_refused(
        |mirror, request| {
            // The index calls the package otherwise than the package calls itself.
            mirror.add("honest", "", &[], &[]);
            let bytes = std::fs::read(mirror.path("pool/honest.deb")).unwrap();
            mirror.add("tricky", "", &[], &[]);
            mirror.replace("tricky", &bytes);
            mirror.publish("trixie", "amd64", |text| text);
            request.include = vec!["tricky".to_owned()];
        },
        "calls itself honest 1.0",
    );
    check_refused(
        |mirror, request| {
            mirror.add("noise", "", &[], &[]);
            mirror.replace("noise", b"not a package");
            mirror.publish("trixie", "amd64", |text| text);
            request.include = vec!["noise".to_owned()];
        },
        "not a Debian package: it has no ar header",
    );
}
