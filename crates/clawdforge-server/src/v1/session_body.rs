//! What `POST /v1/sessions` and `PATCH /v1/sessions/{session}` take: the fields of the first versions, and more.

use clawdforge_core::limits::{META_BYTES_MAX, MODE_CHARS_MAX, SYSTEM_BYTES_MAX};
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_engine::{SessionChange, SessionWish};
use serde_json::json;

use super::tool_servers;
use crate::answer::Refusal;
use crate::legacy::sessions::{model, wish};
use crate::validate::Fields;

const FIELDS: [&str; 11] = [
    "agent",
    "driver",
    "effort",
    "isolation",
    "mcp_servers",
    "meta",
    "mode",
    "model",
    "on_context_loss",
    "system",
    "system_mode",
];

/// What kind of session is wished for.
pub(super) fn read(body: &[u8]) -> Result<SessionWish, Refusal> {
    let mut fields = Fields::of_body(body, &FIELDS).map_err(Refusal::Invalid)?;
    let mode = mode(&mut fields);
    let system = fields.optional_text("system", SYSTEM_BYTES_MAX);
    let system_mode = fields.optional_word("system_mode", &SystemMode::ALL).unwrap_or_default();
    let tool_servers = tool_servers::read(&mut fields);
    let wish = wish(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    Ok(SessionWish { mode, system, system_mode, tool_servers, ..wish })
}

/// What is to be changed of a session: what is null is taken away, what is absent stays.
pub(super) fn read_change(body: &[u8]) -> Result<SessionChange, Refusal> {
    let mut fields = Fields::of_body(body, &["effort", "meta", "mode", "model"]).map_err(Refusal::Invalid)?;
    let [has_model, has_effort, has_mode, has_meta] =
        ["model", "effort", "mode", "meta"].map(|key| fields.is_named(key));
    let model = model(&mut fields);
    let effort = fields.optional_word("effort", &Effort::ALL);
    let mode = mode(&mut fields);
    let meta = fields.optional_object("meta", META_BYTES_MAX);
    fields.finish().map_err(Refusal::Invalid)?;
    Ok(SessionChange {
        model: has_model.then_some(model),
        effort: has_effort.then_some(effort),
        mode: has_mode.then_some(mode),
        meta: has_meta.then_some(meta),
    })
}

/// Agents give their modes what ids they like, URLs among them. It becomes an argument of acpx.
fn mode(fields: &mut Fields<'_>) -> Option<String> {
    let mode = fields.optional_text("mode", MODE_CHARS_MAX);
    if let Some(mode) = mode.as_ref().filter(|mode| !is_mode(mode)) {
        let message = "Value error, the name of a mode has visible ASCII characters, and does not begin with -";
        fields.value_fault("mode", message, &json!(mode));
    }
    mode
}

fn is_mode(mode: &str) -> bool {
    !mode.starts_with('-') && mode.bytes().all(|byte| byte.is_ascii_graphic())
}
