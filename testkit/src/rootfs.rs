//! A root file system to run things in: busybox and the folders that programs expect.
//!
//! The static busybox of the host (Debian's busybox-static) is copied in and its own list of applets becomes links.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where Debian's busybox-static puts it.
const BUSYBOX: &str = "/bin/busybox";
/// Folders of every root file system.
const FOLDERS: [&str; 10] = ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"];

/// Makes `dir` a root file system with busybox's applets in `/bin`, `/etc/passwd` and `/etc/group`.
///
/// `false` where the host has no static busybox, said on standard output.
///
/// # Errors
/// Where `dir` cannot be written, or busybox does not run.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub fn busybox_rootfs(dir: &Path) -> Result<bool> {
    if !is_static(Path::new(BUSYBOX))? {
        println!("skipped: needs a static {BUSYBOX} (apt-get install busybox-static)");
        return Ok(false);
    }
    for folder in FOLDERS {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    std::fs::set_permissions(dir.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    std::fs::copy(BUSYBOX, dir.join("bin/busybox")).context("cannot copy busybox")?;
    let list = Command::new(BUSYBOX).arg("--list").output().context("cannot run busybox")?;
    if !list.status.success() {
        bail!("busybox --list failed: {}", list.status);
    }
    for applet in String::from_utf8(list.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    std::fs::write(
        dir.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    std::fs::write(dir.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(true)
}

/// Whether `path` is an ELF program without an interpreter (ELF specification: no `PT_INTERP` program header).
fn is_static(path: &Path) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let Ok(bytes) = std::fs::read(path) else { return Ok(false) };
    let half = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let headers = (|| {
        let (offset, size, count) = (word(0x20)? as usize, half(0x36)?, half(0x38)?);
        (0..count).map(|index| word(offset + index * size)).collect::<Option<Vec<u32>>>()
    })();
    let headers = headers.with_context(|| format!("{} is a cut-off program", path.display()))?;
    Ok(!headers.contains(&PT_INTERP))
}
