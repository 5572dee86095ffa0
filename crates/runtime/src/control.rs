//! The control connection: requests out, replies in the same order, events in between.
//!
//! One task owns the socket. Callers hand it a request with a place for the reply; what comes in is either an event, for
//! the [`Hub`], or the reply to the oldest request. When the supervisor closes the connection every waiting caller
//! learns that it is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use atoll_wall::frame::{Decoder, Kind, encode_message};
use atoll_wall::message::{Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::events::Hub;

/// Requests that may wait for the supervisor at a time; further callers wait for their turn.
const QUEUE: usize = 64;
const BLOCK: usize = 16 << 10;

type Answer = oneshot::Sender<Result<Reply, Error>>;

/// The callers' end.
#[derive(Debug)]
pub(crate) struct Control {
    requests: mpsc::Sender<(Vec<u8>, Answer)>,
}

impl Control {
    /// Starts the task on a connection whose next messages are replies and events. `decoder` holds what has been read
    /// beyond the greeting.
    pub(crate) fn new(stream: UnixStream, decoder: Decoder, hub: Arc<Hub>) -> Self {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let (reader, writer) = stream.into_split();
        let task = Task { reader, writer, decoder, waiting: VecDeque::new() };
        tokio::spawn(async move {
            if let Err(error) = task.run(incoming, &hub).await {
                tracing::warn!(%error, "the connection to a supervisor broke off");
            }
            hub.close();
        });
        Self { requests }
    }

    /// Asks and waits for the reply.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, Error> {
        let (answer, reply) = oneshot::channel();
        self.requests.send((encode_message(request), answer)).await.map_err(|_| Error::Gone)?;
        match reply.await.map_err(|_| Error::Gone)?? {
            Reply::Failed(failure) => Err(Error::Failed(failure)),
            reply => Ok(reply),
        }
    }
}

struct Task {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    decoder: Decoder,
    waiting: VecDeque<Answer>,
}

impl Task {
    async fn run(mut self, mut incoming: mpsc::Receiver<(Vec<u8>, Answer)>, hub: &Hub) -> Result<(), Error> {
        let mut block = vec![0; BLOCK];
        let mut asking = true;
        loop {
            while let Some(frame) = self.decoder.next_frame()? {
                if frame.kind != Kind::Message {
                    return Err(Error::Protocol("stream bytes on a control connection"));
                }
                self.take(frame.message()?, hub)?;
            }
            tokio::select! {
                request = incoming.recv(), if asking => match request {
                    Some((bytes, answer)) => {
                        self.waiting.push_back(answer);
                        // A supervisor that has ended may have left its last words: they are read before giving up.
                        asking = self.writer.write_all(&bytes).await.is_ok();
                    }
                    None => return Ok(()),
                },
                count = self.reader.read(&mut block) => match count {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(count) => self.decoder.push(&block[..count]),
                },
            }
        }
    }

    fn take(&mut self, reply: Reply, hub: &Hub) -> Result<(), Error> {
        match reply {
            Reply::Event(event) => hub.push(&event),
            reply => {
                let answer = self.waiting.pop_front().ok_or(Error::Protocol("a reply that nobody asked for"))?;
                // A caller that has given up needs no answer.
                drop(answer.send(Ok(reply)));
            }
        }
        Ok(())
    }
}
