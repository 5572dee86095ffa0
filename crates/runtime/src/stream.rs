//! A workload's (or exec session's) standard streams over a connection of their own.
//!
//! Bytes go in as [`StreamWriter::write`] and come out as [`Chunk`]s; the last message is the exit, after all output.
//! Backpressure is the socket's: who does not read stops the workload's writing in the end.

use atoll_model::Exit;
use atoll_wall::frame::{Decoder, Kind, STREAM_MAX, header};
use atoll_wall::log::Stream;
use atoll_wall::message::{Event, Reply};
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::Error;

const BLOCK: usize = 64 << 10;

/// Bytes that a program wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// To which stream; a terminal's are all standard output.
    pub stream: Stream,
    /// What.
    pub bytes: Vec<u8>,
}

/// The direction towards standard input. Dropping it does not end standard input; [`StreamWriter::close`] does.
#[derive(Debug)]
pub struct StreamWriter {
    half: Option<OwnedWriteHalf>,
    /// Framed bytes that a cancelled `write` left over: sent first by the next.
    pending: Vec<u8>,
}

/// The direction from standard output and standard error. Dropping it ends the connection.
#[derive(Debug)]
pub struct StreamReader {
    half: OwnedReadHalf,
    decoder: Decoder,
    block: Vec<u8>,
    exit: Option<Exit>,
}

/// Splits a connection that has been answered well; `decoder` holds what was read beyond the answer.
pub(crate) fn split(stream: UnixStream, decoder: Decoder) -> (StreamWriter, StreamReader) {
    let (reader, writer) = stream.into_split();
    (
        StreamWriter { half: Some(writer), pending: Vec::new() },
        StreamReader { half: reader, decoder, block: vec![0; BLOCK], exit: None },
    )
}

impl StreamWriter {
    /// Hands bytes over to the supervisor; waits while the program does not read. If the future is dropped, the bytes
    /// still go, with the next call.
    ///
    /// # Errors
    /// [`Error::Gone`] when the session has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for chunk in bytes.chunks(STREAM_MAX) {
            self.send(chunk).await?;
        }
        Ok(())
    }

    /// Ends standard input (of a program with a terminal: only where it closes with its first client).
    ///
    /// # Errors
    /// [`Error::Gone`] when the session has ended.
    pub async fn close(mut self) -> Result<(), Error> {
        self.send(&[]).await
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.pending.extend_from_slice(&header(Kind::Stdin, payload.len()));
        self.pending.extend_from_slice(payload);
        let half = self.half.as_mut().ok_or(Error::Gone)?;
        while !self.pending.is_empty() {
            let count = half.write(&self.pending).await.map_err(|_| Error::Gone)?;
            self.pending.drain(..count);
        }
        Ok(())
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        // Without this, tokio would shut down the direction, and the supervisor would take that for the client's end.
        if let Some(half) = self.half.take() {
            half.forget();
        }
    }
}

impl StreamReader {
    /// The next bytes; `None` when everything has been delivered and the program has ended. May be cancelled.
    ///
    /// # Errors
    /// [`Error::Gone`] when the supervisor broke off without saying how the program ended.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if self.exit.is_some() {
                return Ok(None);
            }
            if let Some(frame) = self.decoder.next_frame()? {
                let stream = match frame.kind {
                    Kind::Stdout => Stream::Stdout,
                    Kind::Stderr => Stream::Stderr,
                    Kind::Stdin => return Err(Error::Protocol("standard input from a supervisor")),
                    Kind::Message => {
                        self.exit = Some(exit_of(&frame.message()?)?);
                        continue;
                    }
                };
                return Ok(Some(Chunk { stream, bytes: frame.payload }));
            }
            match self.half.read(&mut self.block).await {
                Ok(0) | Err(_) => return Err(Error::Gone),
                Ok(count) => self.decoder.push(&self.block[..count]),
            }
        }
    }

    /// How the program ended, once [`StreamReader::next`] has returned `None`.
    #[must_use]
    pub const fn exit(&self) -> Option<Exit> {
        self.exit
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        // The writing half may live on; output that nobody reads must not stop the program.
        let stream: &UnixStream = self.half.as_ref();
        // It fails only when the supervisor has gone first.
        let _ = shutdown(stream, Shutdown::Both);
    }
}

fn exit_of(reply: &Reply) -> Result<Exit, Error> {
    match reply {
        Reply::Event(Event::Exited { exit, .. } | Event::ExecExited { exit, .. }) => Ok(*exit),
        _ => Err(Error::Protocol("a reply on a stream connection")),
    }
}
