//! A client coupled to a workload's streams, from the first byte on.
//!
//! A client usually attaches before it starts the workload, when nothing is there to be coupled to: it then gets an
//! [`Attachment`] that is still waiting, and the start couples it before the program is let go.

use std::sync::Arc;

use atoll_model::Refused;
use tokio::sync::oneshot;

use crate::entry::Entry;
use crate::runtime::{self, Chunk, StreamReader, StreamWriter};
use crate::{Engine, Error};

pub use crate::runtime::Attach;

/// A client that attached before the start.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) attach: Attach,
    pub(crate) input: oneshot::Sender<StreamWriter>,
    pub(crate) output: oneshot::Sender<StreamReader>,
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
}

/// The direction towards standard input.
#[derive(Debug)]
pub struct AttachInput(Half<StreamWriter>);

/// The direction from standard output and standard error.
#[derive(Debug)]
pub struct AttachOutput {
    half: Half<StreamReader>,
    /// The exec session that these are the streams of.
    session: Option<Session>,
}

/// An exec session whose end its streams may tell before its supervisor's other connection does.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) entry: Arc<Entry>,
    pub(crate) id: String,
}

#[derive(Debug)]
enum Half<T> {
    Waiting(oneshot::Receiver<T>),
    Open(T),
    Closed,
}

impl Attachment {
    pub(crate) fn open(terminal: bool, (writer, reader): (StreamWriter, StreamReader)) -> Self {
        let output = AttachOutput { half: Half::Open(reader), session: None };
        Self { terminal, input: AttachInput(Half::Open(writer)), output }
    }

    /// Of an exec session.
    pub(crate) fn of_session(terminal: bool, streams: (StreamWriter, StreamReader), session: Session) -> Self {
        let mut attachment = Self::open(terminal, streams);
        attachment.output.session = Some(session);
        attachment
    }

    fn waiting(terminal: bool, attach: Attach) -> (Self, Waiting) {
        let (input, input_later) = oneshot::channel();
        let (output, output_later) = oneshot::channel();
        let attachment = Self {
            terminal,
            input: AttachInput(Half::Waiting(input_later)),
            output: AttachOutput { half: Half::Waiting(output_later), session: None },
        };
        (attachment, Waiting { attach, input, output })
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
        let reader = self.half.get().await?;
        match reader.next().await {
            Ok(Some(chunk)) => Some(chunk),
            Ok(None) => {
                // Whoever asks how the session ended after its streams did is to get an answer.
                if let (Some(session), Some(exit)) = (self.session.take(), reader.exit()) {
                    session.engine.exec_ended(&session.entry, &session.id, exit);
                }
                None
            }
            Err(error) => {
                tracing::warn!(%error, "an attached stream broke off");
                None
            }
        }
    }
}

impl Engine {
    /// Couples a client to a workload's streams: at once when it runs, at its next start otherwise.
    ///
    /// # Errors
    /// When there is no such workload, or it is being removed.
    pub async fn attach(&self, name: &str, attach: Attach) -> Result<Attachment, Error> {
        let entry = self.find(name)?;
        let terminal = entry.workload().command.terminal;
        let _operation = entry.operation.lock().await;
        match entry.running() {
            Ok(handle) => return Ok(Attachment::open(terminal, handle.attach(attach).await?)),
            Err(error @ Error::Refused { reason: Refused::Restarting, .. }) => return Err(error),
            Err(_) => {}
        }
        let (attachment, waiting) = Attachment::waiting(terminal, attach);
        entry.push_waiting(waiting);
        Ok(attachment)
    }
}
