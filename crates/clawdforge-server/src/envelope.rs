//! What is around every request: its id, its log line, and the catching of panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use clawdforge_core::id::RequestId;
use clawdforge_engine::EngineError;
use futures_util::FutureExt;

use crate::App;
use crate::answer::Refusal;
use crate::v1::problems;

/// The header that carries the request's id back.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, sends it back, and turns a panic into a 500 that takes nothing else down.
pub(crate) async fn envelope(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = app.engine.request_id();
    request.extensions_mut().insert(id);
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = outcome.unwrap_or_else(|_panic| panicked(id));
    let mut response = problems::translate(&path, response, id);
    let status = response.status();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(request.id = %id, http.method = %method, http.path = path, http.status = status.as_u16(), duration_ms, "answered");
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn panicked(id: RequestId) -> Response {
    tracing::error!(request.id = %id, "a handler panicked");
    Refusal::Engine(EngineError::Internal("a handler panicked".to_owned())).into_response()
}
