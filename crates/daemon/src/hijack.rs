//! A connection that was HTTP and now carries a workload's streams.
//!
//! With a terminal the bytes go as they are; otherwise each piece of output has an eight-byte header with its stream and
//! length. The client may end its direction and still read; when it ends both, it is gone, and the workload goes on.

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

/// Bytes taken from a client at a time.
const BLOCK: usize = 32 << 10;

type Io = TokioIo<Upgraded>;

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
        let Attachment { input, output, .. } = attachment;
        let Some(upgrade) = self.upgrade else {
            // An old client reads the output as the body of an ordinary answer.
            let body = pieces(output, move |mut output| async move {
                let chunk = output.next().await?;
                Some((encode(terminal, &chunk), output))
            });
            return ([(header::CONTENT_TYPE, kind)], body).into_response();
        };
        let detacher = terminal.then(|| Detacher::new(self.keys));
        let stdin = self.stdin;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                    carry(Client { reader, stdin, detacher }, input, (writer, output, terminal)).await;
                }
                Err(error) => left_early(&error),
            }
        });
        switching(kind)
    }

    /// Says one thing on the stream and ends it: how a program that could not be run is answered.
    pub(crate) fn tell(self, terminal: bool, text: &str) -> Response {
        let kind = if terminal { RAW_STREAM } else { MULTIPLEXED_STREAM };
        let bytes = encode(terminal, &Chunk { stream: Stream::Stdout, bytes: text.as_bytes().to_vec() });
        let Some(upgrade) = self.upgrade else {
            return ([(header::CONTENT_TYPE, kind)], bytes).into_response();
        };
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let mut io = TokioIo::new(upgraded);
                    // A client that is gone is told nothing.
                    if io.write_all(&bytes).await.is_ok() {
                        drop(io.shutdown().await);
                    }
                }
                Err(error) => left_early(&error),
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

/// The client's direction.
struct Client {
    reader: ReadHalf<Io>,
    stdin: bool,
    detacher: Option<Detacher>,
}

async fn carry(client: Client, input: AttachInput, (writer, output, terminal): (WriteHalf<Io>, AttachOutput, bool)) {
    let output = carry_output(writer, output, terminal);
    let input = carry_input(client, input);
    tokio::pin!(output, input);
    tokio::select! {
        () = &mut output => {}
        // The client is gone, or has typed the detach keys; dropping the output ends the connection.
        () = &mut input => {}
    }
}

async fn carry_output(mut writer: WriteHalf<Io>, mut output: AttachOutput, terminal: bool) {
    while let Some(chunk) = output.next().await {
        if writer.write_all(&encode(terminal, &chunk)).await.is_err() {
            return;
        }
    }
    // A client that is gone needs no end.
    drop(writer.shutdown().await);
}

/// Returns when the client is gone or detaches; its mere end of input is passed on and waited out.
async fn carry_input(mut client: Client, mut input: AttachInput) {
    let mut block = vec![0; BLOCK];
    loop {
        match client.reader.read(&mut block).await {
            Ok(0) => break,
            Ok(_) if !client.stdin => {}
            Ok(count) => {
                let (bytes, detached) = match &mut client.detacher {
                    None => (block[..count].to_vec(), false),
                    Some(detacher) => match detacher.scan(&block[..count]) {
                        Scanned::Input(bytes) => (bytes, false),
                        Scanned::Detach(bytes) => (bytes, true),
                    },
                };
                // A workload that reads no more ends by itself; its output tells.
                drop(input.write(&bytes).await);
                if detached {
                    return;
                }
            }
            Err(_) => return,
        }
    }
    if client.stdin {
        drop(input.close().await);
    }
    std::future::pending::<()>().await;
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
