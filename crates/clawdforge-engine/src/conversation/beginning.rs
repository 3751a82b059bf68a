//! Turns that begin as they are accepted.
//!
//! A turn that waits is accepted by its caller, and begun by its owner when it is its turn: two commits. Where the agent
//! rests there is nothing to wait for, so the caller has the owner do both in one, which saves a warm turn a third of its
//! flushes. The owner may be about to do something else by then; it says so at once, and the caller goes the usual way.

use std::sync::atomic::Ordering;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{EventBody, EventSeq};
use clawdforge_core::turn::Turn;
use clawdforge_store::{CommitError, ReadError};
use tokio::sync::oneshot;

use super::mailbox::Order;
use super::registry::Caller;
use crate::cancels::Cancel;
use crate::error::EngineError;
use crate::hub::Publisher;

/// A turn that is about to be accepted.
pub(crate) struct Acceptance {
    pub turn: Turn,
    /// What puts it on record, its prompt with it, as one that waits.
    pub commit: Commit,
    pub publisher: Publisher,
    /// Whether it is to be stopped.
    pub cancel: Cancel,
}

impl Acceptance {
    /// What the agent is to be asked.
    pub fn prompt(&self) -> Option<&EventBody> {
        self.commit.writes.iter().find_map(|write| match write {
            Write::QueueTurn(_, prompt) => prompt.as_ref(),
            _ => None,
        })
    }
}

/// What became of a turn that was to begin as it was accepted.
pub(crate) enum Began {
    /// It is on record, and under way; its first event has this number.
    Accepted(EventSeq),
    /// It is not on record.
    Refused(CommitError),
    /// The commit was not answered and the log cannot be read. The owner looks until it can, and plays the turn if it is
    /// there.
    InDoubt(ReadError),
    /// The agent does not rest any more; nothing happened.
    NotNow(Box<Acceptance>),
}

/// The same as an order to the owner, who answers it without anything else in between.
pub(crate) struct Beginning {
    pub acceptance: Box<Acceptance>,
    pub answer: oneshot::Sender<Began>,
}

impl Beginning {
    /// Gives the turn back. A caller that is gone wanted it no more.
    pub fn not_now(self) {
        let _ = self.answer.send(Began::NotNow(self.acceptance));
    }
}

impl Caller {
    /// Has a turn begin as it is accepted, if the agent rests. Whoever calls holds the lock for accepting.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the owner is gone by a fault: what became of the turn is not known.
    pub async fn begin(&self, acceptance: Acceptance) -> Result<Began, EngineError> {
        let desk = self.desk();
        let acceptance = Box::new(acceptance);
        if desk.unfinished.load(Ordering::Relaxed) > 0 || !desk.rests.load(Ordering::Relaxed) {
            return Ok(Began::NotNow(acceptance));
        }
        // Before the owner counts it off.
        desk.unfinished.fetch_add(1, Ordering::Relaxed);
        let (answer, began) = oneshot::channel();
        self.order(Order::Begin(Beginning { acceptance, answer })).await;
        let began = began.await.map_err(|_gone| EngineError::Internal("the owner of a session is gone".to_owned()))?;
        if matches!(began, Began::NotNow(_)) {
            desk.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(began)
    }
}
