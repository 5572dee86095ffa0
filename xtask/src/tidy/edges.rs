//! Which crate may depend on which: the design's table of crates, as data.
//!
//! [`read`] asks `cargo metadata`, [`check`] is pure. A development dependency may also be `testkit`. The table is a
//! ratchet: an edge that honest code needs is added here and in the design in the same change; an edge upwards never is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Finding;

/// Crates by folder and what each may depend on.
pub(super) const TABLE: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("model", &["oci"]),
    ("api", &["oci", "model"]),
    ("wall", &["oci", "model"]),
    ("sys", &[]),
    ("store", &["oci", "sys"]),
    ("registry", &["oci", "store"]),
    ("debian", &["oci", "store"]),
    ("net", &["model", "sys"]),
    ("container", &["oci", "sys"]),
    ("wasm", &["oci", "model", "wall", "sys"]),
    ("vmm", &["sys"]),
    ("cpu-kvm", &["vmm", "sys"]),
    ("cpu-riscv", &["vmm", "sys"]),
    ("guest", &["oci", "wall", "sys"]),
    ("runtime", &["model", "oci", "wall", "store", "net", "container", "sys"]),
    ("shim", &["model", "oci", "wall", "container", "sys"]),
    ("netd", &["model", "wall", "net", "sys"]),
    ("machine", &["wall", "vmm", "cpu-kvm", "cpu-riscv", "container", "sys"]),
    ("build", &["oci", "model", "store", "registry", "sys"]),
    ("engine", &["oci", "model", "sys", "store", "registry", "debian", "net", "runtime"]),
    ("client", &["api", "model", "oci"]),
    ("cluster", &["model", "api"]),
    ("agent", &["client", "engine"]),
    ("ci", &["model", "api", "client"]),
    ("web", &["api"]),
    (
        "daemon",
        &[
            "oci", "model", "api", "wall", "sys", "store", "registry", "debian", "net", "build", "engine", "runtime",
            "client", "cluster", "agent", "ci", "web",
        ],
    ),
    // `cp` packs and unpacks archives here with the code that does it in containers.
    ("cli", &["api", "client", "model", "oci", "store"]),
    ("testkit", &[]),
    // Its benchmarks run on the temporary hosts and tiny images that tests have.
    // The benchmark of runtimes uses the default system call filter.
    // Releases are written by the store's writer of archives, which makes the same bytes of the same files.
    ("xtask", &["testkit", "container", "store", "sys"]),
];

/// One package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// Folder name, which is the crate's name in the design.
    pub(crate) folder: String,
    /// Folders of the workspace's crates it depends on, and whether only for tests.
    pub(crate) dependencies: Vec<(String, bool)>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    manifest_path: String,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Debug, Deserialize)]
struct MetadataDependency {
    path: Option<String>,
    kind: Option<String>,
}

/// The packages of the workspace at `root`.
pub(crate) fn read(root: &Path) -> Result<Vec<Package>> {
    let metadata = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new("cargo").args(metadata).current_dir(root).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let folder = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let package = |package: MetadataPackage| {
        let ours = |d: MetadataDependency| Some((folder(Path::new(&d.path?)), d.kind.as_deref() == Some("dev")));
        let manifest = Path::new(&package.manifest_path);
        Package {
            folder: folder(manifest.parent().unwrap_or(manifest)),
            dependencies: package.dependencies.into_iter().filter_map(ours).collect(),
        }
    };
    Ok(metadata.packages.into_iter().map(package).collect())
}

/// Edges and crates that the table does not have.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package.folder.as_str();
        let path = if matches!(name, "testkit" | "xtask") {
            format!("{name}/Cargo.toml")
        } else {
            format!("crates/{name}/Cargo.toml")
        };
        let mut find = |item: &str, text: String| {
            let item = item.to_owned();
            findings.push(Finding { path: path.clone(), line: 0, rule: "crate-edge", item, amount: 1, text });
        };
        let Some(allowed) = table.get(name) else {
            find(name, format!("crate {name} is not in the design's table: add it there and in xtask with its reason"));
            continue;
        };
        for (dependency, test_only) in &package.dependencies {
            let fine = allowed.contains(&dependency.as_str()) || (*test_only && dependency == "testkit");
            if !fine {
                find(dependency, format!("{name} may not depend on {dependency} (it may on: {})", allowed.join(", ")));
            }
        }
    }
    findings
}
