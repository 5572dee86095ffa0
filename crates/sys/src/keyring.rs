//! A session keyring of one's own (keyctl(2), session-keyring(7)).
//!
//! A process that joins a new session keyring no longer sees keys of whoever started it. Everything else that keyctl
//! does is left out.

use std::ffi::CStr;
use std::io;

/// Joins a new session keyring called `name`.
///
/// # Errors
/// `ENOSYS` on kernels without keys, `EDQUOT` when out of keys.
pub fn join_session(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads the terminated name, which lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
