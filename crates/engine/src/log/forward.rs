//! Sending lines on, to a receiver of syslog messages or to the journal of this host.
//!
//! The supervisor writes what it always writes; a task for each workload reads that and sends it, line by line. How far it came
//! is kept in a [`place`] that survives the daemon, and moves only when the receiver has taken what was sent: after a kill of the
//! daemon or of the receiver, lines may come twice, none is left out.
//!
//! ```text
//!   files of the supervisor ── Reader ── encode ── Receiver ── settled? ── place
//! ```
//!
//! While the receiver is away, lines wait in the files, as many as these hold; which of them were given up for newer ones is
//! said to the receiver when it is back. Left out on purpose: promises for UDP, which has none.

mod journal;
mod place;
mod receiver;
mod syslog;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Log, LogDriver, Syslog, SyslogAddress, Workload};

use super::{Follow, LogLine, LogQuery, LogStream, Step, ended, format, plan};
use crate::entry::Entry;
use crate::runtime::Stream;
use crate::runtime::log::Reader;
use crate::{Engine, Error, LogSettings, host};
use place::Place;
use receiver::{Address, Receiver};

/// Lines after which the receiver is waited for.
const BATCH: u32 = 1000;
/// How long to wait before a receiver that is away is tried again: the first time, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long the removal of a workload waits for its last lines.
const REMOVAL_GRACE: Duration = Duration::from_secs(5);

/// What becomes of a workload's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// There is nobody who sends them: it does not run, and all have arrived; or they are not to be sent.
    #[default]
    Nothing,
    /// They are sent as they come.
    Going,
    /// They wait until the receiver is back.
    Held,
}

/// How lines are written.
#[derive(Debug)]
enum Encoding {
    Syslog(syslog::Form),
    Journal(journal::Form),
}

/// Sends the lines of one workload.
struct Forwarder {
    engine: Engine,
    entry: Arc<Entry>,
    address: Address,
    encoding: Encoding,
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Receiver(io::Error),
    #[error("{0}")]
    Log(Error),
}

impl Engine {
    /// Refuses a receiver that cannot be on this host.
    pub(crate) fn check_receiver(&self, log: &Log) -> Result<(), Error> {
        let socket = match log.driver() {
            LogDriver::Journald if !self.settings().log.journal.exists() => {
                return Err(Error::Invalid("journald is not enabled on this host".to_owned()));
            }
            LogDriver::Syslog => match Syslog::parse(&log.options).map_err(atoll_model::BadLog::from)?.address {
                SyslogAddress::Stream(path) | SyslogAddress::Datagram(path) => path,
                SyslogAddress::Local | SyslogAddress::Udp(_) | SyslogAddress::Tcp(_) => return Ok(()),
            },
            _ => return Ok(()),
        };
        match std::fs::metadata(&socket) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Invalid(format!("stat {}: no such file or directory", socket.display()))),
        }
    }

    /// Sends a workload's lines on for as long as there are some, if that is how they are to be kept.
    pub(crate) fn keep_forwarding(&self, entry: &Arc<Entry>) {
        if !entry.workload().command.log.driver().forwards() {
            return;
        }
        let begins = entry.forwarding.send_if_modified(|forwarding| {
            *forwarding == Forwarding::Nothing
                && std::mem::replace(forwarding, Forwarding::Going) == Forwarding::Nothing
        });
        if !begins {
            return;
        }
        match Forwarder::new(self.clone(), Arc::clone(entry)) {
            Ok(forwarder) => drop(tokio::spawn(forwarder.run())),
            Err(error) => {
                tracing::error!(%error, id = %entry.id.short(), "the lines of this workload are not sent on");
                entry.forwarding.send_replace(Forwarding::Nothing);
            }
        }
    }

    /// Waits for the last lines of a workload that is about to go; not for long, and not for a receiver that is away.
    pub(crate) async fn await_forwarding(&self, entry: &Arc<Entry>) {
        self.keep_forwarding(entry);
        let mut forwarding = entry.forwarding.subscribe();
        let settled = tokio::time::timeout(REMOVAL_GRACE, forwarding.wait_for(|it| *it != Forwarding::Going)).await;
        if !settled.is_ok_and(|it| it.is_ok_and(|it| *it == Forwarding::Nothing)) {
            tracing::warn!(id = %entry.id.short(), "a workload is removed before its last lines have arrived");
        }
    }
}

impl Forwarder {
    fn new(engine: Engine, entry: Arc<Entry>) -> Result<Self, Error> {
        let workload = entry.workload();
        let (address, encoding) = target(&workload, &engine.settings().log)?;
        Ok(Self { engine, entry, address, encoding })
    }

    /// Sends until everything has arrived and no more comes, or the workload is gone.
    async fn run(self) {
        let mut pause = RETRY_FIRST;
        let id = self.entry.id.short();
        loop {
            let before = std::time::Instant::now();
            let sent = tokio::select! {
                biased;
                () = self.gone() => Ok(()),
                sent = self.send_on() => sent,
            };
            match sent {
                Ok(()) if self.rests() => return,
                Ok(()) => pause = RETRY_FIRST,
                Err(Trouble::Log(error)) => {
                    tracing::error!(%error, %id, "the lines of this workload are not sent on any more");
                    self.entry.forwarding.send_replace(Forwarding::Nothing);
                    return;
                }
                Err(Trouble::Receiver(error)) => {
                    if self.entry.forwarding.send_replace(Forwarding::Held) == Forwarding::Going {
                        tracing::warn!(%error, %id, "the receiver of this workload's lines is away: they are kept for now");
                    }
                    if before.elapsed() > RETRY_MOST {
                        pause = RETRY_FIRST;
                    }
                    // Whether it goes meanwhile is seen by the next try.
                    drop(tokio::time::timeout(pause, self.gone()).await);
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Whether there is nothing left to do; the next start begins anew then. Asked and said in one step, so that a start
    /// that comes meanwhile is not overlooked.
    fn rests(&self) -> bool {
        self.entry.forwarding.send_if_modified(|forwarding| {
            let over = ended(&self.entry.standing.borrow());
            if over {
                *forwarding = Forwarding::Nothing;
            }
            over
        })
    }

    /// Returns when the workload is removed.
    async fn gone(&self) {
        // The sender is the entry's, so the channel is open.
        drop(self.entry.standing.subscribe().wait_for(|standing| standing.removed).await);
    }

    /// From where it came last time to the end of the run. Whatever fails is tried again from there.
    async fn send_on(&self) -> Result<(), Trouble> {
        let (mut log, mut place) = self.open().await.map_err(Trouble::Log)?;
        let mut on_its_way = OnItsWay { receiver: None, lines: 0, file: place.cursor().file, before_first: true };
        loop {
            match log.step() {
                Step::Line(line) => {
                    self.send(&mut on_its_way, &log, &line).await.map_err(Trouble::Receiver)?;
                    if on_its_way.lines >= BATCH {
                        self.settle(&mut on_its_way, &log, &mut place).await?;
                    }
                }
                Step::Wait => {
                    self.settle(&mut on_its_way, &log, &mut place).await?;
                    if let Some(follow) = &mut log.follow {
                        follow.changed().await;
                    }
                }
                Step::End => return self.settle(&mut on_its_way, &log, &mut place).await,
                Step::Failed(error) => return Err(Trouble::Log(Error::host("reading a log")(error))),
            }
        }
    }

    async fn open(&self) -> Result<(LogStream, Place), Error> {
        let follow: Follow = self.engine.follow(&self.entry)?;
        let folder = self.engine.folder(&self.entry.id);
        let format = format(&self.entry.workload())?;
        let failed = Error::host(format!("reading the log in {}", folder.display()));
        let opened = host::blocking(move || {
            let place = Place::open(&folder)?;
            Ok((Reader::open_at(&folder, &format, place.cursor())?, place))
        });
        let (reader, place) = opened.await.map_err(failed)?;
        let query = LogQuery { stdout: true, stderr: true, follow: true, ..LogQuery::default() };
        Ok((LogStream { reader, query, follow: Some(follow), over: false }, place))
    }

    async fn send(&self, on_its_way: &mut OnItsWay, log: &LogStream, line: &LogLine) -> io::Result<()> {
        let missing = log.reader.place().map_or(0, |place| on_its_way.missing(place.file));
        let receiver = match &mut on_its_way.receiver {
            Some(receiver) => receiver,
            none => none.insert(Receiver::connect(&self.address).await?),
        };
        if on_its_way.lines == 0 {
            receiver.check()?;
        }
        if missing > 0 {
            tracing::warn!(id = %self.entry.id.short(), missing, "files of a log were given up before they were sent on");
            receiver.send(|into| self.encoding.encode(&lost(missing, line), into)).await?;
        }
        receiver.send(|into| self.encoding.encode(line, into)).await?;
        on_its_way.lines += 1;
        Ok(())
    }

    /// Waits until the receiver has taken what was sent, and notes that.
    async fn settle(&self, on_its_way: &mut OnItsWay, log: &LogStream, place: &mut Place) -> Result<(), Trouble> {
        if on_its_way.lines == 0 {
            return Ok(());
        }
        if let Some(receiver) = &on_its_way.receiver {
            receiver.settle().await.map_err(Trouble::Receiver)?;
        }
        on_its_way.lines = 0;
        if let Some(cursor) = log.reader.place() {
            place.set(cursor).map_err(|error| Trouble::Log(Error::host("noting how far a log was sent on")(error)))?;
        }
        let back = |forwarding: &mut Forwarding| std::mem::replace(forwarding, Forwarding::Going) == Forwarding::Held;
        if self.entry.forwarding.send_if_modified(back) {
            tracing::info!(id = %self.entry.id.short(), "the receiver of this workload's lines is back");
        }
        Ok(())
    }
}

/// What was sent and not yet noted.
struct OnItsWay {
    /// None before there was something to send.
    receiver: Option<Receiver>,
    lines: u32,
    /// The file that the last line came from.
    file: u64,
    /// Whether that is only where an earlier reader was.
    before_first: bool,
}

impl OnItsWay {
    /// How many files are missing between the one that was read and this.
    fn missing(&mut self, file: u64) -> u64 {
        // Of a file that an earlier reader left, the rest is missing too.
        let expected = self.file + u64::from(!std::mem::take(&mut self.before_first));
        let missing = file.saturating_sub(expected);
        self.file = file.max(self.file);
        missing
    }
}

impl Encoding {
    /// Writes a line; nothing, where it is not to be sent.
    fn encode(&self, line: &LogLine, into: &mut Vec<u8>) {
        match self {
            Self::Syslog(form) => form.encode(line, into),
            Self::Journal(form) => form.encode(line, into),
        }
    }
}

/// What is said in the place of lines that are gone.
fn lost(files: u64, before: &LogLine) -> LogLine {
    let text = format!("[atoll: up to {files} files of log records were lost: the receiver was away for too long]\n");
    LogLine { stream: Stream::Stderr, partial: false, bytes: text.into_bytes(), ..before.clone() }
}

/// Where a workload's lines go, and what they look like there.
fn target(workload: &Workload, settings: &LogSettings) -> Result<(Address, Encoding), Error> {
    let tag = plan::tag(workload)?;
    if workload.command.log.driver() == LogDriver::Journald {
        let form = journal::Form::new(workload, &tag, plan::chosen(workload));
        return Ok((Address::journal(&settings.journal), Encoding::Journal(form)));
    }
    let Syslog { address, facility, format } =
        Syslog::parse(&workload.command.log.options).map_err(atoll_model::BadLog::from)?;
    Ok((address.into(), Encoding::Syslog(syslog::Form::new(facility, format, &tag))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_missing_are_counted() {
        let at = |file, before_first| OnItsWay { receiver: None, lines: 0, file, before_first };
        let mut fresh = at(0, true);
        assert_eq!([fresh.missing(0), fresh.missing(0), fresh.missing(1), fresh.missing(4)], [0, 0, 0, 2]);
        assert_eq!([at(3, true).missing(3), at(3, true).missing(4), at(3, true).missing(6)], [0, 1, 3]);
    }
}
