//! `GET /containers/{name}/attach/ws`: a workload's streams in the messages of a WebSocket (RFC 6455).
//!
//! Output comes without headers, both streams together, in binary messages; in text messages for clients before version
//! 1.28, where bytes that are no UTF-8 are replaced. Input may be either. A message from a client has a limit, and none is
//! read while the workload does not take the last one.

use atoll_api::docker::{ApiVersion, DetachKeys};
use atoll_engine::Chunk;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Path, Query, State as Held};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};

use crate::answer::{Answer, Refusal};
use crate::hijack::{Said, Sink, Source, carry};
use crate::routes::{AttachQuery, State};

/// The first version with binary messages.
const BINARY: ApiVersion = ApiVersion::minor(28);
/// Bytes of a message from a client.
const MESSAGE_MAX: usize = 1 << 20;

pub(crate) async fn attach(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<AttachQuery>,
    Extension(version): Extension<ApiVersion>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|error| Refusal::bad(format!("not a WebSocket: {error}")))?;
    let (attach, begin) = query.wanted()?;
    let keys: DetachKeys = query.detach_keys.parse()?;
    let attachment = state.engine.attach(&name, attach, begin).await?;
    let upgrade = upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (sink, source) = socket.split();
        let sink = Messages { sink, binary: version >= BINARY };
        carry(Input { source, over: false }, sink, attachment, attach.stdin.then_some(keys)).await;
    }))
}

/// Messages from a client.
struct Input {
    source: SplitStream<WebSocket>,
    over: bool,
}

impl Source for Input {
    async fn next(&mut self) -> Said {
        loop {
            return match self.source.next().await {
                // Pings are answered below.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(bytes))) => Said::Bytes(bytes.to_vec()),
                Some(Ok(Message::Text(text))) => Said::Bytes(text.as_bytes().to_vec()),
                // Whoever closes has both directions closed.
                Some(Ok(Message::Close(_))) | None if !self.over => {
                    self.over = true;
                    Said::End
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => Said::Gone,
            };
        }
    }
}

/// Messages to a client.
struct Messages {
    sink: SplitSink<WebSocket, Message>,
    binary: bool,
}

impl Sink for Messages {
    async fn send(&mut self, chunk: Chunk) -> bool {
        let message = if self.binary {
            Message::Binary(chunk.bytes.into())
        } else {
            Message::Text(String::from_utf8_lossy(&chunk.bytes).as_ref().into())
        };
        self.sink.send(message).await.is_ok()
    }

    async fn finish(&mut self) {
        // A client that is gone needs no end.
        drop(self.sink.close().await);
    }
}
