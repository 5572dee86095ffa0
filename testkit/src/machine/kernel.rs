//! Debian's cloud kernels and their modules.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{only, run};

/// Downloads and unpacks the newest cloud kernel of a series ("6.12") from the host's package sources, unless `cache` has one.
pub(super) fn kernel(cache: &Path, series: &str) -> io::Result<PathBuf> {
    let unpacked = cache.join(format!("kernel-{series}"));
    if unpacked.join("boot").is_dir() {
        return Ok(unpacked);
    }
    let partial = cache.join(format!("kernel-{series}.new"));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    let name = format!(r"^linux-image-{}\..*-cloud-amd64$", series.replace('.', r"\."));
    let found = run(Command::new("apt-cache").args(["search", "--names-only", &name]))?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let package = found.lines().filter_map(|line| line.split(' ').next()).max();
    let package = package.ok_or_else(|| io::Error::other(format!("no package source has a {series} cloud kernel")))?;
    run(Command::new("apt-get").args(["download", "-q", package]).current_dir(&partial))?;
    let deb = only(&partial, "linux-image")?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
    fs::remove_file(deb)?;
    fs::rename(&partial, &unpacked)?;
    Ok(unpacked)
}

/// The files of a kernel's modules below `folder` that `names` need, each after what it depends on.
pub(super) fn modules(folder: &Path, names: &[&str]) -> io::Result<Vec<PathBuf>> {
    let found = run(Command::new("find").arg(folder).args(["-name", "*.ko*"]))?;
    let files: Vec<PathBuf> = String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect();
    let mut ordered = Vec::new();
    for name in names {
        add_module(&files, name, &mut ordered)?;
    }
    Ok(ordered)
}

fn add_module(files: &[PathBuf], name: &str, ordered: &mut Vec<PathBuf>) -> io::Result<()> {
    let called = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.split('.').next().is_some_and(|file| file.replace('-', "_") == name.replace('-', "_"))
    };
    let file = files.iter().find(called).ok_or_else(|| io::Error::other(format!("the kernel has no module {name}")))?;
    if ordered.contains(file) {
        return Ok(());
    }
    // modinfo(8)'s "depends": a string of the file, names with commas between them.
    let bytes = plain_module(file)?;
    let key = b"\0depends=";
    let at = bytes.windows(key.len()).position(|window| window == key).map_or(bytes.len(), |at| at + key.len());
    let depends = bytes[at..].split(|byte| *byte == 0).next().unwrap_or_default();
    for other in String::from_utf8_lossy(depends).split(',').filter(|other| !other.is_empty()) {
        add_module(files, other, ordered)?;
    }
    ordered.push(file.clone());
    Ok(())
}

/// A module's content; some kernels' are compressed.
pub(super) fn plain_module(file: &Path) -> io::Result<Vec<u8>> {
    match file.extension() {
        Some(kind) if kind == "xz" => Ok(run(Command::new("xz").arg("-dc").arg(file))?.stdout),
        _ => fs::read(file),
    }
}
