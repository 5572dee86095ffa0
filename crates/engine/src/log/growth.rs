//! Tells when logs grow: one instance of inotify for all of them, because a user may have few instances (128 unless configured)
//! and many workloads.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Bytes of events taken at a time.
const EVENTS: usize = 4096;

/// Watches folders.
#[derive(Debug)]
pub(crate) struct Growth {
    watches: Arc<Watches>,
    attending: AbortHandle,
}

#[derive(Debug)]
struct Watches {
    inotify: AsyncFd<OwnedFd>,
    /// Who is told, by the kernel's number for a folder.
    folders: Mutex<HashMap<i32, watch::Sender<()>>>,
}

/// A folder that somebody watches.
#[derive(Debug)]
pub(super) struct Growing {
    watches: Arc<Watches>,
    number: i32,
    receiver: watch::Receiver<()>,
}

impl Growth {
    /// Begins to watch, nothing as yet.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = register(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        let watches = Arc::new(Watches { inotify, folders: Mutex::default() });
        let attending = tokio::spawn(attend(Arc::clone(&watches))).abort_handle();
        Ok(Self { watches, attending })
    }

    /// Watches a folder; what happens in it after this call is told.
    pub(super) fn of(&self, folder: &Path) -> io::Result<Growing> {
        let watches = Arc::clone(&self.watches);
        let mut folders = watches.folders();
        let wanted = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        // For a folder that is watched, this is the number that it has.
        let number = inotify::add_watch(&watches.inotify, folder, wanted)?;
        let receiver = folders.entry(number).or_default().subscribe();
        drop(folders);
        Ok(Growing { watches, number, receiver })
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.attending.abort();
    }
}

impl Growing {
    /// Waits until something was written since the last call.
    pub(super) async fn changed(&mut self) {
        // The sender stays for as long as this is there.
        drop(self.receiver.changed().await);
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        let mut folders = self.watches.folders();
        if folders.get(&self.number).is_some_and(|sender| sender.receiver_count() <= 1) {
            folders.remove(&self.number);
            // A folder that is gone is not watched any more.
            let _ = inotify::remove_watch(&self.watches.inotify, self.number);
        }
    }
}

impl Watches {
    fn folders(&self) -> MutexGuard<'_, HashMap<i32, watch::Sender<()>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the events that are there, as far as they fit, and tells of them.
    fn tell(&self, inotify: &OwnedFd) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        let folders = self.folders();
        loop {
            let event = events.next()?;
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                folders.values().for_each(|folder| folder.send_replace(()));
            } else if let Some(folder) = folders.get(&event.wd()) {
                folder.send_replace(());
            }
            if events.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

async fn attend(watches: Arc<Watches>) {
    while let Ok(mut ready) = watches.inotify.readable().await {
        if let Ok(Err(error)) = ready.try_io(|inotify| watches.tell(inotify.get_ref())) {
            tracing::error!(%error, "watching logs: followers are not told any more");
            return;
        }
    }
}

#[allow(deprecated, reason = "its replacement is an unsafe function; an owned descriptor is all that it asks for")]
fn register(inotify: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_watch_a_folder_are_told_of_it_alone() {
        let (one, other) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let growth = Growth::new().expect("inotify");
        let watch = |folder: &tempfile::TempDir| growth.of(folder.path()).expect("a folder");
        let (mut first, mut second, third) = (watch(&one), watch(&one), watch(&other));
        drop(watch(&one));
        std::fs::write(one.path().join("log.0"), "text").expect("write");
        first.changed().await;
        second.changed().await;
        assert!(!third.receiver.has_changed().expect("it is open"));
        drop((first, second, third));
        assert!(growth.watches.folders().is_empty());
    }
}
