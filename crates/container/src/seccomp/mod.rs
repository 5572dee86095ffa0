//! System call filters: an OCI `linux.seccomp` section compiled to classic BPF for seccomp(2), and the default policy.
//!
//! [`compile`] checks a [`LinuxSeccomp`] (OCI runtime specification, config-linux, "Seccomp"), turns its names into
//! numbers for the native architecture and those listed beside it, and writes one [`Program`]; [`Program::install`]
//! puts the calling thread under it. [`default_profile`] is the policy that Docker applies to a container, as a value.
//! Left out on purpose: architectures that Atoll does not run on.

mod action;
mod arch;
mod bpf;
mod compile;
mod install;
mod listener;
mod policy;
mod profile;
mod table;
#[cfg(test)]
mod tests;

use atoll_oci::runtime::LinuxSeccomp;

pub use arch::Arch;
pub use bpf::{INSTRUCTIONS_MAX, Instruction};
pub use install::Program;
pub(crate) use listener::Listener;
pub use profile::default_profile;

/// Why a seccomp section cannot be made into a filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `errnoRet` or `defaultErrnoRet` beside an action that returns none (the specification demands an error).
    #[error("seccomp action {action} takes no errnoRet: remove it, or use SCMP_ACT_ERRNO or SCMP_ACT_TRACE")]
    ErrnoNotTaken {
        /// The action's name in the specification.
        action: &'static str,
    },
    /// An error number that the kernel cannot return.
    #[error("seccomp errnoRet {errno} is out of range: it must be at most {max}")]
    ErrnoRange {
        /// What was asked for.
        errno: u32,
        /// Largest that the action takes.
        max: u16,
    },
    /// System calls have six arguments.
    #[error("seccomp rule for {call:?} compares argument {index}: it must be 0 to 5")]
    ArgumentIndex {
        /// First name of the rule.
        call: String,
        /// What was asked for.
        index: u32,
    },
    /// A name that no system call can have. (Well-formed names that are not known are ignored.)
    #[error("{name:?} is not the name of a system call: use letters, digits and underscores")]
    MalformedName {
        /// What was asked for.
        name: String,
    },
    /// A flag that this engine does not know.
    #[error(
        "seccomp flag {flag:?} is not known: use SECCOMP_FILTER_FLAG_TSYNC, _LOG, _SPEC_ALLOW or _WAIT_KILLABLE_RECV"
    )]
    UnknownFlag {
        /// What was asked for.
        flag: String,
    },
    /// NOTIFY without a listener would leave every such call hanging.
    #[error("seccomp action SCMP_ACT_NOTIFY needs listenerPath")]
    NoListener,
    /// A listener that nothing would ever notify.
    #[error("seccomp listenerPath is set but no rule has action SCMP_ACT_NOTIFY")]
    IdleListener,
    /// The filter would be longer than the kernel takes.
    #[error("seccomp policy needs {length} instructions, the kernel takes {max}: use fewer argument rules", max = INSTRUCTIONS_MAX)]
    TooLong {
        /// Instructions needed.
        length: usize,
    },
}

/// Compiles `profile` for a kernel whose native architecture is `native` (usually [`Arch::HOST`]).
///
/// The native architecture is always covered; of `profile.architectures` those that such a kernel can run are too.
/// Linear in the rules: the default profile takes about 0.2 ms, and the result is a plain value worth keeping
/// where the same policy is used often.
pub fn compile(profile: &LinuxSeccomp, native: Arch) -> Result<Program, Error> {
    let policy = policy::Policy::read(profile)?;
    let instructions = compile::compile(&policy, native)?;
    Ok(Program::new(instructions, policy.flags, policy.notifies))
}
