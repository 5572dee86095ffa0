//! Bootstraps from a real mirror: `ATOLL_TEST_MIRROR`, else Debian's own if it answers.
//!
//! `ATOLL_TEST_APT=1` also configures an `apt` image in a chroot (root only, about a minute).

#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atoll_debian::{Bootstrap, Error, Outcome, Variant, bootstrap, mirror, signature, sources, suite};
use atoll_oci::{Manifest, Parsed, parse_any};
use atoll_store::Store;

use super::store;

/// The mirror, or `None` with the reason printed.
async fn answering_mirror() -> Option<String> {
    let named = std::env::var("ATOLL_TEST_MIRROR").ok();
    let address = named.clone().unwrap_or_else(|| sources::FALLBACK_MIRROR.to_owned());
    if !Path::new(signature::DEFAULT_KEYRING).exists() {
        println!("skipped: there is no {}", signature::DEFAULT_KEYRING);
        return None;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let answers = client
        .head(format!("{address}/dists/trixie/InRelease"))
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success());
    if !answers && named.is_none() {
        println!("skipped: {address} does not answer");
        return None;
    }
    assert!(answers, "ATOLL_TEST_MIRROR={address} does not answer");
    Some(address)
}

fn request(suite: &str, arch: Option<&str>, variant: Variant, (mirror, folder): (&str, &Path)) -> Bootstrap {
    Bootstrap {
        suite: suite.to_owned(),
        arch: arch.map(str::to_owned),
        include: Vec::new(),
        variant,
        mirror: Some(mirror.to_owned()),
        keyring: None,
        cache: folder.join("cache"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minimal_images_of_real_suites() {
    let Some(mirror) = answering_mirror().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut digests = HashMap::new();
    for (suite, arch) in [("bookworm", "amd64"), ("trixie", "riscv64"), ("trixie", "arm64"), ("bookworm", "amd64")] {
        let request = request(suite, Some(arch), Variant::Minimal, (&mirror, folder.path()));
        let outcome = bootstrap(&store, &request, &|_| {}).await;
        if (suite, arch) == ("trixie", "riscv64")
            && let Err(Error::Suite(suite::Error::Mirror(error @ mirror::Error::Size { .. }))) = &outcome
        {
            println!("skipped: {suite} {arch}: this mirror contradicts its own signed file: {error}");
            continue;
        }
        let Outcome::Image(built) = outcome.unwrap() else { panic!("a stage") };
        let bytes = store.read(&built.manifest.digest, 1 << 20).unwrap();
        let Parsed::Manifest(Manifest { layers, .. }) = parse_any(&bytes, None).unwrap() else { panic!("an index") };
        let path = folder.path().join("layer.tar");
        std::fs::write(&path, store.read(&layers[0].digest, 1 << 28).unwrap()).unwrap();
        let listing = Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        for words in
            ["usr/bin/sh -> busybox", "usr/bin/[ -> busybox", "usr/bin/busybox", "etc/passwd", "bin -> usr/bin"]
        {
            assert!(listing.contains(words), "{suite} {arch} lacks {words}: {listing}");
        }
        let applets = listing.lines().filter(|line| line.ends_with("-> busybox")).count();
        assert!(applets > 200, "{suite} {arch} has {applets} applets");
        let same = digests.insert((suite, arch), built.manifest.digest.clone());
        assert!(same.is_none_or(|digest| digest == built.manifest.digest), "{suite} {arch} differs the second time");
    }
    let wrong = request("bookworm", Some("riscv64"), Variant::Minimal, (&mirror, folder.path()));
    let error = bootstrap(&store, &wrong, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("trixie"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apt_image_configures_in_a_chroot() {
    if std::env::var_os("ATOLL_TEST_APT").is_none() {
        println!("skipped: set ATOLL_TEST_APT=1 to configure a whole image in a chroot (as root)");
        return;
    }
    let Some(mirror) = answering_mirror().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for suite in ["bookworm", "trixie"] {
        let request = request(suite, None, Variant::Apt, (&mirror, folder.path()));
        let Outcome::Staged(staged) = bootstrap(&store, &request, &|_| {}).await.unwrap() else { panic!("an image") };
        let listings: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|turn| configure(&folder.path().join(format!("{suite}-{turn}")), &store, &staged))
            .collect();
        assert!(listings[0].contains("etc/passwd"));
        assert_eq!(listings[0], listings[1], "{suite} configures differently the second time");
    }
}

/// Unpacks the layer, runs the script over it, and gives the hashes of all files.
fn configure(root: &Path, store: &Store, staged: &atoll_debian::Staged) -> String {
    std::fs::create_dir_all(root).unwrap();
    let layer = root.with_extension("tar");
    std::fs::write(&layer, store.read(&staged.layer.blob.as_ref().unwrap().digest, 1 << 30).unwrap()).unwrap();
    assert!(
        Command::new("tar")
            .arg("-xpf")
            .arg(&layer)
            .arg("--numeric-owner")
            .arg("-C")
            .arg(root)
            .status()
            .unwrap()
            .success()
    );
    let inside = "mount -t proc proc \"$1/proc\" && mount -t tmpfs tmpfs \"$1/dev\" && mknod -m 666 \"$1/dev/null\" c 1 3 && \
                  mknod -m 666 \"$1/dev/urandom\" c 1 9 && exec chroot \"$1\" /bin/sh -c \"$2\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "/bin/sh", "-c", inside, "sh"])
        .arg(root)
        .arg(staged.script);
    command.env_clear().envs(staged.environment.iter().filter_map(|pair| pair.split_once('=')));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let list =
        "find . -xdev -type f -print0 | sort -z | xargs -0 sha256sum; find . -xdev -printf '%p %M %u %g %l\\n' | sort";
    let output = Command::new("/bin/sh").args(["-c", list]).current_dir(root).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
