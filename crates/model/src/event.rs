//! What happened on a host, for those who watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Something that happened to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The kind of thing.
    pub kind: EventKind,
    /// What happened, in Docker's words: `create`, `start`, `die` …
    pub action: String,
    /// The thing.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// The project that the thing belongs to.
    #[serde(default)]
    pub project: Option<String>,
}

/// Kinds of things that events are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A workload.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

/// The thing an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its identifier, or its name where it has none.
    pub id: String,
    /// What helps to recognise it: name, image, exit code, labels.
    pub attributes: BTreeMap<String, String>,
}
