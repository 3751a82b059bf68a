//! `/v1/sessions`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use clawdforge_api::v1;
use clawdforge_core::id::SessionId;
use clawdforge_core::session::SessionRecord;
use clawdforge_engine::{EventsPage, SessionView, Submitted};

use super::{
    event_number, key_of, located, page, page_limit, page_wish, render, replayed, seen, session_body, stream,
    wants_stream,
};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, JsonBody, Segments};
use crate::legacy::sessions::session_id;
use crate::validate::Fields;

/// Where a session is.
pub(super) fn path(id: SessionId) -> String {
    format!("/v1/sessions/{id}")
}

/// Opens a session. Its agent starts with the first turn.
pub(crate) async fn open(
    State(app): State<App>,
    by: ByApp,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let wish = session_body::read(&body.bytes)?;
    let key = key_of(&headers, "/v1/sessions", &body.bytes)?;
    match app.engine.open_session(&by.token, wish, by.request, key).await? {
        Submitted::New(session) => {
            let record = SessionRecord {
                session,
                closed_at: None,
                resume_key: None,
                turns: 0,
                last_turn_at: None,
                forked_from: None,
            };
            let location = path(record.session.id);
            let view = render::session(SessionView { record, is_warm: false });
            Ok(located(StatusCode::CREATED, &location, view))
        }
        Submitted::Known(session) => {
            let view = render::session(app.engine.session(&by.token, session).await?);
            Ok(replayed(located(StatusCode::CREATED, &path(session), view)))
        }
    }
}

/// The app's sessions, newest first. Closed ones are among them unless `include_closed=false`.
pub(crate) async fn list(
    State(app): State<App>,
    by: ByApp,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<v1::Page<v1::Session>>, Refusal> {
    let mut fields = Fields::of_query(query, &["include_closed", "cursor", "limit"]);
    let include_closed = fields.optional_bool("include_closed").unwrap_or(true);
    let wish = page_wish::<SessionId>(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let found = app.engine.sessions_page(&by.token, include_closed, wish.cursor, wish.limit).await?;
    let data = found.into_iter().map(render::session).collect();
    Ok(Json(page(data, wish.limit, |session| session.id.clone())))
}

/// One session.
pub(crate) async fn get(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
) -> Result<Json<v1::Session>, Refusal> {
    Ok(Json(render::session(app.engine.session(&by.token, session_id(&session)?).await?)))
}

/// Changes model, effort, mode or notes of a session (a JSON merge patch, RFC 7396, but `meta` is replaced as a whole). Turns
/// that begin from now on go by it.
pub(crate) async fn change(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
    body: JsonBody,
) -> Result<Json<v1::Session>, Refusal> {
    let change = session_body::read_change(&body.bytes)?;
    let view = app.engine.change_session(&by.token, session_id(&session)?, change, by.request).await?;
    Ok(Json(render::session(view)))
}

/// Closes a session; what is under way ends, and its agent is gone with the reply. Closing it again changes nothing.
pub(crate) async fn close(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
) -> Result<Json<v1::Session>, Refusal> {
    let session = session_id(&session)?;
    app.engine.close_session(&by.token, session, by.request).await?;
    Ok(Json(render::session(app.engine.session(&by.token, session).await?)))
}

/// The events of a session: as a stream that goes on until it is closed, or as a page of what is there.
pub(crate) async fn events(
    State(app): State<App>,
    by: ByApp,
    Segments(session): Segments<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let session = session_id(&session)?;
    let mut fields = Fields::of_query(query, &["after", "cursor", "limit"]);
    let after = seen(&headers, &mut fields);
    let cursor = event_number(&mut fields, "cursor");
    let limit = page_limit(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    if wants_stream(&headers) {
        let place = app.places.enter(by.token.app.id)?;
        let events = app.engine.follow_session(&by.token, session, after).await?;
        return Ok(stream::answer(events, by.request, true, place));
    }
    let after = cursor.unwrap_or(after);
    let EventsPage { events, has_more } = app.engine.events(&by.token, session, after, limit).await?;
    let next_cursor = events.last().filter(|_| has_more).map(|last| last.seq.to_string());
    Ok(Json(v1::Page { data: events.iter().map(render::event).collect(), next_cursor }).into_response())
}
