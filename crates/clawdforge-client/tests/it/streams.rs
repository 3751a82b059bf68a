//! Streams of events as a service would send them.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

/// What becomes of a connection behind its last byte.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// It ends in good order.
    Ends,
    /// It breaks.
    Breaks,
    /// It stays, and nothing comes any more.
    Stays,
}

/// A stream that is answered to `POST` or `GET`, with where its run or turn is.
pub fn streaming(text: impl Into<String>, then: Then) -> Response {
    let text: Bytes = text.into().into();
    let told = stream::iter([Ok::<_, std::io::Error>(text)]);
    let rest = match then {
        Then::Ends => stream::empty().boxed(),
        // Behind what was told: a break that comes with it would take it away.
        Then::Breaks => stream::once(async {
            tokio::task::yield_now().await;
            Err(std::io::Error::other("the line is cut"))
        })
        .boxed(),
        Then::Stays => stream::pending().boxed(),
    };
    let mut response = Response::new(Body::from_stream(told.chain(rest)));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// The same, at a place.
pub fn located(mut response: Response, location: &str) -> Response {
    response.headers_mut().insert("location", location.parse().unwrap());
    response
}

/// Bytes one after the other, each in a piece of its own.
pub fn in_single_bytes(text: &str) -> Response {
    let bytes: Vec<_> = text.bytes().map(|byte| Ok::<_, Infallible>(Bytes::from(vec![byte]))).collect();
    let pieces = stream::iter(bytes).then(|byte| async {
        tokio::task::yield_now().await;
        byte
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
    response
}

/// An event of a kind, with what belongs to it.
pub fn event(seq: u64, kind: &str, rest: &Value) -> String {
    let mut data = json!({"seq": seq, "at": "2026-11-29T00:01:10.444Z", "turn_id": "trn_1", "type": kind});
    for (key, value) in rest.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    format!("id: {seq}\nevent: {kind}\ndata: {data}\n\n")
}

pub fn text(seq: u64, content: &str) -> String {
    event(seq, "text", &json!({ "content": content }))
}

pub fn ended(seq: u64) -> String {
    event(seq, "ended", &json!({"answer": "a", "stop_reason": "end_turn", "duration_ms": 4}))
}

pub fn failed(seq: u64, kind: &str, message: &str) -> String {
    let failure = json!({ "kind": kind, "message": message });
    event(seq, "ended", &json!({"failure": failure, "stderr": "tail", "duration_ms": 7}))
}

/// A problem as a body or as the data of an `error`.
pub fn problem(code: &str, status: u16, retry_after_ms: Option<u64>) -> String {
    let mut problem = json!({
        "type": format!("/problems/{code}"), "title": "It.", "status": status, "detail": "because", "instance": "req_1",
        "code": code,
    });
    if let Some(millis) = retry_after_ms {
        problem["retry_after_ms"] = millis.into();
    }
    problem.to_string()
}

/// A refusal that is a problem.
pub fn refused(code: &str, status: u16, retry_after_ms: Option<u64>) -> Response {
    let mut response = crate::stub::reply(status, &problem(code, status, retry_after_ms));
    response.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
    response
}
