//! The helpers, held against readers that are not ours: GNU tar, coreutils.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Image, Layer, busybox_rootfs, host, tempdir};

fn sample() -> Image {
    let base = Layer::new()
        .folder("etc")
        .file("etc/name", 0o644, "one\n")
        .file("etc/old", 0o600, "x")
        .symlink("lib", "usr/lib");
    let top = Layer::new().file("run.sh", 0o755, "#!/bin/sh\n").hard_link("again.sh", "run.sh").whiteout("etc/old");
    Image::new().layer(base).layer(top).config("Cmd", vec!["/run.sh"]).config("Env", vec!["A=b"])
}

/// Unpacks `archive` with GNU tar, a reader that is not ours.
fn untar(archive: &[u8], into: &Path) {
    let file = into.join("archive.tar");
    std::fs::write(&file, archive).expect("written");
    let tar = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(into).output().expect("GNU tar runs");
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    assert!(tar.stderr.is_empty(), "{}", String::from_utf8_lossy(&tar.stderr));
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

#[test]
fn gnu_tar_reads_a_layer() {
    let dir = tempdir();
    untar(&sample().layers_for_test()[0].tar(), dir.path());
    assert_eq!(std::fs::read_to_string(dir.path().join("etc/name")).expect("there"), "one\n");
    assert_eq!(std::fs::read_link(dir.path().join("lib")).expect("there"), Path::new("usr/lib"));
}

#[test]
fn a_docker_archive_holds_what_its_manifest_names() {
    let dir = tempdir();
    untar(&sample().docker_archive("web:1"), dir.path());
    let manifest = &json(&dir.path().join("manifest.json"))[0];
    assert_eq!(manifest["RepoTags"][0], "web:1");
    let config = json(&dir.path().join(manifest["Config"].as_str().expect("a name")));
    assert_eq!(config["config"]["Cmd"][0], "/run.sh");
    let layers = manifest["Layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 2);
    for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().expect("a list")) {
        let bytes = std::fs::read(dir.path().join(layer.as_str().expect("a name"))).expect("there");
        assert_eq!(format!("sha256:{}", sha256sum(&bytes)), diff_id.as_str().expect("a digest"));
    }
}

#[test]
fn an_oci_layout_is_addressed_by_its_digests() {
    let dir = tempdir();
    untar(&sample().oci_layout("web:1"), dir.path());
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().expect("a digest").strip_prefix("sha256:").expect("sha256");
        let bytes = std::fs::read(dir.path().join("blobs/sha256").join(digest)).expect("there");
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().expect("a size"));
        assert_eq!(sha256sum(&bytes), digest);
        bytes
    };
    let index = json(&dir.path().join("index.json"));
    let manifest: serde_json::Value = serde_json::from_slice(&blob(&index["manifests"][0])).expect("JSON");
    let config: serde_json::Value = serde_json::from_slice(&blob(&manifest["config"])).expect("JSON");
    for (layer, diff_id) in [0, 1].map(|at| (&manifest["layers"][at], &config["rootfs"]["diff_ids"][at])) {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(blob(layer).as_slice()).read_to_end(&mut plain).expect("gzip");
        assert_eq!(format!("sha256:{}", sha256sum(&plain)), diff_id.as_str().expect("a digest"));
    }
    assert_eq!(sample().oci_layout("web:1"), sample().oci_layout("web:1"));
}

/// The digest by coreutils, which is not ours either.
fn sha256sum(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    let output = Command::new("sha256sum").arg(file.path()).output().expect("coreutils");
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

#[test]
fn a_busybox_root_runs() {
    let dir = tempdir();
    if !busybox_rootfs(dir.path()).expect("made") {
        return;
    }
    let output = Command::new(dir.path().join("bin/echo")).arg("hello").output().expect("runs");
    assert_eq!(output.stdout, b"hello\n");
    assert!(dir.path().join("etc/passwd").is_file());
}

#[test]
fn processes_are_found_by_their_folder() {
    let dir = tempdir();
    assert!(host::users_of(dir.path()).is_empty());
    let mut child =
        Command::new("sh").args(["-c", "read line"]).arg(dir.path()).stdin(Stdio::piped()).spawn().expect("runs");
    // The kernel lets the parent go on a moment before it shows the child's new arguments.
    let found = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        host::users_of(dir.path()) == [child.id()]
    });
    assert!(found);
    drop(child.stdin.take());
    child.wait().expect("ends");
}
