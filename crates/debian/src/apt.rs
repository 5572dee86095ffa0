//! The `apt` variant: Debian's essential and required packages with apt, in the state that dpkg calls *unpacked*.
//!
//! Stage one writes every package's files and dpkg's own database (status, lists, control files, trigger interests, new
//! configuration files as `.dpkg-new`) exactly as if dpkg had unpacked them, without running anything. Then the engine runs
//! [`script`] in a container over that layer: it runs the pre-installation scripts and `dpkg --configure -a`, and removes
//! what differs from run to run. The two layers make the image, so each file is in it once.
//! Left out: architectures other than the host's (the container must run), Recommends, and packages from `-updates` and
//! `-security` (they are configured as sources).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::arch::Arch;
use crate::control::Paragraph;
use crate::image::PATH;
use crate::packages::Package;
use crate::release::Release;
use crate::tree::{self, Meta, Tree};
use crate::unpack::{self, Unpacked};
use crate::{Progress, base, minimal, sources};

/// dpkg's database below the root.
const ADMIN: &str = "var/lib/dpkg";

/// Why stage one could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package failed.
    #[error(transparent)]
    Unpack(#[from] unpack::Error),
    /// Our own additions failed.
    #[error("the base files cannot be placed")]
    Base(#[from] tree::Error),
}

/// Fills the tree of stage one. `mirror` becomes apt's source.
pub fn build(
    tree: &mut Tree,
    (arch, release, mirror): (Arch, &Release, &str),
    debs: &[(Package, PathBuf)],
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Error> {
    base::skeleton(tree, arch, release)?;
    let all = minimal::unpack_all(tree, debs, progress)?;
    write_database(tree, &all, release.date)?;
    for path in ["tmp", "var/tmp"] {
        tree.set_folder(path, Meta::root(0o1777, release.date))?;
    }
    // Scripts need an awk before the one that is chosen is configured (as in debootstrap).
    if tree.get("usr/bin/awk").is_none() && tree.get("usr/bin/mawk").is_some() {
        tree.link(b"usr/bin/awk", Meta::root(0o777, release.date), b"mawk")?;
    }
    write_settings(tree, release, mirror)?;
    Ok(())
}

/// Writes `/var/lib/dpkg`.
fn write_database(tree: &mut Tree, all: &[Unpacked], time: i64) -> Result<(), tree::Error> {
    let meta = Meta::root(0o644, time);
    for folder in ["alternatives", "info", "parts", "triggers", "updates"] {
        tree.folder(format!("{ADMIN}/{folder}").as_bytes(), Meta::root(0o755, time))?;
    }
    let mut status = String::new();
    let mut file_triggers = String::new();
    let mut triggers: BTreeMap<String, String> = BTreeMap::new();
    for unpacked in all {
        let control = control_text(unpacked, "control");
        let paragraph = Paragraph::new(&control);
        let name = &unpacked.package.name;
        let is_same = paragraph.get("Multi-Arch") == Some("same");
        let stem = if is_same { format!("{name}:{}", unpacked.package.architecture) } else { name.clone() };
        let conffiles = conffiles(&control_text(unpacked, "conffiles"));
        status += &status_stanza(paragraph, &conffiles);
        for path in &conffiles {
            tree.copy(path, &format!("{path}.dpkg-new"))?;
        }
        tree.write(&format!("{ADMIN}/info/{stem}.list"), meta, unpacked.paths.join("\n") + "\n")?;
        for (file, (mode, bytes)) in unpacked.control.iter().filter(|(file, _)| *file != "control") {
            let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            tree.write(&format!("{ADMIN}/info/{stem}.{file}"), Meta::root(mode, time), bytes)?;
        }
        for (interest, is_awaited) in interests(&control_text(unpacked, "triggers")) {
            let who = if is_awaited { stem.clone() } else { format!("{stem}/noawait") };
            if interest.starts_with('/') {
                file_triggers += &format!("{interest} {who}\n");
            } else if crate::suite::is_suite_name(&interest.replace([':', '+'], "-")) {
                *triggers.entry(interest).or_default() += &format!("{who}\n");
            }
        }
    }
    tree.write(&format!("{ADMIN}/status"), meta, status)?;
    tree.write(&format!("{ADMIN}/available"), meta, "")?;
    tree.write(&format!("{ADMIN}/info/format"), meta, "1\n")?;
    tree.write(&format!("{ADMIN}/triggers/File"), meta, file_triggers)?;
    for (name, interested) in triggers {
        tree.write(&format!("{ADMIN}/triggers/{name}"), meta, interested)?;
    }
    Ok(())
}

fn control_text(unpacked: &Unpacked, file: &str) -> String {
    unpacked.control.get(file).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// The paths in a `conffiles` file, without those that only ask for a removal.
fn conffiles(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(str::to_owned).collect()
}

/// One package in dpkg's status file, unpacked and not yet configured.
fn status_stanza(control: Paragraph<'_>, conffiles: &[String]) -> String {
    let mut text = String::new();
    for (field, value) in control.fields() {
        if field.eq_ignore_ascii_case("Status") || field.eq_ignore_ascii_case("Conffiles") {
            continue;
        }
        text += &format!("{field}: {value}\n");
        if field == "Package" {
            text += "Status: install ok unpacked\n";
        }
    }
    if !conffiles.is_empty() {
        text += "Conffiles:\n";
        for path in conffiles {
            text += &format!(" {path} newconffile\n");
        }
    }
    text + "\n"
}

/// The triggers that a package is interested in, and whether the one who pulls them waits (deb-triggers(5)).
fn interests(text: &str) -> Vec<(String, bool)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let is_awaited = match words.next()? {
                "interest" | "interest-await" => true,
                "interest-noawait" => false,
                _ => return None,
            };
            Some((words.next()?.to_owned(), is_awaited))
        })
        .collect()
}

/// apt's source and the settings that images of Debian usually carry.
fn write_settings(tree: &mut Tree, release: &Release, mirror: &str) -> Result<(), tree::Error> {
    let meta = Meta::root(0o644, release.date);
    let conf = |name| format!("etc/apt/apt.conf.d/docker-{name}");
    let removal =
        "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true";
    tree.write("etc/apt/sources.list.d/debian.sources", meta, apt_sources(release, mirror))?;
    tree.write(
        &conf("clean"),
        meta,
        format!(
            "// Downloaded packages and apt's caches would only fill the layer.\nDPkg::Post-Invoke {{ \"{removal}\"; }};\n\
             APT::Update::Post-Invoke {{ \"{removal}\"; }};\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n"
        ),
    )?;
    tree.write(
        &conf("no-languages"),
        meta,
        "// Translated descriptions are seldom read in containers.\nAcquire::Languages \"none\";\n",
    )?;
    tree.write(
        &conf("gzip-indexes"),
        meta,
        "// Package indices stay compressed on disk.\nAcquire::GzipIndexes \"true\";\n",
    )?;
    tree.write(
        &conf("autoremove-suggests"),
        meta,
        "// What is only suggested does not keep a package from autoremove.\nApt::AutoRemove::SuggestsImportant \"false\";\n",
    )?;
    tree.write("etc/dpkg/dpkg.cfg.d/docker-apt-speedup", meta, "force-unsafe-io\n")?;
    let refusal = "#!/bin/sh\n# No service starts while an image is made.\nexit 101\n";
    tree.write("usr/sbin/policy-rc.d", Meta::root(0o755, release.date), refusal)?;
    tree.write("etc/machine-id", meta, "")
}

/// The deb822 sources of the suite; Debian's own mirror also has updates and security fixes.
fn apt_sources(release: &Release, mirror: &str) -> String {
    let keyring = crate::signature::DEFAULT_KEYRING;
    let (name, is_debian) = (&release.codename, mirror == sources::FALLBACK_MIRROR);
    let is_released = release.version.is_some();
    let suites = if is_debian && is_released { format!("{name} {name}-updates") } else { name.clone() };
    let mut text = format!("Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: main\nSigned-By: {keyring}\n");
    if is_debian && is_released {
        text += &format!(
            "\nTypes: deb\nURIs: http://deb.debian.org/debian-security\nSuites: {name}-security\nComponents: main\nSigned-By: {keyring}\n"
        );
    }
    text
}

/// The environment of the script.
pub fn environment(release: &Release) -> Vec<String> {
    [
        format!("PATH={PATH}"),
        "HOME=/root".to_owned(),
        "LC_ALL=C.UTF-8".to_owned(),
        "DEBIAN_FRONTEND=noninteractive".to_owned(),
        "DEBCONF_NONINTERACTIVE_SEEN=true".to_owned(),
        format!("SOURCE_DATE_EPOCH={}", release.date),
    ]
    .into()
}

/// The `/bin/sh` script that turns unpacked packages into installed ones. It needs root in the container, `/proc`, a
/// minimal `/dev`, no network, and gives 0 only if every package was configured.
pub const SCRIPT: &str = r#"set -eu
umask 022
admin=/var/lib/dpkg
version=$(dpkg-query -W -f '${Version}' dpkg)
run_preinst() {
    script=$1
    name=${script##*/}
    name=${name%.preinst}
    package=${name%%:*}
    arch=$(dpkg-query -W -f '${Architecture}' "$name")
    DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_ARCH=$arch \
    DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_RUNNING_VERSION=$version DPKG_ADMINDIR=$admin DPKG_ROOT= \
        "$script" install
}
first=$admin/info/base-passwd.preinst
if [ -x "$first" ]; then run_preinst "$first"; fi
dpkg --force-depends --configure base-passwd
for script in "$admin"/info/*.preinst; do
    if [ -x "$script" ] && [ "$script" != "$first" ]; then run_preinst "$script"; fi
done
dpkg --configure -a
unfinished=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | grep -v '^ii ' || true)
if [ -n "$unfinished" ]; then
    echo "packages left unconfigured: $unfinished" >&2
    exit 1
fi
find /var/log -type f -delete
find /var/cache/ldconfig -type f -delete 2>/dev/null || true
rm -f "$admin"/*-old "$admin"/lock "$admin"/lock-frontend "$admin"/triggers/Lock /var/cache/debconf/*-old
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
rm -f /var/lib/systemd/random-seed /root/.rnd
: > /etc/machine-id
for folder in /tmp /var/tmp; do find "$folder" -mindepth 1 -delete; done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_status() {
        let control = Paragraph::new("Package: aa\nVersion: 1\nDescription: short\n long\n .\n more");
        assert_eq!(
            status_stanza(control, &["/etc/x".to_owned()]),
            "Package: aa\nStatus: install ok unpacked\nVersion: 1\nDescription: short\n long\n .\n more\nConffiles:\n /etc/x newconffile\n\n"
        );
    }

    #[test]
    fn reads_conffiles_and_triggers() {
        assert_eq!(conffiles("/etc/a\n/etc/b c \nremove-on-upgrade /etc/d\n"), ["/etc/a", "/etc/b c"]);
        let text = "# x\ninterest /usr/lib # y\ninterest-noawait ldconfig\nactivate-noawait ldconfig\ninterest\n";
        assert_eq!(interests(text), [("/usr/lib".to_owned(), true), ("ldconfig".to_owned(), false)]);
    }
}
