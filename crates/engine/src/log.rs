//! What workloads wrote, from their log files, with what they go on to write.

use std::os::fd::OwnedFd;
use std::path::Path;

use atoll_model::{Phase, Timestamp};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::entry::Standing;
use crate::runtime::Stream;
use crate::runtime::log::{LogRecord, Reader};
use crate::{Engine, Error};

/// Bytes of file system events taken at a time: what they say does not matter, only that there are some.
const EVENTS: usize = 4096;

/// Which part of a log is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogQuery {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Nothing newer.
    pub until: Option<Timestamp>,
    /// Only this many lines of what is there.
    pub tail: Option<usize>,
    /// Go on with what is written until the workload ends.
    pub follow: bool,
}

/// A line, or a part of one.
pub type LogLine = LogRecord;

/// Lines one after the other.
#[derive(Debug)]
pub struct LogStream {
    reader: Reader,
    query: LogQuery,
    follow: Option<Follow>,
}

#[derive(Debug)]
struct Follow {
    changes: AsyncFd<OwnedFd>,
    standing: watch::Receiver<Standing>,
}

impl Engine {
    /// Reads a workload's log.
    ///
    /// # Errors
    /// When there is no such workload, or its log cannot be read.
    pub fn logs(&self, name: &str, query: LogQuery) -> Result<LogStream, Error> {
        let entry = self.find(name)?;
        let folder = self.folder(&entry.id);
        let failed = || Error::host(format!("reading the log in {}", folder.display()));
        // The watch comes first: what is written after it was set wakes the follower.
        let follow = if query.follow {
            let changes = watch_folder(&folder).map_err(failed())?;
            Some(Follow { changes, standing: entry.standing.subscribe() })
        } else {
            None
        };
        let reader = Reader::open(&folder, query.tail).map_err(failed())?;
        Ok(LogStream { reader, query, follow })
    }
}

impl LogStream {
    /// The next line; `None` at the end, which for a follower is the end of the workload.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub async fn next(&mut self) -> Option<Result<LogLine, Error>> {
        loop {
            // Asked before reading: what was written before the end is read before the stream ends.
            let over = self.follow.as_ref().is_none_or(|follow| ended(&follow.standing.borrow()));
            match self.reader.next_record() {
                Ok(Some(line)) if self.query.until.is_some_and(|until| line.at > until) => return None,
                Ok(Some(line)) if self.wants(&line) => return Some(Ok(line)),
                Ok(Some(_)) => {}
                Ok(None) if over => return None,
                Ok(None) => self.follow.as_mut()?.changed().await,
                Err(error) => return Some(Err(Error::host("reading a log")(error))),
            }
        }
    }

    fn wants(&self, line: &LogLine) -> bool {
        let stream = match line.stream {
            Stream::Stdout => self.query.stdout,
            Stream::Stderr => self.query.stderr,
        };
        stream && self.query.since.is_none_or(|since| line.at >= since)
    }
}

impl Follow {
    /// Waits until something was written, or the workload's standing changed.
    async fn changed(&mut self) {
        tokio::select! {
            ready = self.changes.readable() => {
                if let Ok(mut guard) = ready {
                    let mut buffer = [0; EVENTS];
                    drop(guard.try_io(|changes| rustix::io::read(changes, &mut buffer[..]).map_err(Into::into)));
                }
            }
            _ = self.standing.changed() => {}
        }
    }
}

fn ended(standing: &Standing) -> bool {
    standing.removed || matches!(standing.phase, Phase::Exited { .. } | Phase::Removing | Phase::Created { .. })
}

#[allow(deprecated, reason = "its replacement is an unsafe function; an owned descriptor is all that it asks for")]
fn watch_folder(folder: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    use inotify::{CreateFlags, WatchFlags};
    let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&changes, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    AsyncFd::new(changes)
}
