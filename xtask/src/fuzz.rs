//! Fuzzing on stable Rust: libFuzzer targets built with LLVM's coverage pass, run from the kept corpus.
//!
//! Each target of `fuzz/Cargo.toml` is built once and then runs for the asked time on `fuzz/corpus/<target>`. New inputs
//! go to a folder below the target folder, so that a run leaves the kept corpus as it is. Left out: minimising.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What makes libFuzzer see coverage with a stable compiler.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    bin: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// Builds all targets and runs each, or only `only`, for `seconds`.
pub(crate) fn run(root: &Path, seconds: u32, only: Option<&str>) -> Result<()> {
    let fuzz = root.join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).context("there are no fuzz targets yet")?;
    let targets = chosen(&manifest, only)?;
    let build = Command::new("cargo")
        .args(["build", "--release"])
        .current_dir(&fuzz)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", fuzz.join("target"))
        .status()?;
    ensure!(build.success(), "the fuzz targets do not build");
    for target in targets {
        let program = ["x86_64-unknown-linux-gnu/release", "release"]
            .map(|folder| fuzz.join("target").join(folder).join(&target));
        let program = program.iter().find(|path| path.is_file()).with_context(|| format!("{target} was not built"))?;
        let fresh = fuzz.join("target/corpus").join(&target);
        let artifacts = fuzz.join("artifacts").join(&target);
        std::fs::create_dir_all(&fresh)?;
        std::fs::create_dir_all(&artifacts)?;
        println!("fuzz {target}: {seconds} s");
        let status = Command::new(program)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&fresh)
            .arg(fuzz.join("corpus").join(&target))
            .current_dir(&fuzz)
            .status()?;
        ensure!(status.success(), "fuzz target {target} failed: its input is under {}", artifacts.display());
    }
    Ok(())
}

/// The targets that `manifest` declares, or the one asked for.
fn chosen(manifest: &str, only: Option<&str>) -> Result<Vec<String>> {
    let manifest: Manifest = toml::from_str(manifest).context("fuzz/Cargo.toml does not parse")?;
    let names: Vec<String> = manifest.bin.into_iter().map(|target| target.name).collect();
    ensure!(!names.is_empty(), "fuzz/Cargo.toml declares no [[bin]]");
    let Some(only) = only else { return Ok(names) };
    ensure!(names.iter().any(|name| name == only), "no fuzz target {only:?}: there are {}", names.join(", "));
    Ok(vec![only.to_owned()])
}

#[cfg(test)]
#[test]
fn targets_come_from_the_manifest() {
    let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"a\"\npath = \"a.rs\"\n[[bin]]\nname = \"b\"\n";
    assert_eq!(chosen(manifest, None).expect("parses"), ["a", "b"]);
    assert_eq!(chosen(manifest, Some("b")).expect("there"), ["b"]);
    assert!(chosen(manifest, Some("c")).is_err());
    assert!(chosen("[package]\nname = \"fuzz\"\n", None).is_err());
}
