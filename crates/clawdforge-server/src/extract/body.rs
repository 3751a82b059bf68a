//! JSON bodies: bounded each and all together, and patient but not for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use clawdforge_core::limits::JSON_BODY_BYTES_MAX;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::App;
use crate::answer::Refusal;
use crate::limits::{BODIES_BYTES_MAX, BODY_PAUSE_MAX, BODY_WAIT_MAX};
use crate::validate;

/// The unit in which room is counted, in bytes.
const ROOM_UNIT_BYTES: usize = 1_024;

/// Units of room taken at a time, so that a body that comes in small pieces does not ask for each.
const ROOM_STEP_UNITS: usize = 64;

/// A JSON body, as text. Its room is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct JsonBody {
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// The memory that all JSON bodies together may take.
#[derive(Clone)]
pub(crate) struct BodyRoom(Arc<Semaphore>);

impl BodyRoom {
    pub fn new() -> Self {
        Self::of(BODIES_BYTES_MAX)
    }

    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / ROOM_UNIT_BYTES)))
    }

    /// Adds to the room that is held until it is enough for so many bytes.
    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.div_ceil(ROOM_UNIT_BYTES);
        let had = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if units <= had {
            return Ok(());
        }
        let more = u32::try_from((units - had).max(ROOM_STEP_UNITS)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(|_| Refusal::NoRoomForBody)?;
        match held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl FromRequest<App> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::WrongContentType("application/json"));
        }
        let body = read(request, &app.body_room, JSON_BODY_BYTES_MAX, BODY_PAUSE_MAX);
        let body = tokio::time::timeout(BODY_WAIT_MAX, body).await.unwrap_or(Err(Refusal::BodyTooSlow))?;
        if body.bytes.is_empty() {
            return Err(Refusal::Invalid(vec![validate::missing_body()]));
        }
        Ok(body)
    }
}

/// For a body that may be left out.
impl OptionalFromRequest<App> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Option<Self>, Refusal> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<App>>::from_request(request, app).await.map(Some)
    }
}

/// A body without a content type is taken for JSON: some of the old clients' HTTP libraries leave it
/// out, and no browser form can do so.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case("+json"))
}

async fn read(request: Request, room: &BodyRoom, bytes_max: usize, pause_max: Duration) -> Result<JsonBody, Refusal> {
    let mut body = request.into_body();
    // What says of itself that it is too large is not waited for.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::BodyTooLarge(bytes_max as u64));
    }
    let mut bytes = Vec::new();
    let mut held = None;
    loop {
        let frame = match tokio::time::timeout(pause_max, body.frame()).await {
            Err(_elapsed) => return Err(Refusal::BodyTooSlow),
            Ok(None) => return Ok(JsonBody { bytes: bytes.into(), _room: held }),
            Ok(Some(Err(error))) => return Err(Refusal::BodyBroken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(Refusal::BodyTooLarge(bytes_max as u64));
            }
            // A vector that grows has twice its length at most.
            room.hold(&mut held, 2 * (bytes.len() + data.len()))?;
            bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_given_up() {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"prompt\":"))]);
        let stalled = futures_util::StreamExt::chain(begun, stream::pending());
        let request = Request::new(Body::from_stream(stalled));
        let refused = read(request, &BodyRoom::new(), 100, Duration::from_millis(20)).await;
        assert!(matches!(refused, Err(Refusal::BodyTooSlow)), "{refused:?}");
    }

    #[tokio::test]
    async fn bodies_beyond_the_room_for_all_are_refused_until_there_is_room_again() {
        let room = BodyRoom::of(1_000_000);
        let body = || read(Request::new(Body::from(vec![b'x'; 300_000])), &room, 1_000_000, Duration::from_secs(9));
        let first = body().await.unwrap();
        assert_eq!(first.bytes.len(), 300_000);
        assert!(matches!(body().await, Err(Refusal::NoRoomForBody)));
        drop(first);
        body().await.unwrap();
    }

    #[test]
    fn only_json_and_nothing_said_are_taken_for_json() {
        let with = |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_json(&with(good)), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "+json", ""] {
            assert!(!is_json(&with(bad)), "{bad}");
        }
        assert!(is_json(&HeaderMap::new()));
    }
}
