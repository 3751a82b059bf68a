//! What each route of `/v1` is asked by an app; by the operator, `tokens.rs`.

use clawdforge_api::legacy::{RunRequest, TurnRequest};
use clawdforge_api::v1::{Agent, File, Page, Progress, Run, Session, SessionChanges, SessionRequest, Turn, UsageSum};
use clawdforge_core::event::EventSeq;
use clawdforge_core::idempotency::{IdempotencyKey, KEY_BYTES_MAX};
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::PageQuery;
use crate::calls::{Call, call, check_prompt};
use crate::client::Client;
use crate::error::ClientError;
use crate::events::{EventSource, part, session_part};
use crate::limits::FORK_WAIT_MAX;

/// By which a caller says that it does not wait for the outcome.
const RESPOND_ASYNC: (&str, &str) = ("prefer", "respond-async");

impl Client {
    /// A run is posted; how its outcome is told is for the caller to add.
    pub(crate) fn run_post(&self, run: &RunRequest, key: Option<&str>) -> Result<RequestBuilder, ClientError> {
        check_prompt(&run.prompt)?;
        keyed(self.as_app(self.to(Method::POST, &["v1", "runs"])?)?.json(run), key)
    }

    pub(crate) fn turn_post(
        &self,
        session: &str,
        turn: &TurnRequest,
        key: Option<&str>,
    ) -> Result<RequestBuilder, ClientError> {
        check_prompt(&turn.prompt)?;
        let path = ["v1", "sessions", &session_part(session)?, "turns"];
        keyed(self.as_app(self.to(Method::POST, &path)?)?.json(turn), key)
    }

    pub(super) fn run_start_call(&self, run: &RunRequest, key: Option<&str>) -> Result<Call<Run>, ClientError> {
        let (name, value) = RESPOND_ASYNC;
        Ok(call(self.run_post(run, key)?.header(name, value), Some(self.call_wait)))
    }

    pub(super) fn turn_start_call(
        &self,
        session: &str,
        turn: &TurnRequest,
        key: Option<&str>,
    ) -> Result<Call<Turn>, ClientError> {
        let (name, value) = RESPOND_ASYNC;
        Ok(call(self.turn_post(session, turn, key)?.header(name, value), Some(self.call_wait)))
    }

    pub(crate) fn run_get_call(&self, id: &str) -> Result<Call<Run>, ClientError> {
        self.get(&["v1", "runs", &part(id)?])
    }

    pub(crate) fn run_cancel_call(&self, id: &str) -> Result<Call<Run>, ClientError> {
        self.ask(Method::POST, &["v1", "runs", &part(id)?, "cancel"])
    }

    pub(crate) fn runs_call(&self, page: &PageQuery) -> Result<Call<Page<Run>>, ClientError> {
        self.list(&["v1", "runs"], page, &[])
    }

    pub(crate) fn session_open_call(
        &self,
        session: &SessionRequest,
        key: Option<&str>,
    ) -> Result<Call<Session>, ClientError> {
        let post = self.as_app(self.to(Method::POST, &["v1", "sessions"])?)?.json(session);
        Ok(call(keyed(post, key)?, Some(self.call_wait)))
    }

    pub(crate) fn session_fork_call(
        &self,
        id: &str,
        changes: &SessionChanges,
        key: Option<&str>,
    ) -> Result<Call<Session>, ClientError> {
        let path = ["v1", "sessions", &session_part(id)?, "fork"];
        let post = self.as_app(self.to(Method::POST, &path)?)?.json(changes);
        Ok(call(keyed(post, key)?, Some(self.call_wait.max(FORK_WAIT_MAX))))
    }

    pub(crate) fn session_change_call(&self, id: &str, changes: &SessionChanges) -> Result<Call<Session>, ClientError> {
        let patch = self.to(Method::PATCH, &["v1", "sessions", &session_part(id)?])?;
        Ok(call(self.as_app(patch)?.json(changes), Some(self.call_wait)))
    }

    pub(super) fn session_get_call(&self, id: &str) -> Result<Call<Session>, ClientError> {
        self.get(&["v1", "sessions", &session_part(id)?])
    }

    pub(super) fn session_close_call(&self, id: &str) -> Result<Call<Session>, ClientError> {
        self.ask(Method::DELETE, &["v1", "sessions", &session_part(id)?])
    }

    pub(super) fn sessions_page_call(
        &self,
        include_closed: bool,
        page: &PageQuery,
    ) -> Result<Call<Page<Session>>, ClientError> {
        let include_closed = if include_closed { "true" } else { "false" };
        self.list(&["v1", "sessions"], page, &[("include_closed", include_closed)])
    }

    pub(super) fn events_page_call(
        &self,
        session: &str,
        after: EventSeq,
        page: &PageQuery,
    ) -> Result<Call<Page<Box<RawValue>>>, ClientError> {
        let path = ["v1", "sessions", &session_part(session)?, "events"];
        self.list(&path, page, &[("after", &after.to_string())])
    }

    pub(super) fn turn_get_call(&self, session: &str, turn: &str) -> Result<Call<Turn>, ClientError> {
        self.get(&EventSource::turn(session, turn)?.path())
    }

    pub(super) fn turn_cancel_call(&self, session: &str, turn: &str) -> Result<Call<Turn>, ClientError> {
        self.ask(Method::POST, &["v1", "sessions", &session_part(session)?, "turns", &part(turn)?, "cancel"])
    }

    pub(super) fn turns_call(&self, session: &str, page: &PageQuery) -> Result<Call<Page<Turn>>, ClientError> {
        self.list(&["v1", "sessions", &session_part(session)?, "turns"], page, &[])
    }

    /// How a run or turn stands.
    pub(crate) fn progress_call(&self, source: &EventSource) -> Result<Call<Progress>, ClientError> {
        self.get(&source.path())
    }

    pub(crate) fn file_upload_call(&self, form: Form, key: Option<&str>) -> Result<Call<File>, ClientError> {
        let post = self.as_app(self.to(Method::POST, &["v1", "files"])?)?;
        Ok(call(keyed(post, key)?.multipart(form), None))
    }

    pub(super) fn file_call(&self, id: &str) -> Result<Call<File>, ClientError> {
        self.get(&["v1", "files", &part(id)?])
    }

    pub(super) fn agents_call(&self) -> Result<Call<Page<Agent>>, ClientError> {
        self.get(&["v1", "agents"])
    }

    pub(super) fn usage_call(&self, from: Option<&str>, to: Option<&str>) -> Result<Call<UsageSum>, ClientError> {
        let bounds: Vec<_> =
            [("from", from), ("to", to)].into_iter().filter_map(|(key, at)| Some((key, at?))).collect();
        self.list(&["v1", "usage"], &PageQuery::default(), &bounds)
    }

    fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Call<T>, ClientError> {
        self.ask(Method::GET, path)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &[&str]) -> Result<Call<T>, ClientError> {
        Ok(call(self.as_app(self.to(method, path)?)?, Some(self.call_wait)))
    }

    fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        page: &PageQuery,
        pairs: &[(&str, &str)],
    ) -> Result<Call<T>, ClientError> {
        let mut url = self.url(path)?;
        for (key, value) in pairs {
            url.query_pairs_mut().append_pair(key, value);
        }
        page.write_into(&mut url);
        Ok(call(self.as_app(self.http.request(Method::GET, url))?, Some(self.call_wait)))
    }
}

fn keyed(request: RequestBuilder, key: Option<&str>) -> Result<RequestBuilder, ClientError> {
    match key {
        None => Ok(request),
        Some(key) if IdempotencyKey::is_key(key) => Ok(request.header("idempotency-key", key)),
        Some(_) => {
            let fits = format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
            Err(ClientError::Invalid(fits))
        }
    }
}
