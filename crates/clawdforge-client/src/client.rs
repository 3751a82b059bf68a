//! The SDK's face: one method per endpoint.
//!
//! A [`Client`] is cheap to clone and shares one connection pool. Its methods are cancel-safe in the
//! sense that dropping them ends the connection; a run or turn the service has accepted goes on and is
//! recorded there.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clawdforge_api::admin::LedgerPage;
use clawdforge_api::legacy::{
    FileReply, Health, RunReply, RunRequest, SessionList, SessionRequest, SessionState, TokenRow,
};
use reqwest::Url;
use tokio::io::AsyncRead;

use crate::bearer::Bearer;
use crate::builder::ClientBuilder;
use crate::error::ClientError;
use crate::ledger::LedgerQuery;
use crate::session::{Session, SessionKey};
use crate::token::MintedToken;
use crate::upload;

/// A client of one clawdforge service.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: Url,
    pub(crate) app: Option<Bearer>,
    pub(crate) admin: Option<Bearer>,
    pub(crate) call_wait: Duration,
    pub(crate) run_grace: Duration,
    pub(crate) turn_grace: Duration,
    pub(crate) stream_silence: Duration,
    pub(crate) stream_pause: Duration,
    pub(crate) reply_bytes_max: usize,
}

impl Client {
    /// Begins a client for the service at `base_url`, such as `http://127.0.0.1:8800`; a slash at the
    /// end does not matter.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(base_url.into())
    }

    /// Asks whether the service answers. Needs no token and sends none.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn healthz(&self) -> Result<Health, ClientError> {
        Ok(self.perform(self.healthz_call()?).await?.value)
    }

    /// Runs one prompt and waits for the answer, at most the request's `timeout_secs` (or
    /// [`crate::limits::RUN_SECS_DEFAULT`]) and the grace of the builder. Needs the app token.
    ///
    /// See [`crate::RunReplyExt`] for reading the answer.
    ///
    /// # Errors
    /// [`ClientError::RunFailed`] when the agent failed; the others as they say.
    pub async fn run(&self, request: RunRequest) -> Result<RunReply, ClientError> {
        Ok(self.perform(self.run_call(&request)?).await?.value)
    }

    /// Opens a session, a conversation with one agent. Its agent starts with the first turn. Needs the app token.
    ///
    /// The session is closed when the [`Session`] is dropped; see there.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 502 when the agent is not installed, [`ClientError::Validation`] when
    /// there is none of that name; the others as they say.
    pub async fn open_session(&self, options: SessionRequest) -> Result<Session, ClientError> {
        let reply = self.perform(self.open_call(&options)?).await?.value;
        let key = SessionKey::parse(&reply.session_id);
        let key = key.map_err(|_| ClientError::BadReply("its session_id is not one".to_owned()))?;
        Ok(Session::opened(self.clone(), key))
    }

    /// A session that is open already, by its id. Nothing is sent, and it is not closed when the [`Session`] is
    /// dropped.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when the text cannot be an id.
    pub fn session(&self, id: &str) -> Result<Session, ClientError> {
        Ok(Session::attached(self.clone(), SessionKey::parse(id)?))
    }

    /// What the service knows of one session. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 404 when the app has none of that id; the others as they say.
    pub async fn get_session(&self, id: &str) -> Result<SessionState, ClientError> {
        Ok(self.perform(self.state_call(&SessionKey::parse(id)?)?).await?.value.session)
    }

    /// The app's sessions, newest first. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_sessions(&self, include_closed: bool) -> Result<SessionList, ClientError> {
        Ok(self.perform(self.sessions_call(include_closed)?).await?.value)
    }

    /// Uploads a file under its own name, streaming it from disk. Needs the app token.
    ///
    /// `ttl_secs` is how long the service keeps it; it clamps the number to its bounds, and none
    /// means its default.
    ///
    /// # Errors
    /// [`ClientError::Source`] when the file cannot be read; the others as they say.
    pub async fn upload_path(&self, path: impl AsRef<Path>, ttl_secs: Option<u64>) -> Result<FileReply, ClientError> {
        let source = upload::open(path.as_ref()).await.map_err(ClientError::Source)?;
        self.upload_stream(&source.name, source.file, ttl_secs).await
    }

    /// Uploads what `reader` gives until its end, under `name`. Chunk by chunk: no more than
    /// [`crate::limits::UPLOAD_CHUNK_BYTES`] wait here at a time. There is no deadline. Needs the app
    /// token.
    ///
    /// # Errors
    /// [`ClientError::Source`] when `reader` fails; the others as they say.
    pub async fn upload_stream<R>(&self, name: &str, reader: R, ttl_secs: Option<u64>) -> Result<FileReply, ClientError>
    where
        R: AsyncRead + Send + 'static,
    {
        let broken = Arc::new(OnceLock::new());
        let call = self.upload_call(upload::form(name, reader, ttl_secs, Arc::clone(&broken)))?;
        match self.perform(call).await {
            Ok(reply) => Ok(reply.value),
            Err(error) => Err(upload::cause(&broken, error)),
        }
    }

    /// Mints the token of an app; empty `ip_cidrs` let it be used from anywhere the service itself
    /// allows. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 409 or the like when the name is taken; the others as they say.
    pub async fn mint_token(&self, name: &str, ip_cidrs: &[String]) -> Result<MintedToken, ClientError> {
        Ok(self.perform(self.mint_call(name, ip_cidrs, None, None)?).await?.value.into())
    }

    /// Lists live app tokens, without the secrets. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        Ok(self.perform(self.tokens_call()?).await?.value.tokens)
    }

    /// Revokes the token of an app. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 404 when there is none; the others as they say.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.perform(self.revoke_call(name)?).await?;
        Ok(())
    }

    /// Reads one page of the ledger. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn ledger_page(&self, query: &LedgerQuery) -> Result<LedgerPage, ClientError> {
        Ok(self.perform(self.ledger_call(query)?).await?.value)
    }
}
