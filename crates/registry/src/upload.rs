//! One blob on its way to a registry (distribution specification, "Pushing blobs").
//!
//! ```text
//!            POST                    PUT ?digest= with all of it
//!   nothing ─────► begun at a place ─────────────────────────────► there        a blob whose digest is known
//!              ▲         │ ▲  PATCH, as one stream or in pieces        ▲
//!              │         ▼ │                                           │
//!              │        so many bytes taken ───────────────────────────┘        PUT ?digest=
//!              │ lost          │ broken off
//!              └────────── GET: how far did it get?
//! ```
//!
//! What is packed on the way has no digest before its end and goes as a stream. After trouble the registry is asked how far it
//! got; where it does not say, the blob begins anew. Pieces are what a registry gets that takes no large bodies.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use atoll_oci::Digest;
use atoll_store::{Packed, Store};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Body, Client, Method, Response, StatusCode, Url};

use crate::Error;
use crate::pull::CONTENT_DIGEST;
use crate::reading::{Count, Reading};
use crate::retry::{PROGRESS, Tries};
use crate::session::{Ask, Session};

/// Bytes of a piece, for a registry that takes no large bodies; it may ask for more.
const PIECE: usize = 8 << 20;
/// Most bytes of a piece that a registry may ask for.
const PIECE_MAX: usize = 64 << 20;
/// How often it is looked how far it is.
const WATCH: Duration = Duration::from_millis(100);
/// How long nothing may move; a registry may have to put together what it got.
const STILL_MAX: Duration = Duration::from_secs(300);
/// What raw bytes are.
const OCTETS: &str = "application/octet-stream";
/// What a registry says of how small pieces may be (distribution specification, "Pushing a blob in chunks").
const PIECE_MIN: &str = "oci-chunk-min-length";

/// An upload that the registry has begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    /// Where it goes on.
    place: Url,
    /// Bytes that the registry has.
    taken: u64,
    /// Least bytes of a piece.
    piece_min: usize,
    /// Whether it is not known how far it got.
    unsure: bool,
}

impl Begun {
    /// Asks the registry to take a blob from another of its repositories: `None` when it did, and what it began where it would
    /// rather have the bytes.
    pub(crate) async fn mounted(session: &Session<'_>, digest: &Digest, from: &str) -> Result<Option<Self>, Error> {
        let mut url = session.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        match session.request(&post(url.clone())).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(None),
            Ok(response) => Self::at(session, &url, response.headers()).map(Some),
            // That repository is not ours to read.
            Err(Error::Denied { .. }) => Self::fresh(session).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn fresh(session: &Session<'_>) -> Result<Self, Error> {
        let url = session.url("blobs/uploads/")?;
        let response = session.once(&post(url.clone())).await?;
        Self::at(session, &url, response.headers())
    }

    /// Where an upload goes on by the answer to a request to `url`.
    fn at(session: &Session<'_>, url: &Url, headers: &HeaderMap) -> Result<Self, Error> {
        let place = session.location(url, headers)?.ok_or_else(|| session.protocol("begins an upload nowhere"))?;
        let piece_min = headers.get(PIECE_MIN).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        Ok(Self { place, taken: 0, piece_min, unsure: false })
    }
}

fn post<'a>(url: Url) -> Ask<'a> {
    Ask::new(Method::POST, url).header(CONTENT_LENGTH, "0")
}

/// A blob to send.
pub(crate) struct Upload<'a> {
    session: &'a Session<'a>,
    client: Client,
    store: &'a Store,
    packed: &'a Packed,
    report: &'a (dyn Fn(u64) + Sync),
    begun: Option<Begun>,
    in_pieces: bool,
}

impl<'a> Upload<'a> {
    /// `begun` is what the registry may have begun already.
    pub(crate) fn new(
        session: &'a Session<'a>,
        (store, packed): (&'a Store, &'a Packed),
        begun: Option<Begun>,
        report: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Self, Error> {
        Ok(Self { session, client: session.sending_client()?, store, packed, report, begun, in_pieces: false })
    }

    /// Sends it; its digest and length.
    pub(crate) async fn run(mut self) -> Result<(Digest, u64), Error> {
        let mut tries = Tries::default();
        let mut furthest = 0;
        loop {
            let error = match self.attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let taken = self.begun.as_ref().map_or(0, |begun| begun.taken);
            if taken >= furthest + PROGRESS {
                furthest = taken;
                tries.progressed();
            }
            // A registry that hangs up on large bodies may mean what others say by a status.
            self.in_pieces |= error.is_status(StatusCode::PAYLOAD_TOO_LARGE) || tries.failed() > 0;
            let lost = is_lost(&error);
            if lost {
                self.begun = None;
            }
            let may_pass = lost || error.is_transient();
            tries.pause(error, may_pass).await?;
        }
    }

    /// Goes on from where it is, to the end.
    async fn attempt(&mut self) -> Result<(Digest, u64), Error> {
        let begun = match self.begun.clone() {
            Some(begun) if begun.unsure => self.asked(begun).await?,
            Some(begun) => begun,
            None => Begun::fresh(self.session).await?,
        };
        self.begun = Some(Begun { unsure: true, ..begun.clone() });
        let known = self.packed.descriptor().cloned();
        match known {
            Some(known) if begun.taken == 0 && !self.in_pieces => {
                self.whole(&begun, known.size, &known.digest).await?;
                Ok((known.digest, known.size))
            }
            _ => {
                let (digest, size) =
                    if self.in_pieces { self.pieces(begun).await? } else { self.stream(begun).await? };
                self.finish(&digest, size).await?;
                Ok((digest, size))
            }
        }
    }

    /// How far the registry got, by its own words.
    async fn asked(&self, begun: Begun) -> Result<Begun, Error> {
        let response = self.session.once(&Ask::new(Method::GET, begun.place.clone())).await?;
        let place = self.session.location(&begun.place, response.headers())?.unwrap_or(begun.place);
        let taken = taken(&response).unwrap_or(0);
        if self.packed.descriptor().is_some_and(|known| taken > known.size) {
            return Err(self.session.protocol("has more of a blob than there is"));
        }
        Ok(Begun { place, taken, piece_min: begun.piece_min, unsure: false })
    }

    /// All of it in one request.
    async fn whole(&self, begun: &Begun, size: u64, digest: &Digest) -> Result<(), Error> {
        let count = Count::default();
        let reading = Mutex::new(None);
        let body = || self.body(0, &count, &reading);
        let ask = Ask::new(Method::PUT, with_digest(&begun.place, digest)).body(&body);
        let ask = ask.header(CONTENT_LENGTH, &size.to_string()).header(CONTENT_TYPE, OCTETS);
        let sent = self.watched(ask, 0, &count).await;
        self.read(&reading, sent.is_ok()).await?;
        self.check_end(&sent?, digest)
    }

    /// What is left of it as one stream.
    async fn stream(&mut self, begun: Begun) -> Result<(Digest, u64), Error> {
        let count = Count::default();
        let reading = Mutex::new(None);
        let body = || self.body(begun.taken, &count, &reading);
        let ask = Ask::new(Method::PATCH, begun.place.clone()).body(&body).header(CONTENT_TYPE, OCTETS);
        let sent = self.watched(ask, begun.taken, &count).await;
        let read = self.read(&reading, sent.is_ok()).await?;
        let response = sent?;
        let (digest, size) = read.ok_or_else(|| self.session.protocol("takes less than there is"))?;
        self.took(begun, &response, size)?;
        Ok((digest, size))
    }

    /// What is left of it, a request for each piece.
    async fn pieces(&mut self, mut begun: Begun) -> Result<(Digest, u64), Error> {
        let count = Count::default();
        let mut reading = Reading::start(self.store, self.packed, begun.taken, count.clone());
        let least = PIECE.max(begun.piece_min);
        if least > PIECE_MAX {
            return Err(self.session.protocol("asks for larger pieces than are sent"));
        }
        loop {
            let piece = reading.gather(least).await;
            if piece.is_empty() {
                break;
            }
            let to = begun.taken + piece.len() as u64;
            let body = || Body::from(piece.clone());
            let ask = Ask::new(Method::PATCH, begun.place.clone()).body(&body).header(CONTENT_TYPE, OCTETS);
            let ask = ask.header(CONTENT_RANGE, &format!("{}-{}", begun.taken, to - 1));
            let response = self.watched(ask, begun.taken, &Count::default()).await?;
            begun = self.took(begun, &response, to)?;
            (self.report)(to);
        }
        let read = reading.ended(true).await.map_err(Error::store("what is pushed"))?;
        read.ok_or_else(|| self.session.protocol("takes less than there is"))
    }

    /// The registry has taken a part, up to byte `to`.
    fn took(&mut self, begun: Begun, response: &Response, to: u64) -> Result<Begun, Error> {
        if taken(response).is_some_and(|taken| taken != to) {
            return Err(self.session.protocol("takes other bytes than it is sent"));
        }
        let place = self.session.location(&begun.place, response.headers())?.unwrap_or(begun.place);
        let begun = Begun { place, taken: to, ..begun };
        self.begun = Some(Begun { unsure: true, ..begun.clone() });
        Ok(begun)
    }

    /// Says that all has come, and what it is.
    async fn finish(&self, digest: &Digest, size: u64) -> Result<(), Error> {
        let begun = self.begun.as_ref().filter(|begun| begun.taken == size);
        let begun = begun.ok_or_else(|| self.session.protocol("has more of a blob than there is"))?;
        let ask = Ask::new(Method::PUT, with_digest(&begun.place, digest)).header(CONTENT_LENGTH, "0");
        let response = self.watched(ask, size, &Count::default()).await?;
        self.check_end(&response, digest)
    }

    fn check_end(&self, response: &Response, digest: &Digest) -> Result<(), Error> {
        if response.status() == StatusCode::ACCEPTED {
            return Err(self.session.protocol("does not finish an upload"));
        }
        let said = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match said {
            Some(said) if said.algorithm() == digest.algorithm() && said != *digest => {
                Err(self.session.protocol("calls a blob otherwise than it is called"))
            }
            _ => Ok(()),
        }
    }

    /// A body of the bytes from `from` on; what reads them is put into `slot`.
    fn body(&self, from: u64, count: &Count, slot: &Mutex<Option<Reading>>) -> Body {
        count.reset();
        let mut reading = Reading::start(self.store, self.packed, from, count.clone());
        let body = reading.body();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        body
    }

    /// What came of the reading, where that matters more than what came of the sending: a disk that fails is why a transfer
    /// breaks off.
    async fn read(&self, slot: &Mutex<Option<Reading>>, sent: bool) -> Result<Option<(Digest, u64)>, Error> {
        let reading = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(reading) = reading else { return Ok(None) };
        reading.ended(sent).await.map_err(Error::store("what is pushed"))
    }

    /// One request, while which progress is reported; one that stands still for too long is given up.
    async fn watched(&self, mut ask: Ask<'_>, from: u64, count: &Count) -> Result<Response, Error> {
        ask.client = Some(&self.client);
        let answer = self.session.once(&ask);
        tokio::pin!(answer);
        let (mut last, mut since) = (0, tokio::time::Instant::now());
        loop {
            tokio::select! {
                done = &mut answer => return done,
                () = tokio::time::sleep(WATCH) => {}
            }
            let now = count.get();
            if now != last {
                (last, since) = (now, tokio::time::Instant::now());
                (self.report)(from + now);
            } else if since.elapsed() > STILL_MAX {
                return Err(self.session.protocol("takes nothing and says nothing"));
            }
        }
    }
}

/// Whether the upload is lost to the registry, so that a new one may go well.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Protocol { .. } => true,
        Error::Status { status, .. } => matches!(status.as_u16(), 400 | 404 | 413 | 416),
        _ => false,
    }
}

/// How many bytes a registry says that it has: `Range: 0-LAST`. Some say `0-0` when they have none.
fn taken(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse().ok()?;
    if last == 0 { None } else { last.checked_add(1) }
}

fn with_digest(place: &Url, digest: &Digest) -> Url {
    let mut url = place.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}
