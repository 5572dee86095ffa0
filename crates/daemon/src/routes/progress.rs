//! Long work whose progress is the answer.

use atoll_api::atoll::{ProgressDetail, ProgressLine};
use atoll_engine::{Progress, ProgressEvent};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::answer::{Refusal, pieces};

/// Reports that wait for a slow client; more are dropped.
const QUEUED: usize = 64;

/// An answer of one JSON object a line: what `work` reports while it goes on, then its last lines, or its error.
/// The work goes on when the client leaves: what it makes is kept.
pub(super) fn answer<F>(work: impl FnOnce(Progress) -> F) -> Response
where
    F: Future<Output = Result<Vec<ProgressLine>, Refusal>> + Send + 'static,
{
    let (reports, mut reported) = mpsc::channel::<ProgressEvent>(QUEUED);
    let (lines, received) = mpsc::channel::<ProgressLine>(QUEUED);
    let work = tokio::spawn(work(reports));
    tokio::spawn(async move {
        while let Some(event) = reported.recv().await {
            // A client that has left is sent nothing; the reports are still taken.
            drop(lines.send(shown(event)).await);
        }
        let last = match work.await {
            Ok(Ok(last)) => last,
            Ok(Err(refusal)) => vec![ProgressLine::failure(refusal.message())],
            Err(_) => vec![ProgressLine::failure("the work broke off: see the daemon's log")],
        };
        for line in last {
            drop(lines.send(line).await);
        }
    });
    let body = pieces(received, |mut received| async move {
        let line = received.recv().await?;
        Some((line.to_line(), received))
    });
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn shown(event: ProgressEvent) -> ProgressLine {
    ProgressLine {
        id: event.id,
        status: event.status,
        progress: Some(ProgressDetail { current: event.current, total: event.total }),
        ..ProgressLine::default()
    }
}
