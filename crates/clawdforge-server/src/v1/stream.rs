//! Events as server-sent events (the WHATWG's HTML standard, section 9.2): the number of an event is its id, so a reader
//! that comes back with `Last-Event-ID` goes on where it was.
//!
//! A stream holds what its follower holds and one event that is being written. Who takes in nothing is cut by the
//! connection's patience, and comes back.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use clawdforge_api::v1::{CLOSED, ERROR, EVENT_STREAM, GAP, Gap};
use clawdforge_core::event::Event;
use clawdforge_core::id::RequestId;
use clawdforge_engine::{EventStream, Followed};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::places::Place;
use super::{problems, render};
use crate::answer::Refusal;

/// How long a stream is silent at most: proxies give up connections after a minute or less.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A line that readers pass over.
const BEAT: &[u8] = b": heartbeat\n\n";

/// Where a stream is.
struct Going {
    events: EventStream,
    request: RequestId,
    /// The session's own stream says why it ends.
    of_session: bool,
    is_over: bool,
    _place: Place,
}

/// Waits for the end of what is followed.
pub(super) async fn ended(mut events: EventStream) -> Result<(), Refusal> {
    while events.next().await?.is_some() {}
    Ok(())
}

/// The answer that streams events to their end.
pub(super) fn answer(events: EventStream, request: RequestId, of_session: bool, place: Place) -> Response {
    let going = Going { events, request, of_session, is_over: false, _place: place };
    let body = Body::from_stream(stream::unfold(going, |mut going| async move {
        let bytes = going.next().await?;
        Some((Ok::<_, Infallible>(bytes), going))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold events back until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Going {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let Ok(next) = timeout(HEARTBEAT, self.events.next()).await else {
            return Some(Bytes::from_static(BEAT));
        };
        let bytes = match next {
            Ok(Some(Followed::Event(event))) => Bytes::from_owner(event.shown(show)),
            Ok(Some(Followed::Gap(from, to))) => write(Some(to), GAP, &Gap { from, to }).into(),
            Ok(None) => {
                self.is_over = true;
                if !self.of_session {
                    return None;
                }
                write(None, CLOSED, &json!({})).into()
            }
            Err(error) => {
                self.is_over = true;
                write(None, ERROR, &problems::of(Refusal::Engine(error), self.request)).into()
            }
        };
        Some(bytes)
    }
}

fn show(event: &Event) -> Vec<u8> {
    let shown = render::event(event);
    // Its `type`, which is a part of its body.
    let tag = serde_json::to_value(&shown.body).ok().and_then(|body| Some(body.get("type")?.as_str()?.to_owned()));
    write(Some(shown.seq), tag.as_deref().unwrap_or("message"), &shown).into_bytes()
}

fn write(id: Option<u64>, name: &str, data: &impl Serialize) -> String {
    let mut text = String::new();
    if let Some(id) = id {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "id: {id}");
    }
    // JSON has no line break outside of a string, and none inside of one.
    let data = serde_json::to_string(data).unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}
