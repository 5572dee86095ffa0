//! The root file system of a container, lent by descriptor.
//!
//! It is that of the first process's mount namespace. The process is the recorded one, by boot id and start time, never one
//! that was given its number since.

use std::os::fd::OwnedFd;
use std::path::Path;

use atoll_sys::{mntns, proc};
use atoll_wall::record::{self, Shim};

use super::recover::read;
use crate::{Error, View};

pub(super) fn root(run: &Path, view: View) -> Result<OwnedFd, Error> {
    let shim: Shim = read(&run.join(record::SHIM))?.ok_or(Error::Gone)?;
    let boot = proc::boot_id().map_err(Error::io("reading the boot id"))?;
    if shim.boot != boot {
        return Err(Error::Gone);
    }
    let namespace = match proc::namespace(shim.init.pid, shim.init.start_time, "mnt") {
        Ok(namespace) => namespace,
        Err(error) if ended(&error) => return Err(Error::Gone),
        Err(error) => return Err(Error::io("opening the container's mount namespace")(error)),
    };
    match view {
        View::Whole => mntns::root(&namespace),
        View::Bare => mntns::bare_root(&namespace),
    }
    .map_err(Error::io("opening the container's root file system"))
}

fn ended(error: &std::io::Error) -> bool {
    let codes = [rustix::io::Errno::SRCH, rustix::io::Errno::NOENT].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}
