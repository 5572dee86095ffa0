//! What workloads wrote, from their log files, with what they go on to write.

mod forward;
mod growth;
mod pack;
mod plan;

use std::path::PathBuf;

use atoll_model::{Phase, Timestamp};
use tokio::sync::watch;

use crate::entry::{Entry, Standing};
use crate::runtime::log::{LogRecord, Reader, Tail};
use crate::runtime::{LogFormat, Stream};
use crate::{Engine, Error, host};

pub(crate) use forward::Forwarding;
use growth::Growing;
pub(crate) use growth::Growth;
pub(crate) use plan::{format, plan};

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
    /// Only this many lines of what is there, of the streams that are wanted; of those, the ones that are not too old or new.
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
    /// Whether what comes is too new.
    over: bool,
}

#[derive(Debug)]
struct Follow {
    growing: Growing,
    standing: watch::Receiver<Standing>,
}

impl Engine {
    /// Reads a workload's log.
    ///
    /// # Errors
    /// When there is no such workload, or its log cannot be read.
    pub async fn logs(&self, name: &str, query: LogQuery) -> Result<LogStream, Error> {
        let entry = self.find(name)?;
        let format = format(&entry.workload())?;
        if format == LogFormat::Nothing {
            return Err(Error::Unsupported("configured logging driver does not support reading".to_owned()));
        }
        let folder = self.folder(&entry.id);
        let failed = Error::host(format!("reading the log in {}", folder.display()));
        let LogQuery { stdout, stderr, .. } = query;
        let tail = query.tail.map(|lines| Tail { lines, stdout, stderr });
        // The watch comes first: what is written after it was set wakes the follower.
        let follow = query.follow.then(|| self.follow(&entry)).transpose()?;
        let opened = host::blocking(move || Reader::open(&folder, &format, tail));
        let reader = opened.await.map_err(failed)?;
        Ok(LogStream { reader, query, follow, over: false })
    }

    fn follow(&self, entry: &Entry) -> Result<Follow, Error> {
        let growing = self.shared.growth.of(&self.folder(&entry.id)).map_err(Error::host("watching a log"))?;
        Ok(Follow { growing, standing: entry.standing.subscribe() })
    }

    /// The file of a workload's log that programs other than Atoll read, if it has such.
    pub(crate) fn log_file(&self, entry: &Entry) -> Option<PathBuf> {
        match format(&entry.workload()) {
            Ok(format @ LogFormat::Json { .. }) => Some(self.folder(&entry.id).join(format.file_name(0))),
            _ => None,
        }
    }
}

/// What a look at a log gives.
enum Step {
    Line(LogLine),
    /// Nothing more for now.
    Wait,
    End,
    Failed(std::io::Error),
}

impl LogStream {
    /// The next line; `None` at the end, which for a follower is the end of the workload.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub async fn next(&mut self) -> Option<Result<LogLine, Error>> {
        loop {
            match self.step() {
                Step::Line(line) => return Some(Ok(line)),
                Step::Wait => self.follow.as_mut()?.changed().await,
                Step::End => return None,
                Step::Failed(error) => return Some(Err(Error::host("reading a log")(error))),
            }
        }
    }

    /// The next line, if it is there already.
    pub fn ready(&mut self) -> Option<LogLine> {
        match self.step() {
            Step::Line(line) => Some(line),
            // Asked again, it is the same.
            Step::Wait | Step::End | Step::Failed(_) => None,
        }
    }

    fn step(&mut self) -> Step {
        while !self.over {
            // Asked before reading: what was written before the end is read before the stream ends.
            let over = self.follow.as_ref().is_none_or(|follow| ended(&follow.standing.borrow()));
            match self.reader.next_record() {
                Ok(Some(line)) if self.query.until.is_some_and(|until| line.at > until) => self.over = true,
                Ok(Some(line)) if self.wants(&line) => return Step::Line(line),
                Ok(Some(_)) => {}
                Ok(None) if over => return Step::End,
                Ok(None) => return Step::Wait,
                Err(error) => return Step::Failed(error),
            }
        }
        Step::End
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
            () = self.growing.changed() => {}
            _ = self.standing.changed() => {}
        }
    }
}

fn ended(standing: &Standing) -> bool {
    standing.removed || matches!(standing.phase, Phase::Exited { .. } | Phase::Removing | Phase::Created { .. })
}
