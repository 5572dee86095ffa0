//! What a filter tells the kernel to do with a call: the return values of seccomp(2) (linux/seccomp.h).
//!
//! The high 16 bits are the action, the low 16 its data (an error number, or a message for a tracer).

/// Kills the whole process with SIGSYS.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
/// Kills the calling thread with SIGSYS.
pub(super) const KILL_THREAD: u32 = 0;
/// Sends SIGSYS, which the process may catch.
pub(super) const TRAP: u32 = 0x0003_0000;
/// Fails the call; data is the error number.
const ERRNO: u32 = 0x0005_0000;
/// Hands the call to the listener.
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
/// Hands the call to the tracer; data is its message.
const TRACE: u32 = 0x7ff0_0000;
/// Allows the call and logs it.
pub(super) const LOG: u32 = 0x7ffc_0000;
/// Allows the call.
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// Largest error number that the kernel returns (`MAX_ERRNO`, linux/err.h).
pub(super) const ERRNO_MAX: u16 = 4095;

/// Fails the call with `number`, at most [`ERRNO_MAX`].
pub(super) const fn errno(number: u16) -> u32 {
    ERRNO | number as u32
}

/// Hands the call to the tracer with `message`.
pub(super) const fn trace(message: u16) -> u32 {
    TRACE | message as u32
}

/// Whether a return value fails the call with an error number.
pub(super) const fn is_errno(value: u32) -> bool {
    value & 0xffff_0000 == ERRNO
}
