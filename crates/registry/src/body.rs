//! A blob on its way: pieces come from the network, a blocking reader takes them.
//!
//! A transfer that breaks off is taken up again where it was (RFC 9110, section 14.2), or from the start where the server
//! does not do ranges, whose first bytes are then thrown away. Whether the bytes are the right ones the store checks.

use std::io::{self, Read};

use atoll_oci::Descriptor;
use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::mpsc;

use crate::Error;
use crate::session::{ATTEMPTS_MAX, Session, pause};

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

/// Sends a blob's bytes to its reader; ends early, without an error, when the reader has seen enough.
pub(crate) async fn feed(
    session: &Session<'_>,
    blob: &Descriptor,
    sender: Sender,
    report: impl Fn(u64),
) -> Result<(), Error> {
    let mut done = 0;
    for attempt in 1.. {
        match feed_once(session, blob, &sender, &mut done, &report).await {
            // It broke off when everything had come.
            Err(_) if done == blob.size => break,
            Err(Error::Unreachable { .. }) if attempt < ATTEMPTS_MAX => pause(attempt, None).await,
            Err(error) => {
                // The reader must not take this for the end of the blob.
                drop(sender.send(Err(io::Error::other("the transfer broke off"))).await);
                return Err(error);
            }
            Ok(()) => break,
        }
    }
    Ok(())
}

async fn feed_once(
    session: &Session<'_>,
    blob: &Descriptor,
    sender: &Sender,
    done: &mut u64,
    report: &impl Fn(u64),
) -> Result<(), Error> {
    let mut response = session.get(&format!("blobs/{}", blob.digest), &[], *done).await?;
    let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { *done };
    while let Some(mut piece) = response.chunk().await.map_err(|source| session.unreachable(source))? {
        let skipped = skip.min(piece.len() as u64);
        skip -= skipped;
        drop(piece.split_to(usize::try_from(skipped).unwrap_or(0)));
        if piece.is_empty() {
            continue;
        }
        let before = *done;
        *done += piece.len() as u64;
        if before / REPORT_EVERY != *done / REPORT_EVERY {
            report((*done).min(blob.size));
        }
        if sender.send(Ok(piece)).await.is_err() || *done > blob.size {
            return Ok(());
        }
    }
    Ok(())
}
