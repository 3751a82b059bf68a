//! What each endpoint is asked: path, method, token and deadline, on one page.

use std::marker::PhantomData;
use std::time::Duration;

use clawdforge_api::admin::LedgerPage;
use clawdforge_api::legacy::{
    Done, FileReply, Health, MintReply, MintRequest, RunReply, RunRequest, SessionClosed, SessionList, SessionReply,
    SessionRequest, SessionStateReply, TokenList, TurnReply, TurnRequest,
};
use clawdforge_core::app::AppName;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value;

use crate::bearer::Bearer;
use crate::client::Client;
use crate::error::{ClientError, TokenKind};
use crate::ledger::LedgerQuery;
use crate::limits;
use crate::session::SessionKey;

/// A request that is ready to be sent, and the shape of its success.
pub(crate) struct Call<T> {
    pub(crate) request: RequestBuilder,
    pub(crate) deadline: Option<Duration>,
    reply: PhantomData<fn() -> T>,
}

impl Client {
    pub(crate) fn healthz_call(&self) -> Result<Call<Health>, ClientError> {
        Ok(call(self.to(Method::GET, &["healthz"])?, Some(self.call_wait)))
    }

    pub(crate) fn run_call(&self, request: &RunRequest) -> Result<Call<RunReply>, ClientError> {
        check_prompt(&request.prompt)?;
        check_no_schema(request.output_schema.as_ref())?;
        let post = self.as_app(self.to(Method::POST, &["run"])?)?.json(request);
        Ok(call(post, Some(time_limit(request.timeout_secs).saturating_add(self.run_grace))))
    }

    pub(crate) fn open_call(&self, request: &SessionRequest) -> Result<Call<SessionReply>, ClientError> {
        let post = self.as_app(self.to(Method::POST, &["sessions"])?)?.json(request);
        Ok(call(post, Some(self.call_wait)))
    }

    /// `ahead` is how long turns of the session that were sent before may still take.
    pub(crate) fn turn_call(
        &self,
        session: &SessionKey,
        request: &TurnRequest,
        ahead: Duration,
    ) -> Result<Call<TurnReply>, ClientError> {
        check_prompt(&request.prompt)?;
        check_no_schema(request.output_schema.as_ref())?;
        let post = self.as_app(self.to(Method::POST, &["sessions", session.as_str(), "turn"])?)?.json(request);
        let deadline = ahead.saturating_add(time_limit(request.timeout_secs)).saturating_add(self.turn_grace);
        Ok(call(post, Some(deadline)))
    }

    pub(crate) fn state_call(&self, session: &SessionKey) -> Result<Call<SessionStateReply>, ClientError> {
        let get = self.to(Method::GET, &["sessions", session.as_str()])?;
        Ok(call(self.as_app(get)?, Some(self.call_wait)))
    }

    pub(crate) fn sessions_call(&self, include_closed: bool) -> Result<Call<SessionList>, ClientError> {
        let mut url = self.url(&["sessions"])?;
        // Said either way: services do not agree on what is meant without it.
        url.query_pairs_mut().append_pair("include_closed", if include_closed { "true" } else { "false" });
        Ok(call(self.as_app(self.http.request(Method::GET, url))?, Some(self.call_wait)))
    }

    pub(crate) fn close_call(&self, session: &SessionKey) -> Result<Call<SessionClosed>, ClientError> {
        let delete = self.to(Method::DELETE, &["sessions", session.as_str()])?;
        Ok(call(self.as_app(delete)?, Some(self.call_wait)))
    }

    pub(crate) fn upload_call(&self, form: Form) -> Result<Call<FileReply>, ClientError> {
        Ok(call(self.as_app(self.to(Method::POST, &["files"])?)?.multipart(form), None))
    }

    pub(crate) fn mint_call(
        &self,
        name: &str,
        ip_cidrs: &[String],
        network: Option<Value>,
        mcp_servers: Option<String>,
    ) -> Result<Call<MintReply>, ClientError> {
        let body = MintRequest { name: app_name(name)?, ip_cidrs: ip_cidrs.to_vec(), network, mcp_servers };
        let post = self.as_admin(self.to(Method::POST, &["admin", "tokens"])?)?.json(&body);
        Ok(call(post, Some(self.call_wait)))
    }

    pub(crate) fn tokens_call(&self) -> Result<Call<TokenList>, ClientError> {
        Ok(call(self.as_admin(self.to(Method::GET, &["admin", "tokens"])?)?, Some(self.call_wait)))
    }

    pub(crate) fn revoke_call(&self, name: &str) -> Result<Call<Done>, ClientError> {
        let delete = self.to(Method::DELETE, &["admin", "tokens", &app_name(name)?])?;
        Ok(call(self.as_admin(delete)?, Some(self.call_wait)))
    }

    pub(crate) fn ledger_call(&self, query: &LedgerQuery) -> Result<Call<LedgerPage>, ClientError> {
        let mut url = self.url(&["admin", "ledger"])?;
        query.write_into(&mut url);
        Ok(call(self.as_admin(self.http.request(Method::GET, url))?, Some(self.call_wait)))
    }

    pub(crate) fn to(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.http.request(method, self.url(path)?))
    }

    pub(crate) fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Invalid("the service's URL takes no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    pub(crate) fn as_app(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        sign(request, self.app.as_ref(), TokenKind::App)
    }

    pub(crate) fn as_admin(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        sign(request, self.admin.as_ref(), TokenKind::Admin)
    }
}

pub(crate) fn call<T>(request: RequestBuilder, deadline: Option<Duration>) -> Call<T> {
    let request = match deadline {
        Some(deadline) => request.timeout(deadline),
        None => request,
    };
    Call { request, deadline, reply: PhantomData }
}

fn sign(request: RequestBuilder, bearer: Option<&Bearer>, kind: TokenKind) -> Result<RequestBuilder, ClientError> {
    bearer.map(|bearer| bearer.sign(request)).ok_or(ClientError::TokenMissing(kind))
}

pub(crate) fn check_prompt(prompt: &str) -> Result<(), ClientError> {
    if prompt.is_empty() { Err(ClientError::Invalid("the prompt is empty".to_owned())) } else { Ok(()) }
}

/// The first versions' endpoints would pass over a schema, and the answer be anything.
fn check_no_schema(schema: Option<&Value>) -> Result<(), ClientError> {
    let message = "output_schema is known to /v1 only: use start_run, stream_run, start_turn or stream_turn";
    if schema.is_some() { Err(ClientError::Invalid(message.to_owned())) } else { Ok(()) }
}

/// What the agent is given at most, where the service's default was not changed.
pub(crate) fn time_limit(timeout_secs: Option<u64>) -> Duration {
    Duration::from_secs(timeout_secs.unwrap_or(limits::RUN_SECS_DEFAULT))
}

/// A name becomes part of a path, so nothing but a name is sent.
pub(crate) fn app_name(text: &str) -> Result<String, ClientError> {
    let name: AppName = text.parse().map_err(|bad| ClientError::Invalid(format!("{bad}")))?;
    Ok(name.as_str().to_owned())
}
