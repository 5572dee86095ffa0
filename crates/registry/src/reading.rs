//! A blob's bytes on their way out: a thread reads (and packs) them, pieces wait for the network.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_oci::{Digest, Hasher};
use atoll_store::{Packed, Store};
use bytes::Bytes;
use reqwest::Body;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Bytes that are read at a time.
const READ: usize = 256 << 10;
/// Reads that wait to be sent.
const QUEUED: usize = 4;

/// How long a reader may take to end when all has gone out.
const END_MAX: Duration = Duration::from_secs(10);

/// Bytes that have gone out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

type Piece = io::Result<Bytes>;
type Ended = Result<Option<(Digest, u64)>, atoll_store::Error>;

/// A blob that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pieces: Option<mpsc::Receiver<Piece>>,
    reader: JoinHandle<Ended>,
    count: Count,
    /// The reader stops when this is gone.
    wanted: oneshot::Sender<()>,
}

impl Reading {
    /// Starts to read from byte `from` on. `count` is told what goes out.
    pub(crate) fn start(store: &Store, packed: &Packed, from: u64, count: Count) -> Self {
        let (sender, pieces) = mpsc::channel(QUEUED);
        let (store, packed) = (store.clone(), packed.clone());
        let (wanted, unwanted) = oneshot::channel();
        let outlet = Outlet { sender, unwanted, runtime: Handle::current() };
        let reader = tokio::task::spawn_blocking(move || read(&store, &packed, from, outlet));
        Self { pieces: Some(pieces), reader, count, wanted }
    }

    /// The pieces as the body of a request.
    pub(crate) fn body(&mut self) -> Body {
        let Some(pieces) = self.pieces.take() else { return Body::default() };
        let next = |(mut pieces, count): (mpsc::Receiver<Piece>, Count)| async move {
            let piece = pieces.recv().await?;
            count.add(piece.as_ref().map_or(0, Bytes::len));
            Some((piece, (pieces, count)))
        };
        Body::wrap_stream(futures_util::stream::unfold((pieces, self.count.clone()), next))
    }

    /// The next `least` bytes or a little more; fewer at the end.
    pub(crate) async fn gather(&mut self, least: usize) -> Bytes {
        let mut gathered = Vec::new();
        while let Some(pieces) = &mut self.pieces
            && gathered.len() < least
        {
            match pieces.recv().await {
                Some(Ok(piece)) => gathered.extend_from_slice(&piece),
                // What is wrong the end tells.
                Some(Err(_)) | None => self.pieces = None,
            }
        }
        gathered.into()
    }

    /// Digest and length of all of it, once it was read to its end; `None` when it was not. `taken`: whether somebody has said
    /// that all of it came.
    pub(crate) async fn ended(self, taken: bool) -> Ended {
        drop(self.pieces);
        let wanted = taken.then_some(self.wanted);
        // One who says that it has all of it, and did not take all, is not waited for.
        let ended = tokio::time::timeout(END_MAX, self.reader).await;
        drop(wanted);
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(None),
        }
    }
}

/// Where a reader's pieces go.
struct Outlet {
    sender: mpsc::Sender<Piece>,
    unwanted: oneshot::Receiver<()>,
    runtime: Handle,
}

impl Outlet {
    /// False when nobody wants it any more.
    fn send(&mut self, piece: Piece) -> bool {
        let Self { sender, unwanted, runtime } = self;
        runtime.block_on(async {
            tokio::select! {
                sent = sender.send(piece) => sent.is_ok(),
                _ = unwanted => false,
            }
        })
    }
}

fn read(store: &Store, packed: &Packed, from: u64, mut to: Outlet) -> Ended {
    let read = read_checked(store, packed, from, &mut to);
    if read.is_err() {
        // The request must not take this for the end.
        to.send(Err(io::Error::other("the blob cannot be read")));
    }
    read
}

fn read_checked(store: &Store, packed: &Packed, from: u64, to: &mut Outlet) -> Ended {
    // What has no digest yet is read from its beginning to get one.
    let known = packed.descriptor();
    let mut at = if known.is_some() { from } else { 0 };
    let mut reader = store.read_packed(packed, at)?;
    let mut hasher = known.is_none().then(Hasher::sha256);
    loop {
        let mut piece = Vec::with_capacity(READ);
        (&mut reader).take(READ as u64).read_to_end(&mut piece).map_err(atoll_store::Error::Source)?;
        if piece.is_empty() {
            break;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        let skipped = from.saturating_sub(at).min(piece.len() as u64);
        at += piece.len() as u64;
        let mut piece = Bytes::from(piece);
        drop(piece.split_to(usize::try_from(skipped).unwrap_or(0)));
        if !piece.is_empty() && !to.send(Ok(piece)) {
            return Ok(None);
        }
    }
    Ok(match (known, hasher) {
        (Some(known), _) => Some((known.digest.clone(), known.size)),
        (None, hasher) => hasher.map(|hasher| (hasher.finish(), at)),
    })
}
