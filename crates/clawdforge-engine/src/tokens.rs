//! Who may speak: app tokens in memory, as the store has them.
//!
//! All live tokens are held in memory by their hash, so that checking a request costs no read. The
//! store stays the truth: a token is answered for only after its commit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use clawdforge_core::app::{APP_TOKEN_PREFIX, App, AppName, AppToken, TokenHash};
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::id::{AppId, RequestId, TokenId};
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::limits::TOKENS_MAX;
use clawdforge_core::secret::{ExposeSecret, SecretString};
use clawdforge_store::TokenReads;
use ipnet::IpNet;

use crate::error::EngineError;
use crate::ids::Ids;
use crate::record::Recorder;

/// A freshly minted token with its secret, shown once.
pub struct Minted {
    /// What is stored of it.
    pub token: Arc<AppToken>,
    /// The secret itself.
    pub secret: SecretString,
}

/// The live tokens.
pub(crate) struct Tokens {
    reads: Arc<dyn TokenReads>,
    recorder: Recorder,
    ids: Ids,
    by_hash: RwLock<HashMap<TokenHash, Arc<AppToken>>>,
}

impl Tokens {
    pub async fn load(reads: Arc<dyn TokenReads>, recorder: Recorder, ids: Ids) -> Result<Self, EngineError> {
        let live = reads.live_tokens().await?;
        let by_hash = live.into_iter().map(|token| (token.hash, Arc::new(token))).collect();
        Ok(Self { reads, recorder, ids, by_hash: RwLock::new(by_hash) })
    }

    pub fn find(&self, bearer: &str) -> Option<Arc<AppToken>> {
        let hash = TokenHash::of(bearer);
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&hash).map(Arc::clone)
    }

    pub fn list(&self) -> Vec<Arc<AppToken>> {
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<_> = map.values().map(Arc::clone).collect();
        tokens.sort_by(|a, b| a.app.name.cmp(&b.app.name));
        tokens
    }

    pub async fn mint(&self, name: AppName, cidrs: Vec<IpNet>, request: RequestId) -> Result<Minted, EngineError> {
        if self.list().len() >= TOKENS_MAX {
            return Err(EngineError::TooManyTokens(TOKENS_MAX));
        }
        let now = self.ids.now();
        let known = self.reads.app(&name).await?;
        let app = known.unwrap_or_else(|| App { id: self.ids.make(AppId::new), name: name.clone() });
        let secret = self.ids.token(APP_TOKEN_PREFIX);
        let token = AppToken {
            id: self.ids.make(TokenId::new),
            app: app.clone(),
            hash: TokenHash::of(secret.expose_secret()),
            ip_cidrs: cidrs,
            created_at: now,
        };
        let commit = Commit {
            expects: vec![Expect::NoLiveToken(name.clone())],
            writes: vec![Write::AddApp(app, now), Write::AddToken(token.clone())],
            ledger: vec![self.line(&token, request, LedgerFact::TokenMinted(token.id))],
        };
        self.recorder.plain(commit).await.map_err(|error| match error {
            EngineError::Internal(_) => EngineError::NameTaken(name.to_string()),
            other => other,
        })?;
        let token = Arc::new(token);
        self.write().insert(token.hash, Arc::clone(&token));
        Ok(Minted { token, secret })
    }

    pub async fn revoke(&self, name: &AppName, request: RequestId) -> Result<(), EngineError> {
        let token = self.list().into_iter().find(|token| token.app.name == *name);
        let token = token.ok_or(EngineError::NotFound("token"))?;
        let commit = Commit {
            expects: vec![Expect::TokenLive(token.id)],
            writes: vec![Write::RevokeToken(token.id, self.ids.now())],
            ledger: vec![self.line(&token, request, LedgerFact::TokenRevoked(token.id))],
        };
        self.recorder.plain(commit).await.map_err(|error| match error {
            EngineError::Internal(_) => EngineError::NotFound("token"),
            other => other,
        })?;
        self.write().remove(&token.hash);
        Ok(())
    }

    fn line(&self, token: &AppToken, request: RequestId, fact: LedgerFact) -> LedgerEntry {
        let app = Some(token.app.name.to_string());
        LedgerEntry { at: self.ids.now(), principal: "operator", app, request: Some(request), fact }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TokenHash, Arc<AppToken>>> {
        self.by_hash.write().unwrap_or_else(PoisonError::into_inner)
    }
}
