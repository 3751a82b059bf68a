//! `GET /healthz`: the process lives. `GET /readyz`: it takes work.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use clawdforge_api::legacy::{Done, Health};

use crate::App;
use crate::answer::Refusal;

/// Cheap: it asks no agent and no disk.
pub(crate) async fn healthz(State(app): State<App>) -> Json<Health> {
    let health = app.engine.health();
    Json(Health {
        ok: true,
        claude_present: health.claude_present,
        claude_version: health.claude_version,
        acpx_present: health.acpx_present,
        acpx_version: health.acpx_version,
        open_sessions: health.open_sessions,
    })
}

/// 200 while the service takes work, 503 once it is stopping.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    if app.engine.is_ready() {
        Json(Done { ok: true }).into_response()
    } else {
        Refusal::Engine(clawdforge_engine::EngineError::Stopping).into_response()
    }
}
