//! The escapes that others fell into, each tried for real on `atoll-runtime`: by a hostile image, a hostile neighbour that
//! shares a volume, a hostile running container, or a hostile user of the same host.
//!
//! Every test is named after what is attempted. Races run a bounded number of rounds against a second container that swaps
//! names as fast as it can. Cases of checkpoints, archives, registries and networks are tested where those are.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

#[path = "../common/mod.rs"]
mod common;

mod busy;
mod descriptors;
mod entering;
mod links;
mod program;
mod races;
mod records;
mod rights;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::*;
use serde_json::{Value, json};

/// The interpreter that attacks are written in: it makes any system call.
const PERL: &str = "/usr/bin/perl";

/// Binds `source` of the host at `destination`.
fn add_bind(bundle: &Bundle, source: &Path, destination: &str, mode: &str) {
    let bind = json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", mode]});
    bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(bind));
}

/// The host's perl inside; false (said aloud) where there is none.
fn add_perl(bundle: &Bundle) -> bool {
    if !Path::new(PERL).exists() {
        println!("skipped: needs {PERL} (apt-get install perl-base)");
        return false;
    }
    add_bind(bundle, Path::new("/usr"), "/usr", "ro");
    for name in ["lib", "lib64"] {
        symlink(format!("usr/{name}"), bundle.rootfs().join(name)).unwrap();
    }
    true
}

/// A bundle that runs a program of perl.
fn perl(program: &str) -> Option<Bundle> {
    perl_for(RUNTIME, program)
}

fn perl_for(runtime: &'static str, program: &str) -> Option<Bundle> {
    let bundle = bundle_for(runtime, "")?;
    bundle.edit(|spec| spec["process"]["args"] = json!([PERL, "-e", program]));
    add_perl(&bundle).then_some(bundle)
}

/// What `program` of perl prints in a container.
#[track_caller]
fn check_perl(program: &str, expected: &str, change: impl FnOnce(&Bundle)) {
    let Some(bundle) = perl(program) else { return };
    change(&bundle);
    assert_eq!(text(&bundle.run()).trim(), expected);
}

/// A folder beside the bundle's root.
fn folder(bundle: &Bundle, name: &str) -> PathBuf {
    let path = bundle.path().join(name);
    fs::create_dir(&path).unwrap();
    path
}

/// The container's first process, as the host numbers it.
fn pid(bundle: &Bundle) -> i64 {
    let state: Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
    state["pid"].as_i64().unwrap()
}

/// Waits until a detached container has written `word`.
#[track_caller]
fn wait_for_word(bundle: &Bundle, word: &str) {
    for _ in 0..2000 {
        if bundle.written().contains(word) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no {word:?} in {:?}", bundle.written());
}

/// Gives the process these capabilities and no others; none of them is inheritable.
fn set_capabilities(bundle: &Bundle, names: &[&str]) {
    bundle.edit(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": names, "effective": names, "permitted": names});
    });
}
