//! The Docker SDKs that people program with, unmodified, against `atolld`: an afternoon's work with each.
//!
//! `afternoon.py` is for the SDK for Python (PyPI `docker`), `afternoon.js` for dockerode (npm), `afternoon.rs` for bollard
//! (crates.io). They run against dockerd as well: they know nothing of Atoll. The packages are installed once, below the
//! build's `target` folder.

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::IMAGE;

/// The SDK for Python, and what it is installed with.
const PYTHON: &str = "docker==7.2.0";
/// dockerode.
const NODE: &str = "dockerode@5.0.1";
/// Seconds that an afternoon may take.
const LIMIT_S: &str = "300";

/// The folder of the SDKs.
fn cache() -> PathBuf {
    atoll_testkit::program("atoll").with_file_name("sdk")
}

/// Whether a command ends well; says what it said where not.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn works(command: &mut Command) -> bool {
    let output = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: {command:?}: {output}");
    false
}

/// Installs into a folder that appears only when all of it is there.
fn install(folder: &Path, fill: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    if !folder.is_dir() {
        std::fs::create_dir_all(folder.parent()?).expect("a folder");
        let _ = std::fs::remove_dir_all(folder.with_extension("new"));
        if !fill(&folder.with_extension("new")) {
            return None;
        }
        std::fs::rename(folder.with_extension("new"), folder).expect("a folder");
    }
    Some(folder.to_owned())
}

/// Runs an afternoon to its end, and checks that every step of it ended well.
#[track_caller]
fn afternoon(mut command: Command, steps: usize) {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let well = said.lines().filter(|line| line.starts_with("ok ")).count();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && well == steps, "{well} of {steps} steps ended well\n{said}\n{errors}");
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

fn limited(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LIMIT_S]).arg(program);
    command
}

#[test]
fn an_afternoon_with_the_sdk_for_python() {
    let Some(host) = support::host() else { return };
    let fill =
        |folder: &Path| works(Command::new("python3").args(["-m", "pip", "install", "-q", PYTHON, "-t"]).arg(folder));
    let Some(packages) = install(&cache().join("python"), fill) else { return };
    let mut command = limited("python3");
    command.arg(script("afternoon.py")).args([&host.address(), IMAGE]).env("PYTHONPATH", packages);
    afternoon(command, 15);
}

#[test]
fn an_afternoon_with_dockerode() {
    let Some(host) = support::host() else { return };
    let fill = |folder: &Path| {
        works(Command::new("npm").args(["install", "--silent", "--ignore-scripts", NODE, "--prefix"]).arg(folder))
    };
    let Some(packages) = install(&cache().join("node"), fill) else { return };
    let mut command = limited("node");
    command.arg(script("afternoon.js")).arg(host.socket()).arg(IMAGE);
    command.env("NODE_PATH", packages.join("node_modules"));
    afternoon(command, 11);
}

#[test]
fn an_afternoon_with_bollard() {
    let Some(host) = support::empty_host() else { return };
    if !support::write_archive(&support::archive(&host)) {
        return;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/bollard/Cargo.toml");
    let cargo = |command: &mut Command, what: &str| {
        command.args([what, "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
        command.env("CARGO_TARGET_DIR", cache().join("bollard"));
    };
    let mut fetch = Command::new("cargo");
    cargo(&mut fetch, "fetch");
    if !works(&mut fetch) {
        return;
    }
    let mut command = limited("cargo");
    cargo(&mut command, "run");
    command.arg("--").arg(host.socket()).args([IMAGE, &support::archive(&host)]);
    afternoon(command, 9);
}
