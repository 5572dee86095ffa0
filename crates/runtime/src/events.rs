//! What a supervisor reports, handed to whoever follows, from the first event on.
//!
//! Events that come before anybody follows are kept for the first who does; the workload's end is told to everyone,
//! however late. When the supervisor is gone, followers get `None` after what was reported.

use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_model::Exit;
use atoll_wall::message::Event;
use tokio::sync::{mpsc, watch};

/// Events kept while nobody follows: older ones are forgotten (exec sessions may end any number of times).
const KEPT_MAX: usize = 1024;

/// Follows a workload.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    /// The next event; `None` when the supervisor is gone and will report no more.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// Where events come in.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    end: watch::Sender<End>,
}

/// How far the end is known.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    exit: Option<Exit>,
    closed: bool,
}

#[derive(Debug)]
struct State {
    /// `Some` until somebody follows.
    kept: Option<Vec<Event>>,
    /// Each is sent what comes: bounded by what the workload does while a follower does not read.
    followers: Vec<mpsc::UnboundedSender<Event>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let state = State { kept: Some(Vec::new()), followers: Vec::new() };
        Self { state: Mutex::new(state), end: watch::Sender::default() }
    }

    pub(crate) fn follow(&self) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        let End { exit, closed } = *self.end.borrow();
        // A send fails only when the receiver is gone, and it is at hand.
        match state.kept.take() {
            Some(kept) => kept.into_iter().for_each(|event| drop(sender.send(event))),
            None => exit.into_iter().for_each(|exit| drop(sender.send(exited(exit)))),
        }
        if !closed {
            state.followers.push(sender);
        }
        Events(receiver)
    }

    pub(crate) fn push(&self, event: &Event) {
        let mut state = self.lock();
        if let Some(kept) = &mut state.kept {
            if kept.len() == KEPT_MAX {
                kept.remove(0);
            }
            kept.push(event.clone());
        }
        state.followers.retain(|follower| follower.send(event.clone()).is_ok());
        if let Event::Exited { exit, .. } = event {
            self.end.send_modify(|end| end.exit = Some(*exit));
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.followers.clear();
        self.end.send_modify(|end| end.closed = true);
    }

    /// Waits for the end; `None` when the supervisor went without reporting one.
    pub(crate) async fn exited(&self) -> Option<Exit> {
        let mut end = self.end.subscribe();
        match end.wait_for(|end| end.closed || end.exit.is_some()).await {
            Ok(end) => end.exit,
            Err(_) => None,
        }
    }

    pub(crate) async fn closed(&self) {
        // The sender is a field of `self`, so the channel is open.
        drop(self.end.subscribe().wait_for(|end| end.closed).await);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a later follower is told.
const fn exited(exit: Exit) -> Event {
    Event::Exited { exit, failure: String::new() }
}

#[cfg(test)]
mod tests {
    use atoll_model::Timestamp;

    use super::*;

    const EXIT: Exit = Exit { code: 3, oom_killed: false, at: Timestamp(1) };

    fn exec(id: &str) -> Event {
        Event::ExecExited { id: id.to_owned(), exit: EXIT }
    }

    async fn rest(mut events: Events) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            all.push(event);
        }
        all
    }

    #[tokio::test]
    async fn the_first_follower_misses_nothing() {
        let hub = Hub::new();
        hub.push(&exec("a"));
        hub.push(&exited(EXIT));
        hub.close();
        assert_eq!(rest(hub.follow()).await, [exec("a"), exited(EXIT)]);
        assert_eq!(rest(hub.follow()).await, [exited(EXIT)], "a later one is told the end");
        assert_eq!(hub.exited().await, Some(EXIT));
    }

    #[tokio::test]
    async fn followers_get_the_same() {
        let hub = Hub::new();
        let (first, second) = (hub.follow(), hub.follow());
        hub.push(&exec("a"));
        hub.close();
        assert_eq!(rest(first).await, [exec("a")]);
        assert_eq!(rest(second).await, [exec("a")]);
        assert_eq!(hub.exited().await, None);
        hub.closed().await;
    }
}
