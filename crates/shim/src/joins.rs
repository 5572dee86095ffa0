//! Namespaces of other workloads that one is made in.
//!
//! Each is opened by the identity of its process, never by a bare number, and stands in the specification by the descriptor
//! that is held until the workload is made. With an IPC namespace goes the `/dev/shm` of the other: the mount is cloned
//! inside the other's mount namespace, so that it is the same memory with the same limit, and nothing of it stands on the host.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use atoll_wall::launch::{Join, Joined, Launch};
use atoll_wall::message::Failure;

use crate::failure::{internal, not_now};

/// Where shared memory is, in every workload.
const SHM: &str = "/dev/shm";

/// Opens what a launch joins and puts it into the specification; the descriptors are to be held until it is made.
pub(crate) fn open(launch: &mut Launch) -> Result<Vec<OwnedFd>, Failure> {
    let mut held = Vec::new();
    for join in std::mem::take(&mut launch.joins) {
        let namespace = open_one(join, join.kind.name())?;
        launch.join(join.kind, &format!("/proc/self/fd/{}", namespace.as_raw_fd()));
        held.push(namespace);
        if join.kind == Joined::Ipc {
            let mounts = open_one(join, "mnt")?;
            let memory = atoll_sys::mount::tree_in(mounts.as_fd(), SHM).map_err(|error| internal(&error))?;
            // The workload's first process opens it, with this process still there.
            let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
            launch.bind(SHM, &path);
            held.push(memory);
        }
    }
    Ok(held)
}

fn open_one(join: Join, name: &str) -> Result<OwnedFd, Failure> {
    atoll_sys::proc::namespace(join.of.pid, join.of.start_time, name)
        .map_err(|_| not_now("the container whose namespace is to be joined has ended"))
}
