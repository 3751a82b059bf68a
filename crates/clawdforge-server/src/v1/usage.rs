//! `/v1/usage`.

use axum::Json;
use axum::extract::{Query, State};
use clawdforge_api::v1;
use clawdforge_core::time::Timestamp;
use serde_json::json;

use super::render;
use crate::App;
use crate::answer::Refusal;
use crate::extract::ByApp;
use crate::validate::Fields;

/// Bytes of a time that are looked at.
const TIME_BYTES_MAX: usize = 64;

/// What the app's runs and turns used and cost, of those that ended in a span of time.
pub(crate) async fn sum(
    State(app): State<App>,
    by: ByApp,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<v1::UsageSum>, Refusal> {
    let mut fields = Fields::of_query(query, &["from", "to"]);
    let (from, to) = (time(&mut fields, "from"), time(&mut fields, "to"));
    fields.finish().map_err(Refusal::Invalid)?;
    let sum = app.engine.usage(&by.token, from, to).await?;
    Ok(Json(render::usage_sum(&sum, from, to)))
}

fn time(fields: &mut Fields<'_>, key: &str) -> Option<Timestamp> {
    let text = fields.optional_text(key, TIME_BYTES_MAX)?;
    let time = text.parse().ok();
    if time.is_none() {
        let message = "Value error, write a time as 2026-01-31T12:00:00Z";
        fields.value_fault(key, message, &json!(text));
    }
    time
}
