//! Long work whose progress is the answer.

use atoll_api::atoll::{ProgressDetail, ProgressLine};
use atoll_engine::{Progress, ProgressEvent};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::answer::{Answer, Refusal, pieces};

/// Reports that wait for a slow client; more are dropped.
const QUEUED: usize = 64;

/// An answer of one JSON object a line: `first`, what `work` reports while it goes on, then its last lines or its error.
/// Work that fails before it has reported anything is refused with a status of its own. It goes on when the client
/// leaves: what it makes is kept.
///
/// # Errors
/// That of work which came to nothing.
pub(super) async fn answer<F>(first: Option<ProgressLine>, work: impl FnOnce(Progress) -> F) -> Answer<Response>
where
    F: Future<Output = Answer<Vec<ProgressLine>>> + Send + 'static,
{
    let (reports, mut reported) = mpsc::channel::<ProgressEvent>(QUEUED);
    let (lines, received) = mpsc::channel::<ProgressLine>(QUEUED);
    let mut work = tokio::spawn(work(reports));
    let report = reported.recv().await;
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the work broke off: see the daemon's log");
    let ended = match report {
        Some(_) => None,
        None => Some((&mut work).await.map_err(broken)??),
    };
    tokio::spawn(async move {
        // A client that has left is sent nothing; the reports are still taken.
        for line in first.into_iter().chain(report.map(shown)) {
            drop(lines.send(line).await);
        }
        while let Some(event) = reported.recv().await {
            drop(lines.send(shown(event)).await);
        }
        let last = match ended {
            Some(last) => Ok(last),
            None => work.await.map_err(broken).and_then(|result| result),
        };
        for line in last.unwrap_or_else(|refusal| vec![ProgressLine::failure(refusal.message())]) {
            drop(lines.send(line).await);
        }
        // Such work takes much memory for a while; an idle daemon is to be small.
        drop(tokio::task::spawn_blocking(atoll_sys::memory::trim).await);
    });
    let body = pieces(received, |mut received| async move {
        let line = received.recv().await?;
        Some((line.to_line(), received))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn shown(event: ProgressEvent) -> ProgressLine {
    // A line about the work as a whole has no progress.
    let progress = (!event.id.is_empty()).then_some(ProgressDetail { current: event.current, total: event.total });
    ProgressLine { id: event.id, status: event.status, progress, ..ProgressLine::default() }
}
