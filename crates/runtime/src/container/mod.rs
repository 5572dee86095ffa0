//! The driver for containers: namespaces, cgroups, capabilities and a system call filter on the host's own kernel.
//!
//! [`spec::build`] says what is wanted; the supervisor, started with one end of a socket pair as its standard input, makes
//! it and reports. What survives this daemon is the supervisor's socket and its records in the run folder, from which
//! [`Driver::recover`] finds it again: by socket, boot id and start time, never by a bare process number.

mod cdi;
mod devices;
mod host;
mod launch;
mod recover;
mod root;
mod sample;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use host::missing;
pub use recover::{first_process, live_process};
pub use sample::sample;

use crate::{Capabilities, Driver, Error, Fingerprint, Handle, Plan, Recovered, View};

/// Runs workloads as containers.
#[derive(Clone, Debug)]
pub struct ContainerDriver {
    shim: PathBuf,
    cgroup_parent: String,
    cdi: Vec<PathBuf>,
}

impl ContainerDriver {
    /// With the program `atoll-shim`, the cgroup below which workloads get theirs (absolute, or relative to the daemon's own)
    /// and the folders of the Container Device Interface.
    #[must_use]
    pub const fn new(shim: PathBuf, cgroup_parent: String, cdi: Vec<PathBuf>) -> Self {
        Self { shim, cgroup_parent, cdi }
    }
}

impl Driver for ContainerDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            exec: true,
            pause: true,
            terminal: true,
            devices: true,
            privileged: true,
            host_network: true,
            snapshot: false,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        host::fingerprint(&self.cgroup_parent)
    }

    async fn create(&self, plan: Plan) -> Result<Handle, Error> {
        let spec = {
            let host = host::facts(&self.cgroup_parent, &self.shim)?;
            let devices = devices::resolve(&plan.workload.security, &plan.workload.resources.block_io)?;
            let mut spec = crate::spec::build(&plan, &host, devices)?;
            cdi::inject(&plan.workload.security.cdi, &self.cdi, &mut spec)?;
            spec
        };
        launch::launch(&self.shim, plan, spec).await
    }

    async fn recover(&self, run: &Path) -> Result<Recovered, Error> {
        recover::recover(run).await
    }

    fn root(&self, run: &Path, view: View) -> Result<OwnedFd, Error> {
        root::root(run, view)
    }

    async fn destroy(&self, run: &Path) -> Result<(), Error> {
        recover::destroy(run).await
    }
}
