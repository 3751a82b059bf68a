//! A door that fails on demand, around any other door.
//!
//! The *Nth commit* loop of the tests: let the first commit fail, then the second, then the third,
//! until the story succeeds, and check the whole state after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use clawdforge_core::commit::Commit;

use crate::{CommitDoor, CommitError};

/// How the chosen commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens and the caller is told so.
    Refuse,
    /// The change happens, but the answer is lost.
    LoseAnswer,
}

/// Wraps a door; commits from the `nth` on (counted from 1) fail, `times` of them.
pub struct FaultyDoor {
    inner: Arc<dyn CommitDoor>,
    fault: Fault,
    first: usize,
    times: usize,
    seen: AtomicUsize,
}

impl FaultyDoor {
    /// A door whose `nth` commit (from 1) and the following, `times` in all, fail.
    #[must_use]
    pub fn new(inner: Arc<dyn CommitDoor>, fault: Fault, nth: usize, times: usize) -> Self {
        Self { inner, fault, first: nth, times, seen: AtomicUsize::new(0) }
    }

    /// How many commits came to this door so far.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl CommitDoor for FaultyDoor {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if number < self.first || number - self.first >= self.times {
            return self.inner.commit(commit).await;
        }
        match self.fault {
            Fault::Refuse => Err(CommitError::Unavailable("injected fault".to_owned())),
            Fault::LoseAnswer => {
                self.inner.commit(commit).await?;
                Err(CommitError::Unknown("injected fault".to_owned()))
            }
        }
    }
}
