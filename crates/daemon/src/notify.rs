//! Telling systemd how far the daemon is (sd_notify(3)): one datagram to the socket that `NOTIFY_SOCKET` names.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that clients are answered.
pub(crate) const READY: &str = "READY=1";
/// Says that the daemon ends.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Says so where somebody listens.
pub(crate) fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let said = address(name.as_encoded_bytes())
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = said {
        tracing::warn!(%error, "telling systemd {state}");
    }
}

/// A path, or with `@` before it a name that is not in the file system.
fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(name)))),
    }
}
