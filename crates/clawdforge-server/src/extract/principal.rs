//! The second gate: the bearer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use clawdforge_core::app::AppToken;
use clawdforge_core::id::RequestId;
use clawdforge_core::ledger::Door;
use clawdforge_engine::EngineError;

use crate::App;
use crate::answer::Refusal;
use crate::gate::{CallerAddress, allows};

const MISSING: &str =
    "send an app token as `Authorization: Bearer cf_…`; the operator mints one with `clawdforge token mint NAME`";
const UNKNOWN: &str = "this token is not known; it may have been revoked";
const ADMIN_MISSING: &str =
    "send the admin token as `Authorization: Bearer …`; it is in the file admin-token of the data directory";
const APP_ON_ADMIN: &str = "this needs the admin token; an app token is not enough";
const ADMIN_ON_APP: &str = "the admin token cannot do this; mint an app token with `clawdforge token mint NAME`";

/// The request comes from this app, and from where its token may be used.
pub(crate) struct ByApp {
    pub token: Arc<AppToken>,
    pub request: RequestId,
}

/// The request comes from the operator.
pub(crate) struct ByOperator {
    pub request: RequestId,
}

impl FromRequestParts<App> for ByApp {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let bearer = bearer(parts).ok_or(Refusal::NotSignedIn(MISSING))?;
        let CallerAddress(address) = beside(parts)?;
        let Some(token) = app.engine.app(bearer) else {
            let known = is_operator(app, bearer, address, Door::App);
            return Err(if known { Refusal::NotPermitted(ADMIN_ON_APP) } else { failed(app, address, Door::App) });
        };
        if !token.ip_cidrs.is_empty() && !allows(&token.ip_cidrs, address) {
            return Err(Refusal::AddressNotAllowed(address));
        }
        Ok(Self { token, request: beside(parts)? })
    }
}

impl FromRequestParts<App> for ByOperator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let bearer = bearer(parts).ok_or(Refusal::NotSignedIn(ADMIN_MISSING))?;
        let CallerAddress(address) = beside(parts)?;
        if is_operator(app, bearer, address, Door::Admin) {
            return Ok(Self { request: beside(parts)? });
        }
        let known = app.engine.app(bearer).is_some();
        Err(if known { Refusal::NotPermitted(APP_ON_ADMIN) } else { failed(app, address, Door::Admin) })
    }
}

/// Whether a bearer is the admin token. One that somebody might guess is not looked at while its address waits.
fn is_operator(app: &App, bearer: &str, address: IpAddr, door: Door) -> bool {
    let waits = app.options.admin_token_guessable && app.sign_ins.wait(address, door, Instant::now()).is_some();
    !waits && app.engine.is_operator(bearer)
}

/// Counts a wrong token and refuses it.
fn failed(app: &App, address: IpAddr, door: Door) -> Refusal {
    let wait = app.sign_ins.failed(address, door, Instant::now());
    wait.map_or(Refusal::NotSignedIn(UNKNOWN), Refusal::TooManySignIns)
}

/// The bearer of a request; none when there are several headers, so that two parties cannot read
/// different ones.
fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (values.next()?, values.next());
    if more.is_some() {
        return None;
    }
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What an outer layer put beside the request.
fn beside<T: Clone + Send + Sync + 'static>(parts: &Parts) -> Result<T, Refusal> {
    let missing = || EngineError::Internal("a layer that every route needs is missing".to_owned());
    Ok(parts.extensions.get::<T>().cloned().ok_or_else(missing)?)
}
