//! The live tails of committed events.
//!
//! A tail tells followers what has become durable in a session; it never carries anything that is
//! not (I2): what it takes is a [`Committed`], which only the recorder can make. There is one tail per
//! turn under way, so what is over costs nothing.

use std::sync::Arc;

use clawdforge_core::event::{EventSeq, TurnOutcome};
use tokio::sync::watch;

/// Proof that events are durable, and the outcome among them. Made by the recorder only.
#[derive(Debug)]
pub struct Committed {
    ended: Option<Arc<TurnOutcome>>,
    last: EventSeq,
}

impl Committed {
    /// For the recorder, after the store has said so: events up to number `last` are there.
    pub(crate) fn after_commit(ended: Option<Arc<TurnOutcome>>, last: EventSeq) -> Self {
        Self { ended, last }
    }
}

/// A turn that is over: its outcome, and where it is in the log of its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The outcome.
    pub outcome: Arc<TurnOutcome>,
    /// The number of its first event, which is its prompt.
    pub first: EventSeq,
    /// The number of its last event, which is its end.
    pub last: EventSeq,
}

/// The writing end of one turn's tail; owned by whoever writes the session.
#[derive(Debug)]
pub struct Publisher {
    first: EventSeq,
    sender: watch::Sender<Option<Ended>>,
}

impl Publisher {
    /// The tail of a turn that has no event yet.
    pub fn new() -> Self {
        Self { first: 1, sender: watch::Sender::new(None) }
    }

    /// Says which event will be the turn's first.
    pub fn begins_at(&mut self, first: EventSeq) {
        self.first = first;
    }

    /// Tells followers of an outcome, if there is one in what was committed.
    pub fn publish(&self, committed: Committed) {
        if let Some(outcome) = committed.ended {
            self.sender.send_replace(Some(Ended { outcome, first: self.first, last: committed.last }));
        }
    }

    /// A follower: the outcome, once it is durable. When it finds the tail gone without one, the
    /// outcome is not known.
    pub fn follow(&self) -> Follower {
        Follower(self.sender.subscribe())
    }
}

/// The reading end of one turn's tail.
#[derive(Debug)]
pub struct Follower(watch::Receiver<Option<Ended>>);

impl Follower {
    /// Waits for the end of the turn; `None` when nobody will tell of it any more.
    pub async fn ended(mut self) -> Option<Ended> {
        let ended = self.0.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone())
    }
}
