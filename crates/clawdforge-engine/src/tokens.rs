//! Who may speak: app tokens in memory, as the store has them.
//!
//! All live tokens are held in memory by their hash, so that checking a request costs no read. The
//! store stays the truth: a token is answered for only after its commit, a revoked one is forgotten before
//! anybody is told, and after any doubt the memory is read anew. Changes happen one after the other.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use clawdforge_core::app::{APP_TOKEN_PREFIX, App, AppName, AppToken, TokenHash};
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::id::{AppId, RequestId, TokenId};
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::limits::TOKENS_MAX;
use clawdforge_core::network::NetworkRule;
use clawdforge_core::secret::{ExposeSecret, SecretString};
use clawdforge_store::{CommitError, TokenReads};
use ipnet::IpNet;
use tokio::sync::Mutex;

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

/// A token that is wished for.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// The app's name; a new app where nobody has it.
    pub name: AppName,
    /// Where requests may come from; empty for anywhere.
    pub ip_cidrs: Vec<IpNet>,
    /// What the app's agents may reach, where that is less than their own rules let them.
    pub network: Option<NetworkRule>,
    /// Whether the app's sessions may be given tool servers.
    pub may_give_tool_servers: bool,
}

impl TokenWish {
    /// A token of an app that says nothing else.
    #[must_use]
    pub fn of(name: AppName) -> Self {
        Self { name, ip_cidrs: Vec::new(), network: None, may_give_tool_servers: true }
    }
}

/// The live tokens.
pub(crate) struct Tokens {
    reads: Arc<dyn TokenReads>,
    recorder: Recorder,
    ids: Ids,
    by_hash: RwLock<HashMap<TokenHash, Arc<AppToken>>>,
    /// Held over a change and over a reading anew, so that neither undoes the other in memory.
    changing: Mutex<()>,
}

impl Tokens {
    pub async fn load(reads: Arc<dyn TokenReads>, recorder: Recorder, ids: Ids) -> Result<Self, EngineError> {
        let tokens = Self { reads, recorder, ids, by_hash: RwLock::default(), changing: Mutex::default() };
        tokens.read_anew().await?;
        Ok(tokens)
    }

    /// Makes the memory what the store is, whatever happened.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        let _alone = self.changing.lock().await;
        self.read_anew().await
    }

    async fn read_anew(&self) -> Result<(), EngineError> {
        let live = self.reads.live_tokens().await?;
        *self.write() = live.into_iter().map(|token| (token.hash, Arc::new(token))).collect();
        Ok(())
    }

    pub fn find(&self, bearer: &str) -> Option<Arc<AppToken>> {
        self.find_hash(&TokenHash::of(bearer))
    }

    pub fn list(&self) -> Vec<Arc<AppToken>> {
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<_> = map.values().map(Arc::clone).collect();
        tokens.sort_by(|a, b| a.app.name.cmp(&b.app.name));
        tokens
    }

    pub fn of_app(&self, app: AppId) -> Option<Arc<AppToken>> {
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.values().find(|token| token.app.id == app).map(Arc::clone)
    }

    pub async fn mint(&self, wish: TokenWish, request: RequestId) -> Result<Minted, EngineError> {
        let TokenWish { name, ip_cidrs, network, may_give_tool_servers } = wish;
        let _alone = self.changing.lock().await;
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
            ip_cidrs,
            network,
            may_give_tool_servers,
            created_at: now,
        };
        let commit = Commit {
            expects: vec![Expect::NoLiveToken(name.clone())],
            writes: vec![Write::AddApp(app, now), Write::AddToken(token.clone())],
            ledger: vec![self.line(&token, request, LedgerFact::TokenMinted(token.id))],
        };
        if let Err(error) = self.recorder.plain(commit).await {
            // It may be there all the same; its secret is lost then, but it can be revoked.
            self.read_anew().await?;
            return Err(match error {
                CommitError::Unexpected { .. } => EngineError::NameTaken(name.to_string()),
                other => other.into(),
            });
        }
        let token = Arc::new(token);
        self.write().insert(token.hash, Arc::clone(&token));
        Ok(Minted { token, secret })
    }

    pub async fn revoke(&self, name: &AppName, request: RequestId) -> Result<(), EngineError> {
        let _alone = self.changing.lock().await;
        let token = self.list().into_iter().find(|token| token.app.name == *name);
        let token = token.ok_or(EngineError::NotFound("token"))?;
        let commit = Commit {
            expects: vec![Expect::TokenLive(token.id)],
            writes: vec![Write::RevokeToken(token.id, self.ids.now())],
            ledger: vec![self.line(&token, request, LedgerFact::TokenRevoked(token.id))],
        };
        let outcome = self.recorder.plain(commit).await;
        // Forgotten before the answer is looked at: in doubt a token to be revoked is not good any more.
        self.write().remove(&token.hash);
        let Err(error) = outcome else { return Ok(()) };
        self.read_anew().await?;
        match error {
            // Somebody else has revoked it meanwhile.
            CommitError::Unexpected { .. } => Err(EngineError::NotFound("token")),
            CommitError::Unknown(_) if self.find_hash(&token.hash).is_none() => Ok(()),
            other => Err(other.into()),
        }
    }

    fn find_hash(&self, hash: &TokenHash) -> Option<Arc<AppToken>> {
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.get(hash).map(Arc::clone)
    }

    fn line(&self, token: &AppToken, request: RequestId, fact: LedgerFact) -> LedgerEntry {
        let app = Some(token.app.name.to_string());
        LedgerEntry { at: self.ids.now(), principal: "operator", app, request: Some(request), fact }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TokenHash, Arc<AppToken>>> {
        self.by_hash.write().unwrap_or_else(PoisonError::into_inner)
    }
}
