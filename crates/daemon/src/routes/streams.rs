//! `/containers/{name}/attach`, `/attach/ws` and `/containers/{name}/logs`: what workloads read and write.

use std::collections::BTreeMap;

use atoll_api::docker::{MULTIPLEXED_STREAM, RAW_STREAM, fixed_rfc3339, parse_time};
use atoll_engine::{Attach, Begin, LogLine, LogQuery, Stream};
use axum::Router;
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::State;
use crate::answer::{Answer, Refusal, is_true, pieces};
use crate::hijack::{Wish, frame};
use crate::websocket;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/{name}/attach", post(attach))
        .route("/containers/{name}/attach/ws", get(websocket::attach))
        .route("/containers/{name}/logs", get(logs))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AttachQuery {
    stream: Option<String>,
    logs: Option<String>,
    stdin: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    #[serde(rename = "detachKeys")]
    pub(crate) detach_keys: String,
}

impl AttachQuery {
    /// Which streams, and from where on.
    pub(crate) fn wanted(&self) -> Answer<(Attach, Begin)> {
        let begin = match (is_true(self.stream.as_deref()), is_true(self.logs.as_deref())) {
            (true, false) => Begin::Now,
            (true, true) => Begin::Log,
            (false, true) => Begin::LogAlone,
            (false, false) => {
                return Err(Refusal::bad(
                    "Bad parameters: you must choose what was written (logs=1), what will be (stream=1), or both",
                ));
            }
        };
        let attach = Attach {
            stdin: begin != Begin::LogAlone && is_true(self.stdin.as_deref()),
            stdout: is_true(self.stdout.as_deref()),
            stderr: is_true(self.stderr.as_deref()),
        };
        Ok((attach, begin))
    }
}

async fn attach(
    Held(state): Held<State>,
    Path(name): Path<String>,
    Query(query): Query<AttachQuery>,
    mut request: Request,
) -> Answer<Response> {
    let (attach, begin) = query.wanted()?;
    let wish = Wish::of(&mut request, attach.stdin, &query.detach_keys)?;
    let attachment = state.engine.attach(&name, attach, begin).await?;
    Ok(wish.couple(attachment))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogsQuery {
    follow: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    since: String,
    until: String,
    timestamps: Option<String>,
    tail: String,
    details: Option<String>,
}

/// Bytes of lines that are there already and go out together.
const TOGETHER: usize = 32 << 10;

async fn logs(Held(state): Held<State>, Path(name): Path<String>, Query(query): Query<LogsQuery>) -> Answer<Response> {
    let tail = match query.tail.as_str() {
        "" | "all" => None,
        // Docker takes what is no number for all.
        number => number.parse().ok(),
    };
    let wanted = LogQuery {
        stdout: is_true(query.stdout.as_deref()),
        stderr: is_true(query.stderr.as_deref()),
        since: parse_time(&query.since)?,
        until: parse_time(&query.until)?,
        tail,
        follow: is_true(query.follow.as_deref()),
    };
    if !wanted.stdout && !wanted.stderr {
        return Err(Refusal::bad("Bad parameters: you must choose at least one stream"));
    }
    let terminal = state.engine.inspect(&name)?.workload.command.terminal;
    let stream = state.engine.logs(&name, wanted).await?;
    let writer = LineWriter {
        terminal,
        timestamps: is_true(query.timestamps.as_deref()),
        details: is_true(query.details.as_deref()),
        within: [false; 2],
    };
    let body = pieces((stream, writer), |(mut stream, mut writer)| async move {
        match stream.next().await? {
            Ok(line) => {
                let mut bytes = Vec::new();
                writer.encode_into(&line, &mut bytes);
                while bytes.len() < TOGETHER
                    && let Some(line) = stream.ready()
                {
                    writer.encode_into(&line, &mut bytes);
                }
                Some((bytes, (stream, writer)))
            }
            Err(error) => {
                tracing::warn!(%error, "a log cannot be read on");
                None
            }
        }
    });
    let kind = if terminal { RAW_STREAM } else { MULTIPLEXED_STREAM };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Writes lines as clients read them.
struct LineWriter {
    terminal: bool,
    timestamps: bool,
    details: bool,
    /// Whether a line of standard output, standard error has begun and not ended.
    within: [bool; 2],
}

impl LineWriter {
    fn encode_into(&mut self, line: &LogLine, bytes: &mut Vec<u8>) {
        let within = match line.stream {
            Stream::Stdout => &mut self.within[0],
            Stream::Stderr => &mut self.within[1],
        };
        let mut text = Vec::new();
        if self.timestamps && !*within {
            text.extend_from_slice(fixed_rfc3339(line.at).as_bytes());
            text.push(b' ');
        }
        if self.details && !*within {
            text.extend_from_slice(details(&line.attributes).as_bytes());
            text.push(b' ');
        }
        *within = line.partial;
        text.extend_from_slice(&line.bytes);
        if self.terminal {
            bytes.extend_from_slice(&text);
        } else {
            bytes.extend_from_slice(&frame(line.stream, &text));
        }
    }
}

/// `key=value,…`, in the form of queries, as Docker writes what stands beside a line.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let escaped = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pairs = attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_escaped_as_queries_are() {
        let attributes = [("tag", "a b/1"), ("A", "x=y,z"), ("b", "~é")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(details(&attributes), "A=x%3Dy%2Cz,b=~%C3%A9,tag=a+b%2F1");
        assert_eq!(details(&BTreeMap::new()), "");
    }
}
