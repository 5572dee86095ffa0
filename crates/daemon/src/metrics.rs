//! `GET /metrics`: what there is to know in numbers, in Prometheus' text format (version 0.0.4).
//!
//! Times are of requests by route: that of `POST /containers/{name}/start` is how long the engine takes to start one. Requests
//! without an end of their own (attach, events, logs, wait) count when they begin. A route's name is its pattern, so that their
//! number is bounded by the API, not by who asks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::answer::Answer;
use crate::audit::Audit;
use crate::routes::State;

/// The upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What was counted since the daemon started. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Arc<Mutex<BTreeMap<(String, String), Requests>>>,
    audit: Option<Audit>,
}

/// Requests of one method and route.
#[derive(Clone, Debug, Default)]
struct Requests {
    by_status: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
}

impl Requests {
    fn add(&mut self, status: u16, took: Duration) {
        *self.by_status.entry(status).or_default() += 1;
        let seconds = took.as_secs_f64();
        self.seconds += seconds;
        for (count, end) in self.buckets.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= end);
        }
    }

    fn count(&self) -> u64 {
        self.by_status.values().sum()
    }
}

impl Metrics {
    pub(crate) fn new(audit: Option<Audit>) -> Self {
        Self { requests: Arc::default(), audit }
    }

    /// Counts a request on its way through the router.
    pub(crate) async fn count(self, request: Request, next: Next) -> Response {
        let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
        let method = request.method().to_string();
        let began = Instant::now();
        let response = next.run(request).await;
        if let Some(route) = route {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.entry((route, method)).or_default().add(response.status().as_u16(), began.elapsed());
        }
        response
    }

    /// Everything, as Prometheus reads it.
    async fn text(&self, state: &State) -> Answer<String> {
        let mut text = Text::default();
        self.write_requests(&mut text);
        write_engine(&mut text, state).await?;
        if let Some(audit) = &self.audit {
            text.family("atoll_audit_lost_lines", "gauge", "Lines of the audit log that are lost and not told of yet.");
            text.sample("atoll_audit_lost_lines", &[], audit.lost());
        }
        write_process(&mut text);
        Ok(text.0)
    }

    fn write_requests(&self, text: &mut Text) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text.family("atoll_requests_total", "counter", "Requests that were answered, by status.");
        for ((route, method), all) in &requests {
            for (status, count) in &all.by_status {
                let status = status.to_string();
                let labels = [("route", route.as_str()), ("method", method.as_str()), ("status", status.as_str())];
                text.sample("atoll_requests_total", &labels, count);
            }
        }
        let name = "atoll_request_seconds";
        text.family(name, "histogram", "How long requests took until their answer began.");
        for ((route, method), all) in &requests {
            let labels = [("route", route.as_str()), ("method", method.as_str())];
            let ends = BUCKETS.map(|end| end.to_string());
            for (end, count) in ends.iter().zip(&all.buckets) {
                text.sample(&format!("{name}_bucket"), &[labels[0], labels[1], ("le", end.as_str())], count);
            }
            text.sample(&format!("{name}_bucket"), &[labels[0], labels[1], ("le", "+Inf")], all.count());
            text.sample(&format!("{name}_sum"), &labels, all.seconds);
            text.sample(&format!("{name}_count"), &labels, all.count());
        }
    }
}

async fn write_engine(text: &mut Text, state: &State) -> Answer<()> {
    let mut phases: BTreeMap<&str, usize> =
        ["created", "running", "paused", "exited", "removing"].map(|phase| (phase, 0)).into();
    let views = state.engine.list();
    for view in &views {
        *phases.entry(view.phase.status()).or_default() += 1;
    }
    text.family("atoll_workloads", "gauge", "Workloads by phase.");
    for (phase, count) in phases {
        text.sample("atoll_workloads", &[("phase", phase)], count);
    }
    text.family("atoll_exec_sessions", "gauge", "Exec sessions that workloads have.");
    text.sample("atoll_exec_sessions", &[], views.iter().map(|view| view.execs.len()).sum::<usize>());
    text.family("atoll_images", "gauge", "Images.");
    text.sample("atoll_images", &[], state.engine.images().await?.len());
    text.family("atoll_volumes", "gauge", "Volumes.");
    text.sample("atoll_volumes", &[], state.engine.volumes().len());
    let (layers, blobs) = state.engine.store_bytes().await?;
    text.family("atoll_store_bytes", "gauge", "What images take on the disk.");
    text.sample("atoll_store_bytes", &[("kind", "layers")], layers);
    text.sample("atoll_store_bytes", &[("kind", "blobs")], blobs);
    let (watchers, missed) = (state.engine.watchers(), state.engine.missed_events());
    text.family("atoll_event_watchers", "gauge", "Clients that watch events.");
    text.sample("atoll_event_watchers", &[], watchers);
    text.family("atoll_events_missed_total", "counter", "Events that watchers were too slow for.");
    text.sample("atoll_events_missed_total", &[], missed);
    text.family("atoll_info", "gauge", "The daemon's version.");
    text.sample("atoll_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    Ok(())
}

/// The daemon's own process, under the names that Prometheus' client libraries use.
fn write_process(text: &mut Text) {
    text.family("process_open_fds", "gauge", "Open descriptors.");
    text.sample("process_open_fds", &[], std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(kibibytes) = resident {
        text.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        text.sample("process_resident_memory_bytes", &[], kibibytes * 1024);
    }
}

/// Lines of the text format.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a string cannot fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.0, "{name}{labels} {value}").expect("writing to a string cannot fail");
    }
}

/// `GET /metrics`.
pub(crate) async fn metrics(axum::extract::State(state): axum::extract::State<State>) -> Answer<Response> {
    let text = state.metrics.text(&state).await?;
    Ok(([(header::CONTENT_TYPE, FORMAT)], text).into_response())
}

/// A router that has nothing but the metrics, for an address of their own.
pub(crate) fn alone(state: State) -> axum::Router {
    let nothing = async || (StatusCode::NOT_FOUND, Body::from("only /metrics is here\n"));
    axum::Router::new().route("/metrics", axum::routing::get(metrics)).fallback(nothing).with_state(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_labels() {
        let mut text = Text::default();
        text.family("a_total", "counter", "Things.");
        text.sample("a_total", &[("x", "1\"2\\3\n")], 5);
        text.sample("b", &[], 0.25);
        assert_eq!(text.0, "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\\\"2\\\\3\\n\"} 5\nb 0.25\n");
    }

    #[test]
    fn buckets_count_what_is_within_them() {
        let mut requests = Requests::default();
        requests.add(200, Duration::from_millis(2));
        requests.add(404, Duration::from_secs(60));
        assert_eq!((requests.count(), requests.buckets), (2, [0, 1, 1, 1, 1, 1, 1, 1, 1]));
    }
}
