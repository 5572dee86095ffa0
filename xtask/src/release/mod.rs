//! `release`: what is given to users, made of the programs that lie beside this one: a Debian package and a plain archive.
//!
//! Both have the same files below a prefix of their own ([`tree`]), `/usr` and `/usr/local`; the package adds a configuration
//! and scripts ([`deb`]). The same programs make the same bytes: entries are sorted, root's, and dated `SOURCE_DATE_EPOCH`, or
//! as the last commit. Signatures and repositories are left out.

mod deb;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use tree::Tree;

/// The version of everything in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Programs that find each other because they lie side by side.
const PROGRAMS: [&str; 4] = ["atoll", "atoll-runtime", "atoll-shim", "atolld"];
/// What people read, below the repository's root.
const DOCUMENTS: [&str; 5] =
    ["README.md", "docs/ARCHITECTURE.md", "docs/BENCHMARKS.md", "docs/COMPATIBILITY.md", "docs/CONFIGURATION.md"];

/// Writes both into `out`.
pub(crate) fn run(root: &Path, out: &Path, revision: u32) -> Result<()> {
    let time = time(root)?;
    let own = std::env::current_exe()?;
    let programs = programs(own.parent().context("this program lies in a folder")?)?;
    std::fs::create_dir_all(out)?;

    let mut archive = common(root, &programs, "/usr/local")?;
    archive.file("share/doc/atoll/config.toml", 0o644, include_bytes!("files/config.toml"));
    let name = format!("atoll-{VERSION}-{}-linux.tar.gz", std::env::consts::ARCH);
    write(&out.join(name), &archive.gzip(time, "")?)?;

    let package = deb::package(common(root, &programs, "/usr")?, revision)?;
    let name = format!("atoll_{}_{}.deb", package.version, package.architecture);
    write(&out.join(name), &package.bytes(time)?)
}

/// The files that both have, below `prefix`.
fn common(root: &Path, programs: &[(&str, Vec<u8>)], prefix: &str) -> Result<Tree> {
    let mut tree = Tree::default();
    for (name, content) in programs {
        tree.file(format!("bin/{name}"), 0o755, content.as_slice());
    }
    let service = include_str!("files/atoll.service").replace("@BIN@", &format!("{prefix}/bin"));
    let service = service.replace("/usr/share/doc", &format!("{prefix}/share/doc"));
    tree.file("lib/systemd/system/atoll.service", 0o644, service);
    tree.file("lib/systemd/system/atoll.socket", 0o644, include_bytes!("files/atoll.socket"));
    tree.file("lib/systemd/system/atoll-docker.socket", 0o644, include_bytes!("files/atoll-docker.socket"));
    for document in DOCUMENTS {
        let content = std::fs::read(root.join(document)).with_context(|| format!("reading {document}"))?;
        let name = document.rsplit('/').next().unwrap_or(document);
        tree.file(format!("share/doc/atoll/{name}"), 0o644, content);
    }
    let copyright = std::fs::read(root.join("LICENSE")).context("reading LICENSE")?;
    tree.file("share/doc/atoll/copyright", 0o644, copyright);
    Ok(tree)
}

/// The built programs, which must be of this version.
fn programs(folder: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let read = |name: &'static str| {
        let path = folder.join(name);
        let missing = || format!("{} is not built: cargo build --release --workspace --bins", path.display());
        let said = Command::new(&path).arg("--version").output().with_context(missing)?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(
            said.split_whitespace().any(|word| word == VERSION),
            "{} is not of version {VERSION} but says {said:?}: build it again",
            path.display()
        );
        Ok((name, std::fs::read(&path)?))
    };
    PROGRAMS.into_iter().map(read).collect()
}

/// The time of everything in an archive, in seconds since 1970.
fn time(root: &Path) -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH: {text:?} are no seconds since 1970"));
    }
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root).output();
    let output = output.context("asking git for the time of the last commit; SOURCE_DATE_EPOCH takes its place")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().context("git knows no last commit: set SOURCE_DATE_EPOCH")
}

fn write(path: &PathBuf, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    println!("{} ({} KiB)", path.display(), bytes.len() >> 10);
    Ok(())
}
