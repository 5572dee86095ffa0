//! Archives on their way out: what blocking work writes, piece by piece, to whoever asked for it.
//!
//! A few pieces wait for a slow reader and the work waits with them; when the reader leaves, the work is told by a broken pipe.

use std::io::{self, BufWriter, Write};

use tokio::sync::mpsc;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const QUEUED: usize = 4;

/// The bytes of an archive, piece by piece.
#[derive(Debug)]
pub struct ByteStream {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
}

/// Where the bytes of an archive are written.
#[derive(Debug)]
pub(crate) struct ByteSink {
    pieces: mpsc::Sender<io::Result<Vec<u8>>>,
}

/// Both ends.
pub(crate) fn pipe() -> (ByteSink, ByteStream) {
    let (sender, receiver) = mpsc::channel(QUEUED);
    (ByteSink { pieces: sender }, ByteStream { pieces: receiver })
}

impl ByteStream {
    /// The next piece; `None` at the end. After an error nothing follows, and what came before is no whole archive.
    pub async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.pieces.recv().await
    }
}

impl ByteSink {
    /// Has `work` write the whole archive; its failure is what the reader gets last.
    pub(crate) fn fill<E: std::error::Error>(
        self,
        work: impl FnOnce(&mut BufWriter<Self>) -> Result<(), E>,
    ) -> Result<(), E> {
        let told = self.pieces.clone();
        let mut writer = BufWriter::with_capacity(PIECE, self);
        let result = work(&mut writer);
        if let Err(error) = &result {
            // A reader that has left does not want to know.
            drop(told.blocking_send(Err(io::Error::other(error.to_string()))));
        }
        result
    }
}

impl Write for ByteSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.pieces.blocking_send(Ok(bytes.to_vec())).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
