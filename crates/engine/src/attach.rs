//! A client coupled to a workload's streams, from the first byte on.
//!
//! A client usually attaches before it starts the workload, when nothing is there to be coupled to: it then gets an
//! [`Attachment`] that is still waiting, and the start couples it before the program is let go.
//!
//! A client that wants what was written before, too, reads the log: while the workload runs, all of its output comes from
//! there, so that no line is lost or doubled between the two.

use std::sync::Arc;

use atoll_model::Refused;
use tokio::sync::oneshot;

use crate::entry::{Coupled, Entry};
use crate::runtime::{self, Chunk, Handle, StreamReader, StreamWriter};
use crate::{Engine, Error, LogQuery, LogStream, WaitCondition, host};

pub use crate::runtime::Attach;

/// A client that attached before the start.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) attach: Attach,
    pub(crate) input: oneshot::Sender<StreamWriter>,
    pub(crate) output: oneshot::Sender<Output>,
}

/// What is read of a workload's output, and who is to have it.
#[derive(Debug)]
pub(crate) struct Output {
    reader: StreamReader,
    _coupled: Coupled,
}

/// What an attached client's output begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// What is written from now on.
    Now,
    /// What was written before.
    Log,
    /// What was written before, and that is all.
    LogAlone,
}

/// Both directions of a coupled client.
#[derive(Debug)]
pub struct Attachment {
    /// Whether the streams are a terminal: one output, no framing for the client.
    pub terminal: bool,
    /// Towards standard input.
    pub input: AttachInput,
    /// From standard output and standard error.
    pub output: AttachOutput,
    /// To be told when the client types its detach keys.
    pub origin: Origin,
}

/// What a client is coupled to.
#[derive(Clone, Debug)]
pub struct Origin {
    engine: Engine,
    entry: Arc<Entry>,
    /// The exec session, where it is one.
    exec: Option<String>,
}

/// The direction towards standard input.
#[derive(Debug)]
pub struct AttachInput(Half<StreamWriter>);

/// The direction from standard output and standard error.
#[derive(Debug)]
pub struct AttachOutput {
    /// What comes first.
    log: Option<LogStream>,
    half: Half<Output>,
    /// Of an exec session: its end is told by its streams, or by its supervisor's other connection, whichever is first.
    session: Option<Origin>,
}

#[derive(Debug)]
enum Half<T> {
    Waiting(oneshot::Receiver<T>),
    Open(T),
    Closed,
}

impl Attachment {
    fn new(origin: Origin, input: Half<StreamWriter>, output: Half<Output>) -> Self {
        Self {
            terminal: origin.entry.workload().command.terminal,
            input: AttachInput(input),
            output: AttachOutput { log: None, half: output, session: None },
            origin,
        }
    }

    /// Of an exec session.
    pub(crate) fn of_session(terminal: bool, (writer, reader): (StreamWriter, StreamReader), origin: Origin) -> Self {
        let session = Some(origin.clone());
        let half = Half::Open(Output::new(reader, &origin.entry));
        let output = AttachOutput { log: None, half, session };
        Self { terminal, input: AttachInput(Half::Open(writer)), output, origin }
    }

    fn waiting(origin: Origin, attach: Attach) -> (Self, Waiting) {
        let (input, input_later) = oneshot::channel();
        let (output, output_later) = oneshot::channel();
        let attachment = Self::new(origin, Half::Waiting(input_later), Half::Waiting(output_later));
        (attachment, Waiting { attach, input, output })
    }

    fn after(mut self, log: LogStream) -> Self {
        self.output.log = Some(log);
        self
    }
}

impl Output {
    pub(crate) fn new(reader: StreamReader, entry: &Arc<Entry>) -> Self {
        Self { reader, _coupled: Coupled::new(entry) }
    }
}

impl Origin {
    pub(crate) const fn new(engine: Engine, entry: Arc<Entry>, exec: Option<String>) -> Self {
        Self { engine, entry, exec }
    }

    /// Says that the client detached; what it was coupled to goes on.
    pub fn detached(&self) {
        match &self.exec {
            Some(id) => self.engine.say(&self.entry, "exec_detach", &[("execID", id.clone())]),
            None => self.engine.say(&self.entry, "detach", &[]),
        }
    }
}

impl<T> Half<T> {
    /// The open half, after waiting for the start if need be; `None` when there was none, or all is over.
    async fn get(&mut self) -> Option<&mut T> {
        if let Self::Waiting(later) = self {
            *self = match later.await {
                Ok(half) => Self::Open(half),
                Err(_) => Self::Closed,
            };
        }
        match self {
            Self::Open(half) => Some(half),
            _ => None,
        }
    }
}

impl AttachInput {
    /// Hands bytes on; returns when the supervisor has taken them over.
    ///
    /// # Errors
    /// When the workload has ended, or was never started.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.0.get().await {
            Some(writer) => Ok(writer.write(bytes).await?),
            None => Err(Error::Driver(runtime::Error::gone())),
        }
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// When the workload has ended, or was never started.
    pub async fn close(mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.0, Half::Closed) {
            Half::Open(writer) => Ok(writer.close().await?),
            Half::Waiting(later) => match later.await {
                Ok(writer) => Ok(writer.close().await?),
                Err(_) => Ok(()),
            },
            Half::Closed => Ok(()),
        }
    }
}

impl AttachOutput {
    /// The next bytes; `None` when everything that was written has been delivered and nothing more will come.
    pub async fn next(&mut self) -> Option<Chunk> {
        if let Some(log) = &mut self.log {
            match log.next().await {
                Some(Ok(line)) => return Some(Chunk { stream: line.stream, bytes: line.bytes }),
                Some(Err(error)) => tracing::warn!(%error, "a log cannot be read on"),
                None => {}
            }
            self.log = None;
        }
        let reader = &mut self.half.get().await?.reader;
        match reader.next().await {
            Ok(Some(chunk)) => return Some(chunk),
            Ok(None) => {
                // Whoever asks how the session ended after its streams did is to get an answer.
                if let (Some(Origin { engine, entry, exec: Some(id) }), Some(exit)) =
                    (self.session.take(), reader.exit())
                {
                    engine.exec_ended(&entry, &id, exit);
                }
            }
            Err(error) => tracing::warn!(%error, "an attached stream broke off"),
        }
        // Whoever waits for the end may be told of it now.
        self.half = Half::Closed;
        None
    }
}

impl Engine {
    /// Couples a client to a workload's streams: at once when it runs, at its next start otherwise.
    ///
    /// # Errors
    /// When there is no such workload, it is being removed, or its log cannot be read.
    pub async fn attach(&self, name: &str, attach: Attach, begin: Begin) -> Result<Attachment, Error> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        let origin = Origin::new(self.clone(), Arc::clone(&entry), None);
        let query = LogQuery { stdout: attach.stdout, stderr: attach.stderr, ..LogQuery::default() };
        let id = entry.id.as_str();
        let attachment = match (begin, entry.running()) {
            (Begin::LogAlone, _) => {
                Attachment::new(origin, Half::Closed, Half::Closed).after(self.logs(id, query).await?)
            }
            (_, Err(error @ Error::Refused { reason: Refused::Restarting, .. })) => return Err(error),
            (Begin::Now, Ok(handle)) => match couple(&entry, &handle, attach).await? {
                Some((writer, output)) => Attachment::new(origin, Half::Open(writer), Half::Open(output)),
                None => attach_later(origin, attach),
            },
            (Begin::Log, Ok(handle)) => {
                let log = self.logs(id, LogQuery { follow: true, ..query }).await?;
                let stdin = Attach { stdout: false, stderr: false, ..attach };
                match couple(&entry, &handle, stdin).await? {
                    Some((writer, output)) => Attachment::new(origin, Half::Open(writer), Half::Open(output)),
                    None => attach_later(origin, attach),
                }
                .after(log)
            }
            (Begin::Now, Err(_)) => attach_later(origin, attach),
            (Begin::Log, Err(_)) => {
                // Nothing is written before the next start, which waits for this operation.
                let log = self.logs(id, LogQuery { until: Some(host::now()), ..query }).await?;
                attach_later(origin, attach).after(log)
            }
        };
        self.say(&entry, "attach", &[]);
        Ok(attachment)
    }
}

/// The streams of a workload that runs; none when it ended a moment ago, once that is known.
async fn couple(entry: &Arc<Entry>, handle: &Handle, attach: Attach) -> Result<Option<(StreamWriter, Output)>, Error> {
    match handle.attach(attach).await {
        Err(error) if error.is_gone() => {
            entry.wait(WaitCondition::NotRunning).ended().await;
            Ok(None)
        }
        coupled => coupled.map(|(writer, reader)| Some((writer, Output::new(reader, entry)))).map_err(Error::from),
    }
}

/// A client that waits for the start.
fn attach_later(origin: Origin, attach: Attach) -> Attachment {
    let entry = Arc::clone(&origin.entry);
    let (attachment, waiting) = Attachment::waiting(origin, attach);
    entry.push_waiting(waiting);
    attachment
}
