//! `POST /run`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clawdforge_api::answer::result_of;
use clawdforge_api::legacy::{RunFailure, RunReply};
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::event::TurnOutcome;
use clawdforge_core::id::FileId;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::limits::{
    FILES_PER_PROMPT_MAX, MODEL_CHARS_MAX, PROMPT_BYTES_MAX, STDERR_SHOWN_BYTES_MAX, SYSTEM_BYTES_MAX, TIMEOUT_SECS_MIN,
};
use clawdforge_core::run::{Effort, RunRequest, SystemMode};
use clawdforge_engine::EngineError;
use serde_json::json;

use crate::answer::{Refusal, with_retry_after};
use crate::extract::{ByApp, JsonBody};
use crate::validate::{Fields, OUTPUT_SCHEMA};
use crate::{App, ServerOptions};

/// The fields of `/v1`. `POST /run` passes over the last one, as it passes over what it does not know.
const FIELDS: [&str; 9] =
    ["prompt", "model", "system", "system_mode", "effort", "files", "timeout_secs", "isolation", OUTPUT_SCHEMA];

/// When a caller whose run found no slot should come back.
pub(super) const RETRY_AFTER_SECS: u64 = 5;

/// Runs one prompt and waits for its outcome. A caller who hangs up stops only the waiting.
pub(crate) async fn run(State(app): State<App>, by: ByApp, body: JsonBody) -> Result<Response, Refusal> {
    let request = read(&app.options, &body.bytes, false)?;
    let ticket = app.engine.submit_run(&by.token, request, by.request, None).await?.fresh()?;
    drop(body);
    Ok(render(&*ticket.outcome().await?))
}

pub(crate) fn read(options: &ServerOptions, body: &[u8], takes_schema: bool) -> Result<RunRequest, Refusal> {
    let mut fields = Fields::of_body(body, &FIELDS).map_err(Refusal::Invalid)?;
    let prompt = fields.required_text("prompt", PROMPT_BYTES_MAX);
    let model = fields.optional_text("model", MODEL_CHARS_MAX);
    if let Some(model) = &model
        && (model.starts_with('-') || model.contains(char::is_control))
    {
        let message = "Value error, a model name does not begin with `-` and has no control characters";
        fields.value_fault("model", message, &json!(model));
    }
    let system = fields.optional_text("system", SYSTEM_BYTES_MAX);
    let modes = [("append", SystemMode::Append), ("replace", SystemMode::Replace)];
    let system_mode = fields.optional_word("system_mode", &modes);
    let effort = fields.optional_word("effort", &Effort::ALL);
    let files = fields.text_list("files", FILES_PER_PROMPT_MAX);
    let secs_max = i64::try_from(options.timeout_max.as_secs()).unwrap_or(i64::MAX);
    let secs_min = i64::try_from(TIMEOUT_SECS_MIN).unwrap_or(0);
    let timeout_secs = fields.optional_integer("timeout_secs", secs_min, secs_max);
    let isolation_min = fields.optional_word("isolation", &Isolation::WORDS);
    let output_schema = if takes_schema { fields.output_schema() } else { None };
    fields.finish().map_err(Refusal::Invalid)?;

    // What is no token cannot be anybody's file: the same answer as for a foreign one.
    let files: Result<Vec<FileId>, _> = files.iter().map(|text| text.parse()).collect();
    Ok(RunRequest {
        prompt,
        model: model.unwrap_or_else(|| options.default_model.clone()),
        system,
        system_mode: system_mode.unwrap_or_default(),
        effort,
        files: files.map_err(|_| EngineError::NotFound("file"))?,
        timeout: timeout_secs.map_or(options.default_timeout, |secs| Duration::from_secs(secs.unsigned_abs())),
        isolation_min,
        output_schema,
    })
}

fn render(outcome: &TurnOutcome) -> Response {
    match &outcome.failure {
        None => {
            let result = result_of(outcome.answer.as_deref().unwrap_or_default());
            let stop_reason = outcome.stop_reason.clone();
            Json(RunReply { ok: true, result, duration_ms: outcome.duration_ms, stop_reason }).into_response()
        }
        Some(failure) => failed(outcome, failure),
    }
}

/// What every failed prompt tells its caller.
pub(super) fn failure_of(outcome: &TurnOutcome, failure: &Failure) -> RunFailure {
    let shown_from = outcome.stderr.len().saturating_sub(STDERR_SHOWN_BYTES_MAX);
    RunFailure {
        ok: false,
        error: failure.message.clone(),
        code: failure.kind.code().to_owned(),
        stderr: outcome.stderr[outcome.stderr.ceil_char_boundary(shown_from)..].to_owned(),
        duration_ms: outcome.duration_ms,
        stop_reason: outcome.stop_reason.clone(),
    }
}

fn failed(outcome: &TurnOutcome, failure: &Failure) -> Response {
    let body = Json(failure_of(outcome, failure));
    match failure.kind {
        FailureKind::QueueExpired => {
            with_retry_after((StatusCode::SERVICE_UNAVAILABLE, body).into_response(), RETRY_AFTER_SECS)
        }
        _ => (StatusCode::BAD_GATEWAY, body).into_response(),
    }
}
