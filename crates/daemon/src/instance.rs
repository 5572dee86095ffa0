//! One daemon for each run folder: its lock and its socket.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

/// Name of the lock in the run folder; its content is the daemon's pid, for people.
pub(crate) const LOCK: &str = "atolld.pid";
/// Name of the log of a daemon that a client started, beside it.
pub(crate) const LOG: &str = "atolld.log";
/// Permissions of the socket: whoever may write to it is as good as root, unless there are projects, whose members are told apart.
const SOCKET_MODE: u32 = 0o600;
const SHARED_SOCKET_MODE: u32 = 0o666;

/// Another daemon has the lock.
#[derive(Debug)]
pub(crate) struct Taken;

/// Takes the lock of a run folder, for as long as the file is open.
pub(crate) fn lock(run: &Path) -> Result<Result<File, Taken>> {
    std::fs::create_dir_all(run).with_context(|| format!("making {}", run.display()))?;
    let path = run.join(LOCK);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut file = open.with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Err(Taken)),
        Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}

/// Listens on a socket; under the lock, one that is there already is nobody's.
pub(crate) fn listen(path: &Path, shared: bool) -> Result<UnixListener> {
    let bind = || -> std::io::Result<UnixListener> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Nobody else may connect in the moment before its permissions are set.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener?;
        let mode = if shared { SHARED_SOCKET_MODE } else { SOCKET_MODE };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(listener)
    };
    bind().with_context(|| format!("listening on {}", path.display()))
}
