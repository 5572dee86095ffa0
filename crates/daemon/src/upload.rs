//! A body that is read by work that blocks, while it is received.
//!
//! A body that nobody reads on is heard out all the same: a client that is still sending would be cut off before it sees why it
//! was refused.

use std::io::{self, Read};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

/// Bytes of an archive that may be sent: what a layer may have unpacked.
const ARCHIVE_MAX: u64 = 64 << 30;
/// Pieces of an archive that wait to be read.
const PIECES: usize = 16;

/// A body as what blocking code reads.
pub(crate) struct Upload {
    received: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    count: u64,
}

impl Upload {
    /// Of this body, which is received from now on.
    pub(crate) fn of(body: Body) -> Self {
        let (pieces, received) = mpsc::channel(PIECES);
        tokio::spawn(receive(body, pieces));
        Self { received, piece: Bytes::new(), count: 0 }
    }
}

async fn receive(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let mut pieces = Some(pieces);
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            // Trailers.
            Ok(Err(_)) => continue,
            Err(error) => Err(io::Error::other(error)),
        };
        let broken = piece.is_err();
        if let Some(wanted) = &pieces
            && wanted.send(piece).await.is_err()
        {
            // Whoever read has seen enough.
            pieces = None;
        }
        if broken {
            return;
        }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.received.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        self.count += count as u64;
        if self.count > ARCHIVE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("archive above {ARCHIVE_MAX} bytes")));
        }
        Ok(count)
    }
}
