//! A blob on its way: pieces come from the network, a blocking reader takes them.
//!
//! A transfer that breaks off is taken up again where it was (RFC 9110, section 14.2), or from the start where the server
//! does not do ranges, whose first bytes are then thrown away. Whether the bytes are the right ones the store checks.

use std::io::{self, Read};

use atoll_oci::Descriptor;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::Error;
use crate::retry::{PROGRESS, Tries};
use crate::session::Session;

/// Pieces that wait for the reader.
const PIECES: usize = 32;

/// Bytes after which progress is reported.
const REPORT_EVERY: u64 = 512 << 10;

/// The blocking end.
#[derive(Debug)]
pub(crate) struct Reader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

/// The network's end.
pub(crate) type Sender = mpsc::Sender<io::Result<Bytes>>;

pub(crate) fn channel() -> (Sender, Reader) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (sender, Reader { pieces, piece: Bytes::new() })
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Sends a blob's bytes from byte `from` on to its reader; ends early, without an error, when the reader has seen enough.
pub(crate) async fn feed(
    session: &Session<'_>,
    blob: &Descriptor,
    from: u64,
    sender: Sender,
    report: impl Fn(u64),
) -> Result<(), Error> {
    let mut feed = Feed { session, blob, sender, done: from, report };
    let mut tries = Tries::default();
    let mut counted = from;
    loop {
        let error = match feed.once().await {
            Ok(()) => return Ok(()),
            // It broke off when everything had come.
            Err(_) if feed.done == blob.size => return Ok(()),
            Err(error) => error,
        };
        if feed.done - counted >= PROGRESS {
            counted = feed.done;
            tries.progressed();
        }
        let may_pass = error.is_transient();
        if let Err(error) = tries.pause(error, may_pass).await {
            // The reader must not take this for the end of the blob.
            drop(feed.sender.send(Err(io::Error::other("the transfer broke off"))).await);
            return Err(error);
        }
    }
}

/// A blob under way to its reader.
struct Feed<'a, R> {
    session: &'a Session<'a>,
    blob: &'a Descriptor,
    sender: Sender,
    /// Bytes that the reader has.
    done: u64,
    report: R,
}

impl<R: Fn(u64)> Feed<'_, R> {
    async fn once(&mut self) -> Result<(), Error> {
        let mut response = self.session.get_once(&format!("blobs/{}", self.blob.digest), &[], self.done).await?;
        let mut skip = self.to_skip(&response)?;
        while let Some(mut piece) = response.chunk().await.map_err(|source| self.session.unreachable(source))? {
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            drop(piece.split_to(usize::try_from(skipped).unwrap_or(0)));
            if piece.is_empty() {
                continue;
            }
            let before = self.done;
            self.done += piece.len() as u64;
            if before / REPORT_EVERY != self.done / REPORT_EVERY {
                (self.report)(self.done.min(self.blob.size));
            }
            if self.sender.send(Ok(piece)).await.is_err() || self.done > self.blob.size {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many bytes of an answer the reader has already.
    fn to_skip(&self, response: &Response) -> Result<u64, Error> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.done);
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        if start == Some(self.done) {
            Ok(0)
        } else {
            Err(self.session.protocol("gives another part than it was asked for"))
        }
    }
}
