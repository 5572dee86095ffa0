//! A connection that was HTTP and now carries a workload's streams.
//!
//! Ending one direction without the other (half-close) is what ends a program's standard input while its output goes
//! on, so the halves are those of the socket itself.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::Error;

const BLOCK: usize = 64 << 10;

/// What comes from the workload.
#[derive(Debug)]
pub struct HijackReader {
    /// What came together with the HTTP answer.
    first: Bytes,
    half: OwnedReadHalf,
    block: Vec<u8>,
}

/// What goes to the workload.
#[derive(Debug)]
pub struct HijackWriter(OwnedWriteHalf);

pub(crate) fn split(upgraded: Upgraded) -> Result<(HijackReader, HijackWriter), Error> {
    let parts = upgraded
        .downcast::<TokioIo<UnixStream>>()
        .map_err(|_| Error::broken("the hijacked connection is no unix socket"))?;
    let (reader, writer) = parts.io.into_inner().into_split();
    Ok((HijackReader { first: parts.read_buf, half: reader, block: vec![0; BLOCK] }, HijackWriter(writer)))
}

impl HijackReader {
    /// The next bytes; empty at the end.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn read(&mut self) -> Result<Bytes, Error> {
        if !self.first.is_empty() {
            return Ok(std::mem::take(&mut self.first));
        }
        let count = self.half.read(&mut self.block).await.map_err(Error::broken)?;
        Ok(Bytes::copy_from_slice(&self.block[..count]))
    }
}

impl HijackWriter {
    /// Sends bytes.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write_all(bytes).await.map_err(Error::broken)
    }

    /// Ends this direction.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn close(mut self) -> Result<(), Error> {
        self.0.shutdown().await.map_err(Error::broken)
    }
}
