//! `/v1/sessions/{session}/fork`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use clawdforge_engine::Submitted;

use super::session_body::read_change;
use super::sessions::path;
use super::{key_of, located, render, replayed};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, JsonBody, Segments};
use crate::legacy::sessions::session_id;

/// What stands for a body that was left out.
const NOTHING_CHANGED: &[u8] = b"{}";

/// Forks a session: a new one that knows what this one knows now, with its agent and its choices, and with a copy of its workspace.
pub(crate) async fn fork(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
    headers: HeaderMap,
    body: Option<JsonBody>,
) -> Result<Response, Refusal> {
    let session = session_id(&session)?;
    let bytes = body.as_ref().map_or(NOTHING_CHANGED, |body| &body.bytes);
    let change = read_change(bytes)?;
    let key = key_of(&headers, &format!("{}/fork", path(session)), bytes)?;
    match app.engine.fork_session(&by.token, session, change, by.request, key).await? {
        Submitted::New(view) => {
            let location = path(view.record.session.id);
            Ok(located(StatusCode::CREATED, &location, render::session(view)))
        }
        Submitted::Known(fork) => {
            let view = render::session(app.engine.session(&by.token, fork).await?);
            Ok(replayed(located(StatusCode::CREATED, &path(fork), view)))
        }
    }
}
