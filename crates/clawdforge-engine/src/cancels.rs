//! Turns that can be told to stop, from their acceptance to their end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawdforge_core::id::TurnId;
use tokio_util::sync::CancellationToken;

type Tokens = Mutex<HashMap<TurnId, CancellationToken>>;

/// All turns without an outcome.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Arc<Tokens>);

/// One turn's side of it: whoever owns the turn listens. Gone with it.
#[derive(Debug)]
pub(crate) struct Cancel {
    turn: TurnId,
    tokens: Arc<Tokens>,
    asked: CancellationToken,
}

fn lock(tokens: &Tokens) -> MutexGuard<'_, HashMap<TurnId, CancellationToken>> {
    // What is behind the lock is changed in one step, so a poisoned one is usable.
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cancels {
    /// A turn that is about to be accepted.
    pub fn of(&self, turn: TurnId) -> Cancel {
        let asked = CancellationToken::new();
        lock(&self.0).insert(turn, asked.clone());
        Cancel { turn, tokens: Arc::clone(&self.0), asked }
    }

    /// Tells the owner of a turn, if it has one.
    pub fn ask(&self, turn: TurnId) {
        if let Some(asked) = lock(&self.0).get(&turn) {
            asked.cancel();
        }
    }
}

impl Cancel {
    /// Resolves when the turn is to be stopped. Cancel-safe.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Whether it is to be stopped.
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        lock(&self.tokens).remove(&self.turn);
    }
}
