//! A connection that was HTTP and now carries a workload's streams.
//!
//! With a terminal the bytes go as they are; otherwise each piece of output has an eight-byte header with its stream and
//! length. The client may end its direction and still read; when it ends both, it is gone, and the workload goes on.
//! Nothing is kept for a client that does not read: its workload waits for it, as for any reader of a pipe.

use atoll_api::docker::{self, DetachKeys, Detacher, MULTIPLEXED_STREAM, RAW_STREAM, Scanned};
use atoll_engine::{AttachInput, AttachOutput, Attachment, Chunk, Stream};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::answer::{Answer, Refusal, pieces};
use crate::stream::{Stream as Connection, Watch};

/// Bytes taken from a client at a time.
const BLOCK: usize = 32 << 10;

/// What the client wants of the connection.
#[derive(Debug)]
pub(crate) struct Wish {
    upgrade: Option<OnUpgrade>,
    stdin: bool,
    keys: DetachKeys,
}

impl Wish {
    /// Takes the connection out of a request. `keys` is the `detachKeys` parameter.
    pub(crate) fn of(request: &mut Request, stdin: bool, keys: &str) -> Answer<Self> {
        let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(request));
        if upgrade.is_none() && stdin {
            return Err(Refusal::bad(
                "attaching to standard input needs the headers Connection: Upgrade, Upgrade: tcp",
            ));
        }
        Ok(Self { upgrade, stdin, keys: keys.parse()? })
    }

    /// Couples the client: the answer, after which the connection is the workload's.
    pub(crate) fn couple(self, attachment: Attachment) -> Response {
        let terminal = attachment.terminal;
        let kind = if terminal { RAW_STREAM } else { MULTIPLEXED_STREAM };
        let Some(upgrade) = self.upgrade else {
            // An old client reads the output as the body of an ordinary answer.
            let body = pieces(attachment.output, move |mut output| async move {
                let chunk = output.next().await?;
                Some((encode(terminal, &chunk), output))
            });
            return ([(header::CONTENT_TYPE, kind)], body).into_response();
        };
        let (stdin, keys) = (self.stdin, self.keys);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (source, sink) = ends(upgraded, terminal);
                    carry(source, sink, attachment, stdin.then_some(keys)).await;
                }
                Err(error) => left_early(&error),
            }
        });
        switching(kind)
    }

    /// Couples the client to what `start` comes to; where that fails, its words are all that comes on the stream.
    ///
    /// On an upgraded connection it begins when the head of the answer is sent: there are clients (the SDK for Python) that
    /// lose what arrives together with that.
    pub(crate) async fn couple_later(
        self,
        terminal: bool,
        start: impl Future<Output = Result<Attachment, String>> + Send + 'static,
    ) -> Response {
        let kind = if terminal { RAW_STREAM } else { MULTIPLEXED_STREAM };
        let said = move |text: String| encode(terminal, &Chunk { stream: Stream::Stdout, bytes: text.into_bytes() });
        let Some(upgrade) = self.upgrade else {
            return match start.await {
                Ok(attachment) => self.couple(attachment),
                Err(text) => ([(header::CONTENT_TYPE, kind)], said(text)).into_response(),
            };
        };
        let (stdin, keys) = (self.stdin, self.keys);
        tokio::spawn(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => upgraded,
                Err(error) => return left_early(&error),
            };
            match start.await {
                Ok(attachment) => {
                    let (source, sink) = ends(upgraded, terminal);
                    carry(source, sink, attachment, stdin.then_some(keys)).await;
                }
                Err(text) => {
                    let mut io = TokioIo::new(upgraded);
                    // A client that is gone is told nothing.
                    if io.write_all(&said(text)).await.is_ok() {
                        drop(io.shutdown().await);
                    }
                }
            }
        });
        switching(kind)
    }
}

fn left_early(error: &hyper::Error) {
    tracing::debug!(%error, "a client left before its connection was upgraded");
}

fn switching(kind: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "tcp")
}

/// What a client says.
pub(crate) enum Said {
    /// Input.
    Bytes(Vec<u8>),
    /// That there will be no more of it; it still listens.
    End,
    /// That it is gone.
    Gone,
}

/// The client's direction.
pub(crate) trait Source: Send {
    /// What it says next; after [`Said::End`], that it is gone, once it is.
    fn next(&mut self) -> impl Future<Output = Said> + Send;
}

/// The direction towards the client.
pub(crate) trait Sink: Send {
    /// Whether it is still there.
    fn send(&mut self, chunk: Chunk) -> impl Future<Output = bool> + Send;
    /// Says that there will be no more.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// Carries both directions until one of the two is gone, or the client detaches. `keys`: how it detaches from a terminal;
/// none where its input is nobody's.
pub(crate) async fn carry(source: impl Source, sink: impl Sink, attachment: Attachment, keys: Option<DetachKeys>) {
    let Attachment { terminal, input, output, origin } = attachment;
    let stdin = keys.is_some();
    let detacher = keys.filter(|_| terminal).map(Detacher::new);
    let output = carry_output(sink, output);
    let input = carry_input(source, input, stdin, detacher);
    tokio::pin!(output, input);
    tokio::select! {
        () = &mut output => {}
        // The client is gone, or has typed the detach keys; dropping the output ends the connection.
        detached = &mut input => if detached {
            origin.detached();
        },
    }
}

async fn carry_output(mut sink: impl Sink, mut output: AttachOutput) {
    while let Some(chunk) = output.next().await {
        if !sink.send(chunk).await {
            return;
        }
    }
    sink.finish().await;
}

/// Returns when the client is gone, or detaches (true); its mere end of input is passed on and waited out.
async fn carry_input(
    mut source: impl Source,
    mut input: AttachInput,
    stdin: bool,
    mut detacher: Option<Detacher>,
) -> bool {
    loop {
        let bytes = match source.next().await {
            Said::Bytes(bytes) => bytes,
            Said::End => break,
            Said::Gone => return false,
        };
        if !stdin {
            continue;
        }
        let (bytes, detached) = match detacher.as_mut().map(|detacher| detacher.scan(&bytes)) {
            None => (bytes, false),
            Some(Scanned::Input(bytes)) => (bytes, false),
            Some(Scanned::Detach(bytes)) => (bytes, true),
        };
        // A workload that reads no more ends by itself; its output tells.
        drop(input.write(&bytes).await);
        if detached {
            return true;
        }
    }
    if stdin {
        drop(input.close().await);
    }
    // Whatever it says now, it said that it would not.
    while !matches!(source.next().await, Said::Gone) {}
    false
}

/// Both directions of a hijacked connection.
fn ends(upgraded: Upgraded, terminal: bool) -> (Bytes, Frames) {
    let parts = upgraded.downcast::<TokioIo<Connection>>().expect("every connection is served over this type");
    let connection = parts.io.into_inner();
    let watch = Watch::of(&connection);
    let (reader, writer) = tokio::io::split(connection);
    (Bytes { early: parts.read_buf, reader, block: vec![0; BLOCK], watch }, Frames { writer, terminal })
}

/// A hijacked connection's input.
struct Bytes {
    /// What came before the answer.
    early: axum::body::Bytes,
    reader: ReadHalf<Connection>,
    /// Empty once the client has ended its direction.
    block: Vec<u8>,
    watch: Option<Watch>,
}

impl Source for Bytes {
    async fn next(&mut self) -> Said {
        if !self.early.is_empty() {
            return Said::Bytes(std::mem::take(&mut self.early).to_vec());
        }
        if self.block.is_empty() {
            match &self.watch {
                Some(watch) => watch.gone().await,
                None => std::future::pending().await,
            }
            return Said::Gone;
        }
        match self.reader.read(&mut self.block).await {
            Ok(0) => {
                self.block = Vec::new();
                Said::End
            }
            Ok(count) => Said::Bytes(self.block[..count].to_vec()),
            Err(_) => Said::Gone,
        }
    }
}

/// A hijacked connection's output.
struct Frames {
    writer: WriteHalf<Connection>,
    terminal: bool,
}

impl Sink for Frames {
    async fn send(&mut self, chunk: Chunk) -> bool {
        self.writer.write_all(&encode(self.terminal, &chunk)).await.is_ok()
    }

    async fn finish(&mut self) {
        // A client that is gone needs no end.
        drop(self.writer.shutdown().await);
    }
}

/// A piece of output as it travels.
fn encode(terminal: bool, chunk: &Chunk) -> Vec<u8> {
    if terminal {
        return chunk.bytes.clone();
    }
    frame(chunk.stream, &chunk.bytes)
}

/// A piece of output with its header.
pub(crate) fn frame(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let number = match stream {
        Stream::Stdout => docker::STDOUT,
        Stream::Stderr => docker::STDERR,
    };
    let length = u32::try_from(bytes.len()).expect("a piece of output is at most a frame of the supervisor");
    let mut framed = docker::header(number, length).to_vec();
    framed.extend_from_slice(bytes);
    framed
}
