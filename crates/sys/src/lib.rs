//! Safe wrappers over Linux that the ecosystem lacks.
//!
//! Each module is one kernel interface; values in, values or `io::Error` out. Nothing here knows containers or virtual
//! machines, and what `rustix` already has is not repeated.

pub mod bpf;
pub mod cgroup;
pub mod dbus;
pub mod exe;
pub mod fd;
pub mod helper;
pub mod keyring;
pub mod loopback;
pub mod memory;
pub mod mntns;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod overlay;
pub mod pidfd;
pub mod proc;
pub mod process;
pub mod pty;
pub mod quota;
pub mod schedule;
pub mod signal;
pub mod socket;
pub mod usage;
pub mod userns;
