//! `/v1`: resources, streams, background work. Handlers read, call the engine and render; the first versions' routes are
//! beside them, over the same engine.

pub(crate) mod agents;
pub(crate) mod files;
pub(crate) mod forks;
pub(crate) mod places;
pub(crate) mod problems;
mod render;
pub(crate) mod runs;
mod session_body;
pub(crate) mod sessions;
pub(crate) mod stream;
pub(crate) mod tokens;
mod tool_servers;
pub(crate) mod turns;
pub(crate) mod usage;
mod work;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http};
use clawdforge_api::legacy::ValidationFault;
use clawdforge_api::v1::{EVENT_STREAM, Page};
use clawdforge_core::event::EventSeq;
use clawdforge_core::idempotency::{Fingerprint, IdempotencyKey, KEY_BYTES_MAX};
use clawdforge_core::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use clawdforge_engine::EngineError;
use serde::Serialize;
use serde_json::Value;

use crate::answer::Refusal;
use crate::validate::Fields;

/// Bytes of an id, a cursor or a number that are looked at.
const CURSOR_BYTES_MAX: usize = 64;

/// By which a reader of a stream says what it has seen.
const LAST_EVENT_ID: http::HeaderName = http::HeaderName::from_static("last-event-id");

/// By which a caller says that it does not want to wait.
const PREFER: http::HeaderName = http::HeaderName::from_static("prefer");

/// By which it is told that this was heard.
const PREFERENCE_APPLIED: http::HeaderName = http::HeaderName::from_static("preference-applied");

/// How a caller wants to hear of work that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The outcome, when it is there.
    Outcome,
    /// Every event as it comes.
    Stream,
    /// Only where it will be.
    Location,
}

impl Wanted {
    fn of(headers: &HeaderMap) -> Self {
        if parts(headers, PREFER).any(|part| is_word(part, "respond-async")) {
            Self::Location
        } else if wants_stream(headers) {
            Self::Stream
        } else {
            Self::Outcome
        }
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    parts(headers, header::ACCEPT).any(|part| is_word(part, EVENT_STREAM) && !is_refused(part))
}

/// The parts of a header that is a list.
fn parts(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(','))
}

/// Whether a part of a list, without its parameters, is this word.
fn is_word(part: &str, word: &str) -> bool {
    part.split(';').next().is_some_and(|token| token.trim().eq_ignore_ascii_case(word))
}

/// Whether a part of a list says that it is not wanted: by the weight 0 (RFC 9110, section 12.4.2).
fn is_refused(part: &str) -> bool {
    let mut parameters = part.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    parameters.any(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q") && weight.trim().parse::<f32>().is_ok_and(|weight| weight == 0.0)
    })
}

/// A header by which a request may be sent again.
const IDEMPOTENCY_KEY: http::HeaderName = http::HeaderName::from_static("idempotency-key");

/// Says that a request had been sent before.
const REPLAYED: http::HeaderName = http::HeaderName::from_static("idempotent-replayed");

/// The key of a request to this path, if it has one.
fn key_of(headers: &HeaderMap, path: &str, body: &[u8]) -> Result<Option<IdempotencyKey>, Refusal> {
    let fingerprint = Fingerprint::of(&[path.as_bytes(), body]);
    Ok(key_text(headers)?.map(|key| IdempotencyKey { key, fingerprint }))
}

/// The word of a request for itself, if it has one.
fn key_text(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| IdempotencyKey::is_key(text) && values.next().is_none());
    let Some(text) = text else {
        return Err(Refusal::Invalid(vec![ValidationFault {
            kind: "value_error".to_owned(),
            loc: vec!["header".into(), "idempotency-key".into()],
            msg: format!("Value error, a key is one word of 1 to {KEY_BYTES_MAX} visible ASCII characters, once"),
            input: value.to_str().map_or(Value::Null, Into::into),
            ctx: None,
        }]));
    };
    Ok(Some(text.to_owned()))
}

/// Marks the answer to a request that had been sent before.
fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// An id in a path. What is none cannot be anybody's: the same answer as for a foreign one.
fn id<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Refusal> {
    Ok(text.parse().map_err(|_| EngineError::NotFound(what))?)
}

/// Where something is that was made.
fn located(status: StatusCode, path: &str, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    locate(&mut response, path);
    response
}

fn locate(response: &mut Response, path: &str) {
    // Ids have nothing that a header cannot hold.
    if let Ok(path) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
}

/// What is told to whoever does not wait.
fn accepted(path: &str, body: impl Serialize) -> Response {
    let mut response = located(StatusCode::ACCEPTED, path, body);
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    response
}

/// Which page of a list.
struct Wish<C> {
    cursor: Option<C>,
    limit: usize,
}

fn page_wish<C: std::str::FromStr>(fields: &mut Fields<'_>) -> Wish<C> {
    let text = fields.optional_text("cursor", CURSOR_BYTES_MAX);
    let cursor = text.as_deref().map(str::parse::<C>).transpose();
    if let (Err(_), Some(text)) = (&cursor, &text) {
        fields.value_fault("cursor", "Value error, this is no cursor of a page", &serde_json::json!(text));
    }
    Wish { cursor: cursor.ok().flatten(), limit: page_limit(fields) }
}

fn page_limit(fields: &mut Fields<'_>) -> usize {
    let rows_max = i64::try_from(PAGE_ROWS_MAX).unwrap_or(i64::MAX);
    let limit = fields.optional_integer("limit", 1, rows_max).and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(PAGE_ROWS_DEFAULT)
}

/// A page, with a cursor where there may be more.
fn page<T>(data: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let next_cursor = if data.len() == limit { data.last().map(cursor) } else { None };
    Page { data, next_cursor }
}

/// The number after which a stream goes on: what the reader has seen, by the header or else by the query.
fn seen(headers: &HeaderMap, fields: &mut Fields<'_>) -> EventSeq {
    let asked = event_number(fields, "after").unwrap_or(0);
    let Some(told) = headers.get(LAST_EVENT_ID) else { return asked };
    let text = told.to_str().ok().map(str::trim);
    if let Some(number) = text.and_then(number) {
        return number;
    }
    let shown = text.filter(|text| text.len() <= CURSOR_BYTES_MAX);
    fields.header_fault(LAST_EVENT_ID.as_str(), &no_number(), shown.map_or(Value::Null, Into::into));
    asked
}

/// A number of an event in the query. One that no event has yet is as good as any: what comes behind it is none.
fn event_number(fields: &mut Fields<'_>, key: &str) -> Option<EventSeq> {
    let text = fields.optional_text(key, CURSOR_BYTES_MAX)?;
    let found = number(text.trim());
    if found.is_none() {
        fields.value_fault(key, &no_number(), &serde_json::json!(text));
    }
    found
}

/// A number as the store can hold it.
fn number(text: &str) -> Option<EventSeq> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)?;
    digits.parse::<i64>().ok().map(i64::unsigned_abs)
}

fn no_number() -> String {
    format!("Value error, this is no number of an event, which is 0 to {}", i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(http::HeaderName, &'static str)]) -> Wanted {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Wanted::of(&HeaderMap::from_iter(headers))
    }

    #[test]
    fn how_a_caller_wants_to_hear_is_told_by_its_headers() {
        assert_eq!(wanted(&[]), Wanted::Outcome);
        assert_eq!(wanted(&[(header::ACCEPT, "application/json, */*")]), Wanted::Outcome);
        assert_eq!(wanted(&[(header::ACCEPT, "application/json, Text/Event-Stream;q=0.9")]), Wanted::Stream);
        assert_eq!(wanted(&[(header::ACCEPT, "text/event-stream;q=0, */*")]), Wanted::Outcome);
        assert_eq!(wanted(&[(header::ACCEPT, "text/event-stream; charset=utf-8; Q=0.000")]), Wanted::Outcome);
        assert_eq!(wanted(&[(header::ACCEPT, "text/event-stream;q=0.001")]), Wanted::Stream);
        assert_eq!(wanted(&[(PREFER, "wait=10, Respond-Async")]), Wanted::Location);
        assert_eq!(wanted(&[(PREFER, "respond-async"), (header::ACCEPT, EVENT_STREAM)]), Wanted::Location);
        assert_eq!(wanted(&[(PREFER, "respond-asynchronously")]), Wanted::Outcome);
    }

    fn seen_by(last_event_id: &'static str, after: &str) -> Result<EventSeq, Vec<ValidationFault>> {
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(last_event_id))]);
        let mut fields = Fields::of_query(vec![("after".to_owned(), after.to_owned())], &["after"]);
        let seen = seen(&headers, &mut fields);
        fields.finish().map(|()| seen)
    }

    #[test]
    fn what_a_reader_has_seen_is_a_number_that_the_store_can_hold_and_anything_else_is_a_fault_of_its_place() {
        assert_eq!(seen_by(" 7 ", "3"), Ok(7));
        assert_eq!(seen_by("9223372036854775807", "3"), Ok(i64::MAX.unsigned_abs()));
        for wrong in ["", "x", "-1", "+1", "1.0", "9223372036854775808", "18446744073709551615"] {
            let faults = seen_by(wrong, "3").unwrap_err();
            assert_eq!(faults.len(), 1, "{wrong:?}");
            assert_eq!(faults[0].loc, ["header", "last-event-id"], "{wrong:?}");
            // In a query, nothing is as good as not asked.
            for key in ["after", "cursor"].into_iter().filter(|_| !wrong.is_empty()) {
                let mut fields = Fields::of_query(vec![(key.to_owned(), wrong.to_owned())], &["after", "cursor"]);
                event_number(&mut fields, key);
                let faults = fields.finish().unwrap_err();
                assert_eq!(faults[0].loc, ["query", key], "{wrong:?}");
                assert!(faults[0].msg.ends_with("which is 0 to 9223372036854775807"), "{faults:?}");
            }
        }
    }
}
