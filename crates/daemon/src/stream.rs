//! What connections run over, and whether the other end of one is still there.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::UnixStream;

/// How often a client that has said all it will say is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// A connection.
pub(crate) type Stream = UnixStream;

/// Tells whether the other end of a connection is still there.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// None where there is no descriptor left for it.
    pub(crate) fn of(stream: &Stream) -> Option<Self> {
        stream.as_fd().try_clone_to_owned().ok().map(Self)
    }

    /// Returns when the other end has closed both directions: to a reader, that looks like the end of one.
    pub(crate) async fn gone(&self) {
        while !self.is_gone() {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_gone(&self) -> bool {
        let mut ends = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}
