//! Sending a call and reading what comes back, under limits: the only place that turns a status or
//! a broken connection into a [`ClientError`].

use std::error::Error;
use std::time::Duration;

use clawdforge_api::legacy::{TurnFailure, ValidationFault};
use clawdforge_api::problem::{PROBLEM_JSON, Problem};
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use crate::calls::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::limits::{ERROR_BYTES_MAX, MESSAGE_CHARS_MAX};

/// A success: its bytes as they came, and what they say.
pub(crate) struct Reply<T> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) value: T,
}

impl Client {
    /// Sends a call, once.
    pub(crate) async fn perform<T: DeserializeOwned>(&self, call: Call<T>) -> Result<Reply<T>, ClientError> {
        let deadline = call.deadline;
        let broken = |error: reqwest::Error| self.broken(error, deadline);
        let response = call.request.send().await.map_err(broken)?;
        let limit = self.reply_bytes_max;
        let has_body = response.status() != StatusCode::NO_CONTENT;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(ClientError::TooLarge { limit });
        }
        let bytes = match read(response, limit).await.map_err(broken)? {
            Body::Whole(bytes) => bytes,
            Body::Cut(_) => return Err(ClientError::TooLarge { limit }),
        };
        // What has nothing to tell reads as `()`.
        match serde_json::from_slice(if has_body { &bytes } else { b"null" }) {
            Ok(value) => Ok(Reply { bytes, value }),
            Err(error) => Err(ClientError::BadReply(unreadable(&error, bytes.is_empty()))),
        }
    }

    pub(crate) fn broken(&self, error: reqwest::Error, deadline: Option<Duration>) -> ClientError {
        match deadline {
            Some(after) if error.is_timeout() && !error.is_connect() => self.late(after),
            _ => ClientError::Transport { to: self.shown(), cause: innermost(&error), source: error.without_url() },
        }
    }

    /// Nothing came for this long.
    pub(crate) fn late(&self, after: Duration) -> ClientError {
        ClientError::Deadline { to: self.shown(), after }
    }

    fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

enum Body {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
}

async fn read(mut response: Response, limit: usize) -> Result<Body, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - bytes.len();
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok(Body::Cut(bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body::Whole(bytes))
}

pub(crate) async fn refusal(response: Response) -> ClientError {
    let status = response.status();
    let retry_after =
        header(&response, &RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    if status.is_redirection() {
        let place = header(&response, &LOCATION).map_or_else(String::new, |place| format!(" to {place}"));
        let message = format!("a redirect{place}, which is not followed; is the URL the service's own?");
        return other(status, message);
    }
    let is_problem = header(&response, &CONTENT_TYPE).is_some_and(|kind| kind.trim().starts_with(PROBLEM_JSON));
    // A connection that breaks inside an error's body still told its status.
    let bytes = match read(response, ERROR_BYTES_MAX).await {
        Ok(Body::Whole(bytes) | Body::Cut(bytes)) => bytes,
        Err(_) => Vec::new(),
    };
    let problem: Option<Problem> = is_problem.then(|| serde_json::from_slice(&bytes).ok()).flatten();
    if let Some(problem) = problem {
        return told_problem(&problem);
    }
    classify(status, retry_after, &bytes)
}

/// A problem, as a reply or within a stream.
pub(crate) fn told_problem(problem: &Problem) -> ClientError {
    ClientError::Api {
        status: problem.status,
        message: problem.detail.clone(),
        code: Some(problem.code.clone()),
        retry_after: problem.retry_after_ms.map(Duration::from_millis),
    }
}

/// A refusal that has no more to tell.
fn other(status: StatusCode, message: String) -> ClientError {
    ClientError::Api { status: status.as_u16(), message, code: None, retry_after: None }
}

fn header(response: &Response, name: &reqwest::header::HeaderName) -> Option<String> {
    response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn classify(status: StatusCode, retry_after: Option<Duration>, bytes: &[u8]) -> ClientError {
    let body: Option<Value> = serde_json::from_slice(bytes).ok();
    let message = message_of(status, body.as_ref(), bytes);
    let code = status.as_u16();
    match code {
        401 | 403 => ClientError::Unauthorized { status: code, message },
        410 => ClientError::SessionClosed { status: Some(code), message },
        422 => ClientError::Validation { message, faults: faults_of(body.as_ref()) },
        429 | 503 => ClientError::Busy { status: code, message, retry_after },
        // A 502 that is no failure of a prompt comes from something in between. A turn's names its session.
        502 => match body.map(serde_json::from_value::<TurnFailure>) {
            Some(Ok(told)) if told.failure.ok => other(status, message),
            Some(Ok(told)) if told.session_id.is_empty() => ClientError::RunFailed(Box::new(told.failure)),
            Some(Ok(told)) => ClientError::TurnFailed(Box::new(told)),
            _ => other(status, message),
        },
        _ => other(status, message),
    }
}

/// The text under `error` or `detail`; else how the reply begins; else the status in words.
fn message_of(status: StatusCode, body: Option<&Value>, bytes: &[u8]) -> String {
    let text = |key: &str| body.and_then(|body| body.get(key)).and_then(Value::as_str);
    if let Some(text) = text("error").or_else(|| text("detail")) {
        return text.to_owned();
    }
    let raw = String::from_utf8_lossy(bytes);
    let raw = raw.trim();
    if raw.is_empty() {
        return status.canonical_reason().unwrap_or("no reason given").to_owned();
    }
    match raw.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    }
}

fn faults_of(body: Option<&Value>) -> Vec<ValidationFault> {
    let detail = body.and_then(|body| body.get("detail")).cloned();
    // A 422 that lists no faults still has its message.
    detail.and_then(|detail| serde_json::from_value(detail).ok()).unwrap_or_default()
}

/// Says what is wrong with a reply and never what is in it: that may be an answer or a token.
fn unreadable(error: &serde_json::Error, empty: bool) -> String {
    if empty {
        return "it is empty".to_owned();
    }
    let text = error.to_string();
    match error.classify() {
        Category::Data if !text.starts_with("missing field") => {
            format!("an unexpected type or value at line {} column {}", error.line(), error.column())
        }
        Category::Data | Category::Syntax | Category::Eof | Category::Io => text,
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, body: &str) -> ClientError {
        classify(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn a_message_is_the_error_then_the_detail_then_the_body_then_the_status() {
        for (body, message) in [
            (r#"{"error":"one","detail":"two"}"#, "one"),
            (r#"{"detail":"two"}"#, "two"),
            (r#"{"error":{"a":1},"detail":"two"}"#, "two"),
            ("<h1>Bad</h1>\n", "<h1>Bad</h1>"),
            ("", "Not Found"),
        ] {
            let ClientError::Api { status: 404, message: found, .. } = classified(404, body) else {
                panic!("{body} was classified differently");
            };
            assert_eq!(found, message);
        }
    }

    #[test]
    fn a_long_foreign_body_is_cut_between_characters() {
        let ClientError::Api { message, .. } = classified(500, &"é".repeat(10_000)) else { panic!("no Api error") };
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }

    #[test]
    fn a_502_is_a_failed_run_or_turn_only_in_the_shape_of_one() {
        let failed = classified(502, r#"{"ok":false,"error":"timed out","duration_ms":7}"#);
        assert!(matches!(failed, ClientError::RunFailed(failure) if failure.duration_ms == 7));
        let turn = r#"{"ok":false,"error":"timed out","session_id":"s1","turn_index":2,"context":"warm"}"#;
        assert!(matches!(classified(502, turn), ClientError::TurnFailed(told) if told.turn_index == 2));
        assert!(matches!(classified(502, r#"{"ok":true,"error":"x"}"#), ClientError::Api { status: 502, .. }));
        assert!(matches!(classified(502, "<html>proxy</html>"), ClientError::Api { status: 502, .. }));
        assert!(matches!(classified(502, r#"{"detail":"x","error":"x"}"#), ClientError::Api { status: 502, .. }));
    }

    #[test]
    fn an_unreadable_reply_is_described_without_its_values() {
        let error = serde_json::from_str::<u32>(r#""cf_secret""#).unwrap_err();
        assert!(!unreadable(&error, false).contains("secret"));
    }
}
