//! Refusals as problems, and the pages about them.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use clawdforge_api::problem::{Code, PROBLEM_JSON, Problem};
use clawdforge_core::id::RequestId;

use crate::answer::{Refusal, Told};
use crate::extract::Segments;

/// The paths whose refusals are problems, with all below them.
const PREFIXES: [&str; 2] = ["/v1", "/problems"];

/// Where the pages are.
const PAGES: &str = "/problems/";

/// The page about a problem.
pub(crate) async fn page(Segments(code): Segments<String>) -> Result<Response, Refusal> {
    let code = Code::named(&code).ok_or(Refusal::NoSuchRoute)?;
    let kind = [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")];
    Ok((kind, code.page()).into_response())
}

/// A refusal that is told within a stream.
pub(super) fn of(refusal: Refusal, request: RequestId) -> Problem {
    let response = refusal.into_response();
    let told = response.extensions().get::<Told>().cloned();
    problem(told.unwrap_or_else(Told::nothing), &response, request)
}

/// The refusal of a request to `/v1` or a page about problems as a problem; any other answer as it is.
pub(crate) fn translate(path: &str, response: Response, request: RequestId) -> Response {
    let is_below = |prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_ours = PREFIXES.into_iter().any(is_below);
    let Some(told) = response.extensions().get::<Told>().cloned().filter(|_| is_ours) else { return response };
    let body = Json(problem(told, &response, request)).into_response();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, body.into_body())
}

fn problem(told: Told, response: &Response, request: RequestId) -> Problem {
    let Told { code, detail, errors } = told;
    let secs = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    Problem {
        kind: format!("{PAGES}{}", code.as_str()),
        title: code.title().to_owned(),
        status: code.status(),
        detail,
        instance: request.to_string(),
        code: code.as_str().to_owned(),
        retry_after_ms: secs.map(|secs| secs.saturating_mul(1_000)),
        errors,
    }
}
