//! `POST /sessions/{id}/turn`.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clawdforge_api::legacy::{TurnEvent, TurnFailure, TurnReply, TurnUsage};
use clawdforge_core::agent::{FailureKind, Usage};
use clawdforge_core::event::EventBody;
use clawdforge_core::id::{FileId, SessionId};
use clawdforge_core::limits::{FILES_PER_PROMPT_MAX, PROMPT_BYTES_MAX, TIMEOUT_SECS_MIN};
use clawdforge_engine::{Ended, EngineError, TurnRequest};
use serde_json::{Value, json};

use super::run::{RETRY_AFTER_SECS, failure_of};
use super::sessions::session_id;
use crate::answer::{Refusal, with_retry_after};
use crate::extract::{ByApp, JsonBody};
use crate::limits::{TURN_EVENTS_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::validate::{Fields, OUTPUT_SCHEMA};
use crate::{App, ServerOptions};

/// The fields of `/v1`, of which the first versions pass over the last one.
const FIELDS: [&str; 4] = ["prompt", "files", "timeout_secs", OUTPUT_SCHEMA];

/// Events read from the log at once.
const EVENTS_PER_PAGE: usize = 256;

/// Gives a session one prompt and waits for the end of the turn. A caller who hangs up stops only the
/// waiting.
pub(crate) async fn turn(
    State(app): State<App>,
    by: ByApp,
    Path(id): Path<String>,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let session = session_id(&id)?;
    let request = read(&app.options, &body.bytes, false)?;
    let _place = app.places.enter(by.token.app.id)?;
    let ticket = app.engine.submit_turn(&by.token, session, request, by.request, None).await?.fresh()?;
    drop(body);
    let index = ticket.index;
    let ended = ticket.outcome().await?;
    let story = story(&app, session, &ended).await?;
    Ok(render(session, index, &ended, story))
}

pub(crate) fn read(options: &ServerOptions, body: &[u8], takes_schema: bool) -> Result<TurnRequest, Refusal> {
    let mut fields = Fields::of_body(body, &FIELDS).map_err(Refusal::Invalid)?;
    let prompt = fields.required_text("prompt", PROMPT_BYTES_MAX);
    let files = fields.text_list("files", FILES_PER_PROMPT_MAX);
    let secs_max = i64::try_from(options.timeout_max.as_secs()).unwrap_or(i64::MAX);
    let secs_min = i64::try_from(TIMEOUT_SECS_MIN).unwrap_or(0);
    let timeout_secs = fields.optional_integer("timeout_secs", secs_min, secs_max);
    let output_schema = if takes_schema { fields.output_schema() } else { None };
    fields.finish().map_err(Refusal::Invalid)?;
    let files: Result<Vec<FileId>, _> = files.iter().map(|text| text.parse()).collect();
    Ok(TurnRequest {
        prompt,
        files: files.map_err(|_| EngineError::NotFound("file"))?,
        timeout: timeout_secs.map_or(options.default_timeout, |secs| Duration::from_secs(secs.unsigned_abs())),
        output_schema,
        will_be_followed: false,
    })
}

/// What a turn's events tell.
#[derive(Default)]
struct Story {
    events: Vec<TurnEvent>,
    context: Option<&'static str>,
    /// Where the tool calls are that have no result yet.
    calls: HashMap<String, usize>,
    bytes: usize,
    is_cut: bool,
}

async fn story(app: &App, session: SessionId, ended: &Ended) -> Result<Story, Refusal> {
    let mut story = Story::default();
    if let Some(events) = &ended.events {
        events.iter().for_each(|event| story.tell(event.body.clone()));
        return Ok(story);
    }
    let mut after = ended.first - 1;
    while after < ended.last {
        let page = app.engine.turn_events(session, ended, after, EVENTS_PER_PAGE).await?;
        let Some(last) = page.last().map(|event| event.seq) else { break };
        for event in page {
            story.tell(event.body);
        }
        after = last;
    }
    Ok(story)
}

impl Story {
    fn tell(&mut self, body: EventBody) {
        let weight = body.weight();
        match body {
            EventBody::Context { source } => self.context = Some(source.as_str()),
            EventBody::Text { content } => self.say(weight, "text", content),
            EventBody::Thinking { content } => self.say(weight, "thinking", content),
            EventBody::ToolCall { call, name, args } => {
                let args = Some(object(shallow(args)));
                let place = self.events.len();
                self.push(
                    weight,
                    TurnEvent { kind: "tool_call".to_owned(), name: Some(name), args, ..TurnEvent::default() },
                );
                if self.events.len() > place {
                    self.calls.insert(call, place);
                }
            }
            EventBody::ToolResult { call, result, .. } => {
                let Some(event) = self.calls.remove(&call).and_then(|place| self.events.get_mut(place)) else { return };
                if self.bytes + weight > TURN_EVENTS_BYTES_MAX {
                    self.is_cut = true;
                    return;
                }
                self.bytes += weight;
                event.result = Some(shallow(result));
            }
            EventBody::Prompt { .. }
            | EventBody::Started
            | EventBody::Retry { .. }
            | EventBody::AskedAgain { .. }
            | EventBody::Unrecognised { .. }
            | EventBody::Ended(_) => {}
        }
    }

    /// How the log cut what was said in one go is nothing to the caller.
    fn say(&mut self, weight: usize, kind: &str, content: String) {
        match self.events.last_mut() {
            Some(TurnEvent { kind: last, content: Some(text), .. })
                if last == kind && self.bytes + weight <= TURN_EVENTS_BYTES_MAX =>
            {
                self.bytes += weight;
                text.push_str(&content);
            }
            _ => self.push(weight, said(kind, content)),
        }
    }

    fn push(&mut self, weight: usize, event: TurnEvent) {
        if self.bytes + weight > TURN_EVENTS_BYTES_MAX {
            self.is_cut = true;
        } else {
            self.bytes += weight;
            self.events.push(event);
        }
    }
}

fn said(kind: &str, content: String) -> TurnEvent {
    TurnEvent { kind: kind.to_owned(), content: Some(content), ..TurnEvent::default() }
}

/// Clients of the first versions expect an object.
fn object(args: Value) -> Value {
    match args {
        Value::Object(_) => args,
        Value::Null => json!({}),
        other => json!({ "value": other }),
    }
}

/// A value as its text where it is deeper than clients read.
fn shallow(value: Value) -> Value {
    if is_deeper(&value, VALUE_DEPTH_MAX) { Value::String(value.to_string()) } else { value }
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth == 0 || items.iter().any(|item| is_deeper(item, depth - 1)),
        Value::Object(fields) => depth == 0 || fields.values().any(|item| is_deeper(item, depth - 1)),
        _ => false,
    }
}

fn render(session: SessionId, turn_index: u32, ended: &Ended, story: Story) -> Response {
    let outcome = &*ended.outcome;
    let session_id = session.to_uuid();
    let context = story.context.map(str::to_owned);
    if let Some(failure) = &outcome.failure {
        let body = Json(TurnFailure { failure: failure_of(outcome, failure), session_id, turn_index, context });
        return match failure.kind {
            FailureKind::QueueExpired => {
                with_retry_after((StatusCode::SERVICE_UNAVAILABLE, body).into_response(), RETRY_AFTER_SECS)
            }
            FailureKind::SessionClosed => (StatusCode::GONE, body).into_response(),
            _ => (StatusCode::BAD_GATEWAY, body).into_response(),
        };
    }
    Json(TurnReply {
        ok: true,
        session_id,
        turn_index,
        events: story.events,
        stop_reason: outcome.stop_reason.clone().unwrap_or_else(|| "end_turn".to_owned()),
        duration_ms: outcome.duration_ms,
        context,
        usage: usage_of(&outcome.usage),
        cost: outcome.usage.cost_usd,
        events_truncated: story.is_cut || outcome.events_dropped > 0,
    })
    .into_response()
}

fn usage_of(usage: &Usage) -> Option<TurnUsage> {
    let usage = TurnUsage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cache_write_tokens: usage.cache_write_tokens,
    };
    (usage != TurnUsage::default()).then_some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: usize) -> EventBody {
        EventBody::ToolCall { call: format!("c{number}"), name: "Bash".to_owned(), args: json!("ls") }
    }

    #[test]
    fn a_result_stands_with_its_call_wherever_it_comes() {
        let mut story = Story::default();
        let result = |number: usize| EventBody::ToolResult {
            call: format!("c{number}"),
            result: json!({"n": number}),
            failed: false,
        };
        for body in [call(1), call(2), said_body("h"), said_body("m"), result(2), result(1), result(3)] {
            story.tell(body);
        }
        let shown = serde_json::to_value(&story.events).unwrap();
        assert_eq!(
            shown,
            json!([
                {"type": "tool_call", "name": "Bash", "args": {"value": "ls"}, "result": {"n": 1}},
                {"type": "tool_call", "name": "Bash", "args": {"value": "ls"}, "result": {"n": 2}},
                {"type": "text", "content": "hm"},
            ])
        );
    }

    fn said_body(text: &str) -> EventBody {
        EventBody::Text { content: text.to_owned() }
    }

    #[test]
    fn what_does_not_fit_into_a_reply_is_left_out_and_said_to_be() {
        let mut story = Story::default();
        story.tell(said_body(&"x".repeat(TURN_EVENTS_BYTES_MAX - 1_000)));
        story.tell(said_body(&"y".repeat(1_000)));
        assert_eq!((story.events.len(), story.is_cut), (1, true));
    }

    #[test]
    fn a_value_deeper_than_clients_read_becomes_a_text() {
        let deep = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(shallow(deep(VALUE_DEPTH_MAX)).is_array());
        assert_eq!(shallow(deep(VALUE_DEPTH_MAX + 1)), json!(deep(VALUE_DEPTH_MAX + 1).to_string()));
    }
}
