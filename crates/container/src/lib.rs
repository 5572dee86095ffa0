//! Running an OCI bundle as a container (OCI runtime-spec 1.2), as a library for supervisors and as `atoll-runtime`.
//!
//! [`create`] turns a [`Spec`](atoll_oci::runtime::Spec) into a plan (pure), clones the container's first process with
//! its namespaces in one `clone3`, and lets it build its own root while the caller places it in its cgroups;
//! [`StartHandle::start`] lets it execute, and [`exec`] brings one more process in. Callers are single-threaded and run
//! from a sealed image of themselves (`atoll_sys::exe::seal`); both are checked. A [`Jail`] is a container for a program of
//! our own that faces hostile input.
//!
//! Left out on purpose: images, names, logs, restarts (the supervisor's); Intel RDT is refused with
//! [`PlanError::Unsupported`].

mod birth;
mod channel;
pub mod checkpoint;
pub mod cli;
mod creation;
mod error;
mod exec;
mod groups;
pub mod hooks;
mod init;
mod jail;
mod netdev;
pub mod plan;
pub mod seccomp;
mod users;

pub use creation::{Created, Creation, RootSource, StartHandle, StartMode, Stdio, create};
pub use error::{CreateError, ExecError, PlanError, StartError};
pub use exec::{Execed, Execution, Target, exec};
pub use groups::{GroupKeeper, GroupPolicy};
pub use jail::{Jail, Loan};
