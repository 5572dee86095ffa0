//! What happened on this host, for those who watch.
//!
//! Events are kept in memory, the last [`KEPT`] of them: a watcher first gets those since the time it names, then what
//! follows, none twice. A watcher that falls [`QUEUED`] behind misses events and goes on; the host never waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use atoll_model::{Actor, Event, EventKind, MountSource, Network, Timestamp};
use tokio::sync::broadcast;

use crate::entry::Entry;
use crate::{Engine, host};

/// Events that are kept for replay, as Docker does.
const KEPT: usize = 256;
/// Events that wait for one watcher.
const QUEUED: usize = 1024;

/// Where events go.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    kept: Mutex<VecDeque<Event>>,
    /// Events that watchers were too slow for.
    missed: Arc<AtomicU64>,
}

/// Events one after the other.
#[derive(Debug)]
pub struct EventStream {
    replay: VecDeque<Event>,
    receiver: broadcast::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(QUEUED).0, kept: Mutex::default(), missed: Arc::default() }
    }
}

impl Events {
    /// Says that something happened now.
    pub(crate) fn emit(
        &self,
        project: Option<&str>,
        kind: EventKind,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let actor = Actor { id: id.to_owned(), attributes };
        let event = Event { kind, action: action.into(), actor, at: host::now(), project: project.map(str::to_owned) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that a new watcher's replay and its live events neither overlap nor leave a gap. Nobody
        // watching is no error.
        drop(self.sender.send(event));
    }

    /// Events since a time (none: from now on), and all that follow.
    pub(crate) fn watch(&self, since: Option<Timestamp>) -> EventStream {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let replay = match since {
            Some(since) => kept.iter().filter(|event| event.at >= since).cloned().collect(),
            None => VecDeque::new(),
        };
        EventStream { replay, receiver: self.sender.subscribe(), missed: Arc::clone(&self.missed) }
    }

    pub(crate) fn watchers(&self) -> usize {
        self.sender.receiver_count()
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Says that something happened to a workload.
    pub(crate) fn say(&self, entry: &Entry, action: &str, more: &[(&str, String)]) {
        let _telling = entry.telling();
        self.say_held(entry, action, more);
    }

    /// The same, for who holds [`Entry::telling`].
    pub(crate) fn say_held(&self, entry: &Entry, action: &str, more: &[(&str, String)]) {
        let workload = entry.workload();
        let mut attributes = workload.labels.clone();
        attributes.insert("image".to_owned(), workload.image.name.clone());
        attributes.insert("name".to_owned(), workload.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let project = workload.host.project.as_deref();
        self.shared.events.emit(project, EventKind::Container, action, entry.id.as_str(), attributes);
    }

    /// Says what a workload that starts is on: its network, its volumes.
    pub(crate) fn say_joined(&self, entry: &Entry) {
        let _telling = entry.telling();
        self.say_network(entry, "connect");
        for mount in &entry.workload().mounts {
            if let MountSource::Volume { name, .. } = &mount.source {
                let more = [
                    ("destination", mount.target.clone()),
                    ("propagation", String::new()),
                    ("read/write", (!mount.read_only).to_string()),
                ];
                self.say_volume(entry, "mount", name, &more);
            }
        }
    }

    /// Says what a workload that ended was on, for who holds [`Entry::telling`].
    pub(crate) fn say_left(&self, entry: &Entry) {
        self.say_network(entry, "disconnect");
        for mount in &entry.workload().mounts {
            if let MountSource::Volume { name, .. } = &mount.source {
                self.say_volume(entry, "unmount", name, &[]);
            }
        }
    }

    fn say_network(&self, entry: &Entry, action: &str) {
        let (name, kind) = match &entry.workload().host.network {
            Network::None => ("none".to_owned(), "null"),
            Network::Host => ("host".to_owned(), "host"),
            Network::Bridge(name) => (name.clone(), "bridge"),
            // It is the other's network, and was told of then.
            Network::Workload(_) => return,
        };
        let attributes = [("container", entry.id.to_string()), ("name", name.clone()), ("type", kind.to_owned())];
        let project = &entry.workload().host.project;
        self.shared.events.emit(project.as_deref(), EventKind::Network, action, &name, owned(&attributes));
    }

    fn say_volume(&self, entry: &Entry, action: &str, name: &str, more: &[(&str, String)]) {
        let mut attributes = owned(more);
        attributes.extend(owned(&[("container", entry.id.to_string()), ("driver", "local".to_owned())]));
        let project = &entry.workload().host.project;
        self.shared.events.emit(project.as_deref(), EventKind::Volume, action, name, attributes);
    }
}

fn owned(attributes: &[(&str, String)]) -> BTreeMap<String, String> {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

impl EventStream {
    /// The next event; `None` when the engine has closed.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.replay.pop_front() {
            return Some(event);
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.missed.fetch_add(missed, Ordering::Relaxed);
                    tracing::warn!(missed, "a watcher of events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event of the replay, without waiting for new ones.
    pub fn next_kept(&mut self) -> Option<Event> {
        self.replay.pop_front()
    }
}
