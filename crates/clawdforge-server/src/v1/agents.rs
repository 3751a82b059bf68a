//! `/v1/agents`.

use axum::Json;
use axum::extract::State;
use clawdforge_api::v1;

use crate::App;
use crate::extract::ByApp;

/// The agents that sessions can be opened with, by name.
pub(crate) async fn list(State(app): State<App>, _by: ByApp) -> Json<v1::Page<v1::Agent>> {
    let data = app.engine.agents().into_iter().map(|agent| v1::Agent {
        name: agent.name.to_string(),
        is_default: agent.is_default,
        is_present: agent.is_present,
        version: agent.version,
        takes_system_prompt: agent.takes_system_prompt,
        drivers: agent.drivers.into_iter().map(|driver| driver.as_str().to_owned()).collect(),
    });
    Json(v1::Page { data: data.collect(), next_cursor: None })
}
