//! `/v1/runs`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use clawdforge_api::v1;
use clawdforge_core::id::RunId;
use clawdforge_engine::Submitted;

use super::work::Hearing;
use super::{id, key_of, page, page_wish, render, seen, stream};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, JsonBody, Segments};
use crate::legacy;
use crate::validate::Fields;

/// Where a run is.
fn path(run: RunId) -> String {
    format!("/v1/runs/{run}")
}

/// Runs one prompt. Answers with the run when it has ended, with its events as they come, or at once, as the caller prefers.
/// A caller who hangs up stops only the waiting.
pub(crate) async fn submit(
    State(app): State<App>,
    by: ByApp,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let request = legacy::run::read(&app.options, &body.bytes, true)?;
    let key = key_of(&headers, "/v1/runs", &body.bytes)?;
    let hearing = Hearing::of(&headers, &app, &by)?;
    let submitted = app.engine.submit_run(&by.token, request, by.request, key).await?;
    drop(body);
    let (run, ticket) = match submitted {
        Submitted::New(ticket) => (ticket.run, Some(ticket)),
        Submitted::Known(run) => (run, None),
    };
    let outcome = ticket.map(async |ticket| ticket.outcome().await.map(drop));
    let follow = app.engine.follow_run(&by.token, run, 0);
    let view = async { Ok(render::run(app.engine.run(&by.token, run).await?)) };
    hearing.answer(&by, &path(run), outcome, follow, view).await
}

/// The app's runs, newest first, without what came of each.
pub(crate) async fn list(
    State(app): State<App>,
    by: ByApp,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<v1::Page<v1::Run>>, Refusal> {
    let mut fields = Fields::of_query(query, &["cursor", "limit"]);
    let wish = page_wish::<RunId>(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let found = app.engine.runs(&by.token, wish.cursor, wish.limit).await?;
    let data = found.iter().map(|(session, turn)| render::listed_run(session, turn)).collect();
    Ok(Json(page(data, wish.limit, |run| run.id.clone())))
}

/// One run, with what came of it.
pub(crate) async fn get(
    State(app): State<App>,
    by: ByApp,
    Segments(run): Segments<String>,
) -> Result<Json<v1::Run>, Refusal> {
    Ok(Json(render::run(app.engine.run(&by.token, id(&run, "run")?).await?)))
}

/// Has a run stopped, or taken out of the queue.
pub(crate) async fn cancel(
    State(app): State<App>,
    by: ByApp,
    Segments(run): Segments<String>,
) -> Result<Response, Refusal> {
    let run = id(&run, "run")?;
    app.engine.cancel_run(&by.token, run, by.request).await?;
    Ok((StatusCode::ACCEPTED, Json(render::run(app.engine.run(&by.token, run).await?))).into_response())
}

/// The events of a run as a stream, to its end.
pub(crate) async fn events(
    State(app): State<App>,
    by: ByApp,
    Segments(run): Segments<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(query, &["after"]);
    let after = seen(&headers, &mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let place = app.places.enter(by.token.app.id)?;
    let events = app.engine.follow_run(&by.token, id(&run, "run")?, after).await?;
    Ok(stream::answer(events, by.request, false, place))
}
