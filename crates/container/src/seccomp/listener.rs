//! Handing the notifications of a filter to the listener of the configuration (runtime-spec config-linux.md, "The Container
//! Process State").
//!
//! The connection is made in the host's view before anything of the container exists; the process itself sends the
//! descriptor through it, right after its filter begins.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use atoll_oci::runtime::{OCI_VERSION, Spec, State};
use serde::Serialize;

/// A connection to `listenerPath`.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    metadata: String,
}

/// What the listener is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a State,
}

impl Listener {
    /// Connects to the listener of a configuration; `None` where there is none.
    pub(crate) fn connect(spec: &Spec) -> io::Result<Option<Self>> {
        let filter = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let Some(filter) = filter.filter(|filter| !filter.listener_path.is_empty()) else { return Ok(None) };
        let socket = atoll_sys::fd::connect_stream(std::path::Path::new(&filter.listener_path))?;
        Ok(Some(Self { socket, metadata: filter.listener_metadata.clone() }))
    }

    /// Sends the descriptor of the process `pid` of the container in `state`.
    pub(crate) fn hand_over(&self, notifications: &OwnedFd, pid: i32, state: &State) -> io::Result<()> {
        let message = ContainerProcessState {
            oci_version: OCI_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state,
        };
        atoll_sys::fd::send(&self.socket, &serde_json::to_vec(&message)?, Some(notifications.as_fd()))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
