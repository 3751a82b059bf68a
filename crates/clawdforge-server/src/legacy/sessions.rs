//! `POST|GET /sessions` and `GET|DELETE /sessions/{id}`.

use axum::Json;
use axum::extract::{Path, Query, State};
use clawdforge_api::legacy::{SessionClosed, SessionList, SessionReply, SessionState, SessionStateReply};
use clawdforge_core::agent::AgentName;
use clawdforge_core::id::SessionId;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::limits::{META_BYTES_MAX, MODEL_CHARS_MAX};
use clawdforge_core::run::Effort;
use clawdforge_core::session::{DriverName, OnContextLoss};
use clawdforge_core::time::Timestamp;
use clawdforge_engine::{EngineError, SessionView, SessionWish};
use serde_json::json;

use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, JsonBody};
use crate::validate::Fields;

const FIELDS: [&str; 7] = ["agent", "driver", "effort", "isolation", "meta", "model", "on_context_loss"];

/// Bytes of an agent's name that are looked at; the rule for names is stricter.
const AGENT_BYTES_MAX: usize = 256;

/// Opens a session. Its agent starts with the first turn.
pub(crate) async fn open(State(app): State<App>, by: ByApp, body: JsonBody) -> Result<Json<SessionReply>, Refusal> {
    let wish = read(&body.bytes)?;
    let session = app.engine.open_session(&by.token, wish, by.request, None).await?.fresh()?;
    let chosen = session.conversation.as_ref();
    Ok(Json(SessionReply {
        ok: true,
        session_id: session.id.to_uuid(),
        agent: session.agent.to_string(),
        created_at: unix_secs(session.created_at),
        model: chosen.and_then(|chosen| chosen.model.clone()),
        driver: chosen.map(|chosen| chosen.driver.as_str().to_owned()),
        isolation: session.isolation.map(|level| level.as_str().to_owned()),
    }))
}

fn read(body: &[u8]) -> Result<SessionWish, Refusal> {
    let mut fields = Fields::of_body(body, &FIELDS).map_err(Refusal::Invalid)?;
    let wish = wish(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    Ok(wish)
}

/// What is wished for in the fields that sessions of the first versions have.
pub(crate) fn wish(fields: &mut Fields<'_>) -> SessionWish {
    let agent = fields.optional_text("agent", AGENT_BYTES_MAX);
    let name = agent.as_deref().map(str::parse::<AgentName>).transpose();
    if let (Err(error), Some(agent)) = (&name, &agent) {
        fields.value_fault("agent", &format!("Value error, {error}"), &json!(agent));
    }
    let model = model(fields);
    let effort = fields.optional_word("effort", &Effort::ALL);
    let meta = fields.optional_object("meta", META_BYTES_MAX);
    let on_context_loss = fields.optional_word("on_context_loss", &OnContextLoss::ALL);
    let driver = fields.optional_word("driver", &DriverName::ALL);
    let isolation_min = fields.optional_word("isolation", &Isolation::WORDS);
    SessionWish {
        agent: name.ok().flatten(),
        model,
        effort,
        meta,
        on_context_loss: on_context_loss.unwrap_or_default(),
        driver,
        isolation_min,
        ..SessionWish::default()
    }
}

pub(crate) fn model(fields: &mut Fields<'_>) -> Option<String> {
    let model = fields.optional_text("model", MODEL_CHARS_MAX);
    if let Some(model) = model.as_ref().filter(|model| !is_model(model)) {
        let message =
            "Value error, a model name has letters, digits and any of . _ - : / [ ], and does not begin with -";
        fields.value_fault("model", message, &json!(model));
    }
    model
}

fn is_model(model: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/[]".contains(&byte);
    !model.starts_with('-') && model.bytes().all(allowed)
}

/// The app's sessions, newest first. Closed ones are among them unless `include_closed=false`.
pub(crate) async fn list(
    State(app): State<App>,
    by: ByApp,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<SessionList>, Refusal> {
    let mut fields = Fields::of_query(query, &["include_closed"]);
    let include_closed = fields.optional_bool("include_closed").unwrap_or(true);
    fields.finish().map_err(Refusal::Invalid)?;
    let sessions = app.engine.sessions(&by.token, include_closed).await?;
    Ok(Json(SessionList { ok: true, sessions: sessions.into_iter().map(state_of).collect() }))
}

/// One session.
pub(crate) async fn state(
    State(app): State<App>,
    by: ByApp,
    Path(id): Path<String>,
) -> Result<Json<SessionStateReply>, Refusal> {
    let session = app.engine.session(&by.token, session_id(&id)?).await?;
    Ok(Json(SessionStateReply { ok: true, session: state_of(session) }))
}

/// Closes a session; what is under way ends, and its agent is gone with the reply.
pub(crate) async fn close(
    State(app): State<App>,
    by: ByApp,
    Path(id): Path<String>,
) -> Result<Json<SessionClosed>, Refusal> {
    let session = session_id(&id)?;
    let closed_now = app.engine.close_session(&by.token, session, by.request).await?;
    Ok(Json(SessionClosed { ok: true, session_id: session.to_uuid(), already_closed: !closed_now }))
}

/// What is no id cannot be anybody's session: the same answer as for a foreign one.
pub(crate) fn session_id(text: &str) -> Result<SessionId, Refusal> {
    Ok(SessionId::parse_either(text).map_err(|_| EngineError::NotFound("session"))?)
}

fn unix_secs(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

fn state_of(view: SessionView) -> SessionState {
    let SessionView { record, is_warm } = view;
    let session = record.session;
    let chosen = session.conversation;
    SessionState {
        session_id: session.id.to_uuid(),
        agent: session.agent.to_string(),
        created_at: unix_secs(session.created_at),
        last_turn_at: record.last_turn_at.map(unix_secs),
        turn_count: record.turns,
        closed_at: record.closed_at.map(unix_secs),
        live: record.closed_at.is_none(),
        // It was an object when it was taken.
        meta: chosen.as_ref().and_then(|chosen| serde_json::from_str(chosen.meta.as_ref()?).ok()),
        model: chosen.as_ref().and_then(|chosen| chosen.model.clone()),
        app_name: session.app_name,
        driver: chosen.as_ref().map(|chosen| chosen.driver.as_str().to_owned()),
        on_context_loss: chosen.as_ref().map(|chosen| chosen.on_context_loss.as_str().to_owned()),
        effort: chosen.as_ref().and_then(|chosen| chosen.effort).map(|effort| effort.as_str().to_owned()),
        warm: is_warm,
        isolation: session.isolation.map(|level| level.as_str().to_owned()),
    }
}
