//! The live tails of committed events.
//!
//! A tail tells followers what has become durable in a session; it never carries anything that is
//! not (I2): what it takes is a [`Committed`], which only the recorder can make. There is one tail per
//! turn under way, so what is over costs nothing.

use std::sync::Arc;

use clawdforge_core::event::TurnOutcome;
use tokio::sync::watch;

/// Proof that events are durable, and the outcome among them. Made by the recorder only.
#[derive(Debug)]
pub struct Committed {
    ended: Option<Arc<TurnOutcome>>,
}

impl Committed {
    /// For the recorder, after the store has said so.
    pub(crate) fn after_commit(ended: Option<Arc<TurnOutcome>>) -> Self {
        Self { ended }
    }
}

/// The writing end of one turn's tail; owned by whoever writes the session.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<Option<Arc<TurnOutcome>>>,
}

impl Publisher {
    /// A tail that begins with what is durable already.
    pub fn new(committed: Committed) -> Self {
        Self { sender: watch::Sender::new(committed.ended) }
    }

    /// Tells followers of an outcome, if there is one in what was committed.
    pub fn publish(&self, committed: Committed) {
        if committed.ended.is_some() {
            self.sender.send_replace(committed.ended);
        }
    }

    /// A follower: the outcome, once it is durable. When it finds the tail gone without one, the
    /// outcome is not known.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<TurnOutcome>>> {
        self.sender.subscribe()
    }
}
