//! The surface of the first versions, exactly: render only.
//!
//! The engine does the same here as everywhere; these handlers only read and write the old shapes,
//! which golden files hold.

pub(crate) mod files;
mod form_body;
pub(crate) mod health;
pub(crate) mod run;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod turns;

use axum::http::{HeaderValue, header};
use axum::response::Response;

/// No answer of ours may be kept by a cache between us and the caller.
pub(crate) async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
