//! The full host's files: systemd, the message bus and sessions, from Debian's packages.
//!
//! apt resolves the packages as for an empty system and downloads them; they are unpacked, no script of theirs runs. What
//! such scripts would have written (users, PAM's shared files) is written here. The script of a test is a service, whose
//! output goes to the console.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{make_merged_folders, run};

/// What is installed, with all that it depends on.
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "util-linux",
    "procps",
    "runc",
    "busybox-static",
    // Stands for a program that would rearrange folders.
    "usr-is-merged",
];

/// Block devices to be limited, and a scheduler that knows weights.
pub(super) const MODULES: [&str; 2] = ["loop", "bfq"];

/// What the kernel and systemd are told.
pub(super) const CMDLINE: &str = "systemd.unit=machine.target systemd.show_status=0 systemd.log_target=null";

/// The second program of the machine.
pub(super) const SECOND: &str = "#!/bin/sh
exec /usr/lib/systemd/systemd
";

/// Files that the packages' scripts would have written, and our units.
const FILES: [(&str, &str); 10] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/nonexistent:/usr/sbin/nologin\n\
         tester:x:1000:1000::/home/tester:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\ntty:x:5:\nutmp:x:43:\nmessagebus:x:100:\nsystemd-journal:x:101:\ntester:x:1000:\nnogroup:x:65534:\n",
    ),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/pam.d/common-account", "account required pam_permit.so\n"),
    ("etc/pam.d/common-session-noninteractive", "session required pam_permit.so\n"),
    ("etc/pam.d/other", "auth required pam_deny.so\naccount required pam_deny.so\nsession required pam_deny.so\n"),
    (
        "etc/systemd/system/machine.target",
        "[Unit]\nRequires=basic.target dbus.socket\nWants=script.service\nAfter=basic.target\n",
    ),
    (
        "etc/systemd/system/script.service",
        "[Unit]\nAfter=basic.target dbus.socket\n\
         [Service]\nType=oneshot\nExecStart=/etc/script\nTimeoutStartSec=infinity\n\
         StandardOutput=file:/dev/ttyS0\nStandardError=inherit\n",
    ),
    (
        "etc/script",
        "#!/bin/sh\nexport PATH=/usr/bin:/usr/sbin:/usr/lib/busybox HOME=/root\n\
         busybox mkdir /usr/lib/busybox && busybox --install -s /usr/lib/busybox\n\
         echo '=== the script begins'\nsh /script 2>&1\necho \"=== the script has ended: $?\"\n/bin/busybox poweroff -f\n",
    ),
    ("root/.keep", ""),
];

/// The full host's files below `cache`, made there unless they are.
pub(super) fn unpacked(cache: &Path) -> io::Result<PathBuf> {
    let unpacked = cache.join("system");
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    let packages = cache.join("packages");
    download(&packages)?;
    let partial = cache.join("system.new");
    let _ = fs::remove_dir_all(&partial);
    make_merged_folders(&partial)?;
    for package in fs::read_dir(&packages)?.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|kind| kind == "deb") {
            unpack(&package, &partial)?;
        }
    }
    for (path, text) in FILES {
        let path = partial.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    let script = partial.join("etc/script");
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&partial, &unpacked)?;
    fs::remove_dir_all(packages)?;
    Ok(unpacked)
}

/// Downloads what an empty system would install.
fn download(packages: &Path) -> io::Result<()> {
    fs::create_dir_all(packages.join("partial"))?;
    let archives = format!("Dir::Cache::archives={}", packages.display());
    run(Command::new("apt-get")
        .args(["-q", "-y", "--download-only", "--no-install-recommends", "-o", "Dir::State::status=/dev/null"])
        .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o", &archives, "install"])
        .args(PACKAGES))?;
    Ok(())
}

/// Unpacks a package's files, without its documentation, through the links of merged folders.
fn unpack(package: &Path, into: &Path) -> io::Result<()> {
    let mut reader = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let files = reader.stdout.take().ok_or_else(|| io::Error::other("dpkg-deb has no output"))?;
    let status = Command::new("tar")
        .args(["-x", "--keep-directory-symlink", "--exclude=./usr/share/doc/*", "--exclude=./usr/share/man/*"])
        .args(["--exclude=./usr/share/locale/*", "-C"])
        .arg(into)
        .stdin(files)
        .status()?;
    if reader.wait()?.success() && status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("cannot unpack {}", package.display())))
}
