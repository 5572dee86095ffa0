//! What every image has beside its packages: the merged `/usr`, mount points, accounts.
//!
//! [`skeleton`] comes before the packages, so that their paths resolve through it; [`fill`] comes after them and adds only
//! what none of them brought. The accounts are Debian's global static ones (Debian Policy section 9.2.2).

use crate::arch::Arch;
use crate::release::Release;
use crate::tree::{self, Meta, Tree};

/// Folders with their modes that a Debian system has before any package beyond base-files.
const FOLDERS: [(&str, u32); 26] = [
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/local", 0o755),
    ("usr/local/bin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/share", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Name, number (user and group alike), home and shell of the accounts.
const ACCOUNTS: [(&str, u32, u32, &str, &str); 18] = [
    ("root", 0, 0, "/root", "/bin/sh"),
    ("daemon", 1, 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, 2, "/bin", "/usr/sbin/nologin"),
    ("sys", 3, 3, "/dev", "/usr/sbin/nologin"),
    ("sync", 4, 65534, "/bin", "/bin/sync"),
    ("games", 5, 60, "/usr/games", "/usr/sbin/nologin"),
    ("man", 6, 12, "/var/cache/man", "/usr/sbin/nologin"),
    ("lp", 7, 7, "/var/spool/lpd", "/usr/sbin/nologin"),
    ("mail", 8, 8, "/var/mail", "/usr/sbin/nologin"),
    ("news", 9, 9, "/var/spool/news", "/usr/sbin/nologin"),
    ("uucp", 10, 10, "/var/spool/uucp", "/usr/sbin/nologin"),
    ("proxy", 13, 13, "/bin", "/usr/sbin/nologin"),
    ("www-data", 33, 33, "/var/www", "/usr/sbin/nologin"),
    ("backup", 34, 34, "/var/backups", "/usr/sbin/nologin"),
    ("list", 38, 38, "/var/list", "/usr/sbin/nologin"),
    ("irc", 39, 39, "/run/ircd", "/usr/sbin/nologin"),
    ("_apt", 42, 65534, "/nonexistent", "/usr/sbin/nologin"),
    ("nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"),
];

/// The groups.
const GROUPS: [(&str, u32); 38] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("nogroup", 65534),
];

/// Adds the merged `/usr` and the folders.
pub fn skeleton(tree: &mut Tree, arch: Arch, release: &Release) -> Result<(), tree::Error> {
    let time = release.date;
    for (path, mode) in FOLDERS {
        tree.folder(path.as_bytes(), Meta::root(mode, time))?;
    }
    let merged = ["bin", "lib", "sbin"].into_iter().chain(arch.lib64.then_some("lib64"));
    for name in merged {
        let target = format!("usr/{name}");
        tree.folder(target.as_bytes(), Meta::root(0o755, time))?;
        tree.link(name.as_bytes(), Meta::root(0o777, time), target.as_bytes())?;
    }
    tree.link(b"var/run", Meta::root(0o777, time), b"/run")?;
    tree.link(b"var/lock", Meta::root(0o777, time), b"/run/lock")
}

/// Adds accounts and `/etc/os-release` where no package brought them, and the modes of shared folders.
pub fn fill(tree: &mut Tree, release: &Release) -> Result<(), tree::Error> {
    let time = release.date;
    for path in ["tmp", "var/tmp"] {
        tree.set_folder(path, Meta::root(0o1777, time))?;
    }
    let mut add = |path: &str, text: String| {
        if tree.get(path).is_some() { Ok(()) } else { tree.write(path, Meta::root(0o644, time), text) }
    };
    add("etc/passwd", passwd())?;
    add("etc/group", GROUPS.map(|(name, id)| format!("{name}:x:{id}:\n")).concat())?;
    add("usr/lib/os-release", os_release(release))?;
    if tree.get("etc/os-release").is_none() {
        tree.link(b"etc/os-release", Meta::root(0o777, time), b"../usr/lib/os-release")?;
    }
    Ok(())
}

fn passwd() -> String {
    ACCOUNTS.map(|(name, uid, gid, home, shell)| format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n")).concat()
}

/// os-release(5) from the fields of the Release file, in the manner of base-files.
fn os_release(release: &Release) -> String {
    let clean =
        |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_ /".contains(*c)).collect::<String>();
    let name = match release.origin.as_deref() {
        None | Some("Debian") => "Debian GNU/Linux".to_owned(),
        Some(other) => clean(other),
    };
    let codename = clean(&release.codename);
    let mut text = match &release.version {
        Some(version) => {
            let version = clean(version);
            let major = version.split('.').next().unwrap_or_default();
            format!(
                "PRETTY_NAME=\"{name} {major} ({codename})\"\nNAME=\"{name}\"\nVERSION_ID=\"{major}\"\nVERSION=\"{major} ({codename})\"\n"
            )
        }
        None => format!("PRETTY_NAME=\"{name} {codename}\"\nNAME=\"{name}\"\n"),
    };
    text += &format!("VERSION_CODENAME=\"{codename}\"\nID=debian\nHOME_URL=\"https://www.debian.org/\"\n");
    text
}
