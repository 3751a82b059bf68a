//! Requests that may be sent again.
//!
//! What a request makes and its key are one commit, so whoever sends it again, at the same time or after a restart,
//! finds either both or neither.

use std::str::FromStr;

use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Expect, Write};
use clawdforge_core::id::AppId;
use clawdforge_core::idempotency::{IdempotencyKey, KeptKey};

use crate::engine::Shared;
use crate::error::EngineError;

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
