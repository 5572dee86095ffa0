//! The Debian package (deb(5), format 2.0): an `ar` archive of a version, control files and files.
//!
//! Scripts of the package ([`SCRIPTS`]) are written for `sh` and systemctl alone. Checksums of files are left out: they
//! would be MD5.

use anyhow::{Result, bail};

use super::{Tree, VERSION};

/// Debian's names of its scripts, and what they are.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("files/postinst")),
    ("postrm", include_str!("files/postrm")),
    ("prerm", include_str!("files/prerm")),
];
/// The configuration, which is the administrator's as soon as it is there.
const CONFIGURATION: &str = "etc/atoll/config.toml";

/// A package that can be written.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) version: String,
    pub(super) architecture: &'static str,
    control: Tree,
    data: Tree,
}

/// The package of files that lie below `/usr`.
pub(super) fn package(files: Tree, revision: u32) -> Result<Package> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no Debian architecture is known for {other}"),
    };
    let version = format!("{VERSION}-{revision}");
    let mut data = files.below("usr");
    data.file(CONFIGURATION, 0o644, include_bytes!("files/config.toml"));
    let about = include_str!("files/control")
        .replace("@VERSION@", &version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@KIB@", &data.bytes().div_ceil(1024).to_string());
    let mut control = Tree::default();
    control.file("control", 0o644, about);
    control.file("conffiles", 0o644, format!("/{CONFIGURATION}\n"));
    for (name, script) in SCRIPTS {
        control.file(name, 0o755, script);
    }
    Ok(Package { version, architecture, control, data })
}

impl Package {
    pub(super) fn bytes(&self, time: u64) -> Result<Vec<u8>> {
        let mut out = b"!<arch>\n".to_vec();
        member(&mut out, "debian-binary", time, b"2.0\n");
        member(&mut out, "control.tar.gz", time, &self.control.gzip(time, "./")?);
        member(&mut out, "data.tar.gz", time, &self.data.gzip(time, "./")?);
        Ok(out)
    }
}

/// Adds a member to an `ar` archive: a header of 60 bytes, the content, a byte more where its length is odd.
fn member(out: &mut Vec<u8>, name: &str, time: u64, content: &[u8]) {
    let header = format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    if !content.len().is_multiple_of(2) {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn small(revision: u32) -> Vec<u8> {
        let mut files = Tree::default();
        files.file("bin/atoll", 0o755, "a program");
        package(files, revision).expect("a package").bytes(1_577_836_800).expect("bytes")
    }

    #[test]
    fn dpkg_reads_what_is_written() {
        let folder = atoll_testkit::tempdir();
        let path = folder.path().join("atoll.deb");
        std::fs::write(&path, small(3)).expect("written");
        let ask = |arguments: &[&str]| {
            let output = Command::new("dpkg-deb").args(arguments).env("TZ", "UTC").output().expect("dpkg-deb runs");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        if Command::new("dpkg-deb").arg("--version").output().is_err() {
            return println!("skipped: needs dpkg-deb");
        }
        let path = path.to_str().expect("a path");
        assert_eq!(ask(&["--field", path, "Version"]).trim(), format!("{VERSION}-3"));
        let contents = ask(&["--contents", path]);
        let lines = [
            "drwxr-xr-x 0/0               0 2020-01-01 00:00 ./usr/bin/",
            "-rwxr-xr-x 0/0               9 2020-01-01 00:00 ./usr/bin/atoll",
        ];
        assert!(lines.iter().all(|line| contents.contains(line)), "{contents}");
        let into = folder.path().join("control");
        ask(&["--control", path, into.to_str().expect("a path")]);
        for (name, _) in SCRIPTS {
            let checked = Command::new("sh").arg("-n").arg(into.join(name)).status().expect("sh runs");
            assert!(checked.success(), "{name}");
        }
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        assert_eq!(small(1), small(1));
        assert_ne!(small(1), small(2));
    }
}
