//! What each endpoint is asked: path, method, token and deadline, on one page.

use std::marker::PhantomData;
use std::time::Duration;

use clawdforge_api::admin::LedgerPage;
use clawdforge_api::legacy::{Done, FileReply, Health, MintReply, MintRequest, RunReply, RunRequest, TokenList};
use clawdforge_core::app::AppName;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, Url};

use crate::bearer::Bearer;
use crate::client::Client;
use crate::error::{ClientError, TokenKind};
use crate::ledger::LedgerQuery;
use crate::limits;

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
        if request.prompt.is_empty() {
            return Err(ClientError::Invalid("the prompt is empty".to_owned()));
        }
        let agent = Duration::from_secs(request.timeout_secs.unwrap_or(limits::RUN_SECS_DEFAULT));
        let post = self.as_app(self.to(Method::POST, &["run"])?)?.json(request);
        Ok(call(post, Some(agent.saturating_add(self.run_grace))))
    }

    pub(crate) fn upload_call(&self, form: Form) -> Result<Call<FileReply>, ClientError> {
        Ok(call(self.as_app(self.to(Method::POST, &["files"])?)?.multipart(form), None))
    }

    pub(crate) fn mint_call(&self, name: &str, ip_cidrs: &[String]) -> Result<Call<MintReply>, ClientError> {
        let body = MintRequest { name: app_name(name)?, ip_cidrs: ip_cidrs.to_vec() };
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

    fn to(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.http.request(method, self.url(path)?))
    }

    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Invalid("the service's URL takes no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    fn as_app(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        sign(request, self.app.as_ref(), TokenKind::App)
    }

    fn as_admin(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        sign(request, self.admin.as_ref(), TokenKind::Admin)
    }
}

fn call<T>(request: RequestBuilder, deadline: Option<Duration>) -> Call<T> {
    let request = match deadline {
        Some(deadline) => request.timeout(deadline),
        None => request,
    };
    Call { request, deadline, reply: PhantomData }
}

fn sign(request: RequestBuilder, bearer: Option<&Bearer>, kind: TokenKind) -> Result<RequestBuilder, ClientError> {
    bearer.map(|bearer| bearer.sign(request)).ok_or(ClientError::TokenMissing(kind))
}

/// A name becomes part of a path, so nothing but a name is sent.
fn app_name(text: &str) -> Result<String, ClientError> {
    let name: AppName = text.parse().map_err(|bad| ClientError::Invalid(format!("{bad}")))?;
    Ok(name.as_str().to_owned())
}
