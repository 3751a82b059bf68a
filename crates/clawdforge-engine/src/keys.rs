//! Requests that may be sent again.
//!
//! What a request makes and its key are one commit, so whoever sends it again, at the same time or after a restart,
//! finds either both or neither. Those who come at the same time wait for the first, so that they take up no
//! places in the meantime.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Expect, Write};
use clawdforge_core::id::AppId;
use clawdforge_core::idempotency::{IdempotencyKey, KeptKey};

use tokio::sync::OwnedMutexGuard;

use crate::engine::Shared;
use crate::error::EngineError;

/// Keys whose requests are being looked at right now.
#[derive(Debug, Default)]
pub(crate) struct KeysInUse(Mutex<HashMap<(AppId, String), Weak<Line>>>);

/// Those who send one request at the same time, in the order they came.
type Line = tokio::sync::Mutex<()>;

impl KeysInUse {
    /// Waits until nobody else looks at a request with this key. To be held until it is accepted or refused.
    async fn enter(&self, app: AppId, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turn| turn.strong_count() > 0);
            let place = (app, key.to_owned());
            let turn = all.get(&place).and_then(Weak::upgrade).unwrap_or_default();
            all.insert(place, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

/// The only one who looks at a request with its key.
pub(crate) type KeyGuard = Option<OwnedMutexGuard<()>>;

/// What became of a request that may have been sent before.
#[derive(Debug)]
pub enum Submitted<T, I> {
    /// It was accepted now.
    New(T),
    /// It had been accepted before, and made this.
    Known(I),
}

impl<T, I> Submitted<T, I> {
    /// What was accepted now: all there can be where the request had no key.
    ///
    /// # Errors
    /// [`EngineError::Internal`] where it had been accepted before.
    pub fn fresh(self) -> Result<T, EngineError> {
        match self {
            Self::New(accepted) => Ok(accepted),
            Self::Known(_) => Err(EngineError::Internal("a request without a key was known".to_owned())),
        }
    }
}

/// What is expected of a key that is new: nobody has used it.
pub(crate) fn unused(app: AppId, key: &IdempotencyKey) -> Expect {
    Expect::KeyUnused(app, key.key.clone())
}

impl Shared {
    /// Waits for those who send the same request at the same time.
    pub(crate) async fn enter(&self, by: &AppToken, key: Option<&IdempotencyKey>) -> KeyGuard {
        match key {
            Some(key) => Some(self.keys_in_use.enter(by.app.id, &key.key).await),
            None => None,
        }
    }

    /// What this request made before, if it was sent before.
    ///
    /// # Errors
    /// [`EngineError::KeyReused`] when the key was used for another request.
    pub(crate) async fn known<I: FromStr>(
        &self,
        by: &AppToken,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<I>, EngineError> {
        let Some(key) = key else { return Ok(None) };
        let Some(kept) = self.store.keys.kept(by.app.id, &key.key).await? else { return Ok(None) };
        if kept.key.fingerprint != key.fingerprint {
            return Err(EngineError::KeyReused);
        }
        let subject = kept.subject.parse().map_err(|_| EngineError::KeyReused)?;
        Ok(Some(subject))
    }

    /// What keeps a key with what its request makes.
    pub(crate) fn keep(&self, app: AppId, key: IdempotencyKey, subject: String) -> Write {
        Write::KeepKey(KeptKey { app, key, subject, at: self.ids.now() })
    }
}
