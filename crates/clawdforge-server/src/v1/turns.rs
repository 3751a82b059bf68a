//! `/v1/sessions/{id}/turns`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use clawdforge_api::v1;
use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_engine::{Submitted, TurnTicket};

use super::work::Hearing;
use super::{id, key_of, page, page_wish, render, seen, stream};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, JsonBody, Segments};
use crate::legacy;
use crate::legacy::sessions::session_id;
use crate::validate::Fields;

/// Where a turn is.
fn path(session: SessionId, turn: TurnId) -> String {
    format!("/v1/sessions/{session}/turns/{turn}")
}

/// Gives a session a prompt. Answers with the turn when it has ended, with its events as they come, or at once, as the caller
/// prefers. A caller who hangs up stops only the waiting.
pub(crate) async fn submit(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let session = session_id(&session)?;
    let mut request = legacy::turns::read(&app.options, &body.bytes, true)?;
    let key = key_of(&headers, &format!("/v1/sessions/{session}/turns"), &body.bytes)?;
    let hearing = Hearing::of(&headers, &app, &by)?;
    request.will_be_followed = hearing.is_stream();
    let submitted = app.engine.submit_turn(&by.token, session, request, by.request, key).await?;
    drop(body);
    let (turn, ticket) = match submitted {
        Submitted::New(ticket) => (ticket.turn, Some(ticket)),
        Submitted::Known(turn) => (turn, None),
    };
    let begun = ticket.as_ref().and_then(TurnTicket::follow);
    let outcome = ticket.map(async |ticket| ticket.outcome().await.map(drop));
    let follow = async {
        match begun {
            Some(events) => Ok(events),
            None => app.engine.follow_turn(&by.token, session, turn, 0).await,
        }
    };
    let view = async { Ok(render::turn(app.engine.turn(&by.token, session, turn).await?)) };
    hearing.answer(&by, &path(session, turn), outcome, follow, view).await
}

/// The turns of a session, in their order, without what came of each.
pub(crate) async fn list(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<v1::Page<v1::Turn>>, Refusal> {
    let session = session_id(&session)?;
    let mut fields = Fields::of_query(query, &["cursor", "limit"]);
    let wish = page_wish::<u32>(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let found = app.engine.turns(&by.token, session, wish.cursor.unwrap_or(0), wish.limit).await?;
    let data = found.into_iter().map(render::listed_turn).collect();
    Ok(Json(page(data, wish.limit, |turn| turn.index.to_string())))
}

/// One turn, with what came of it.
pub(crate) async fn get(
    State(app): State<App>,
    by: ByApp,
    Segments((session, turn)): Segments<(String, String)>,
) -> Result<Json<v1::Turn>, Refusal> {
    let (session, turn) = (session_id(&session)?, id(&turn, "turn")?);
    Ok(Json(render::turn(app.engine.turn(&by.token, session, turn).await?)))
}

/// Has a turn stopped, or taken out of the queue. Its end is told by its events, and by the turn itself.
pub(crate) async fn cancel(
    State(app): State<App>,
    by: ByApp,
    Segments((session, turn)): Segments<(String, String)>,
) -> Result<Response, Refusal> {
    let (session, turn) = (session_id(&session)?, id(&turn, "turn")?);
    let record = app.engine.cancel_turn(&by.token, session, turn, by.request).await?;
    Ok((StatusCode::ACCEPTED, Json(render::listed_turn(record))).into_response())
}

/// The events of a turn as a stream, to its end.
pub(crate) async fn events(
    State(app): State<App>,
    by: ByApp,
    Segments((session, turn)): Segments<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (session, turn) = (session_id(&session)?, id(&turn, "turn")?);
    let mut fields = Fields::of_query(query, &["after"]);
    let after = seen(&headers, &mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let place = app.places.enter(by.token.app.id)?;
    let events = app.engine.follow_turn(&by.token, session, turn, after).await?;
    Ok(stream::answer(events, by.request, false, place))
}
