//! The HTTP side of the mock model: takes requests, records them, plays the steps of a reply.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::log::OpenReply;
use super::reply::{Outcome, Reply};
use super::wire::{self, Message, Step};
use super::{Api, ModelRequest, Shared, wire_openai};

/// The largest request taken, in bytes: the real API's own limit.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often a stalled stream shows that the connection still stands; also how soon a client that hung up is noticed.
const PING_EVERY: Duration = Duration::from_millis(100);
/// How long a cut waits after the last words: the server drops unsent bytes with the connection, and clients drop words
/// that arrive together with its end.
const CUT_AFTER: Duration = Duration::from_millis(50);

/// Serves until the model is dropped.
#[expect(clippy::disallowed_methods, reason = "the server's one task; it ends when the model is dropped")]
pub(super) fn spawn(listener: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let router = Router::new()
        .route("/v1/messages", post(async |state, head, body| ask(Api::Messages, state, head, body).await))
        .route("/v1/responses", post(async |state, head, body| ask(Api::Responses, state, head, body).await))
        .route("/v1/chat/completions", post(async |state, head, body| ask(Api::Chat, state, head, body).await))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .fallback(other)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(shared);
    tokio::spawn(async move {
        let until_dropped = async move {
            // An error means that the sender is gone, which is the end as well.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        let served = axum::serve(listener, router).with_graceful_shutdown(until_dropped).await;
        debug_assert!(served.is_ok(), "axum says that serving never fails");
    });
}

async fn ask(
    api: Api,
    State(shared): State<Arc<Shared>>,
    (method, uri, headers): (Method, Uri, HeaderMap),
    body: Bytes,
) -> Response {
    let request = read(api, &method, &uri, &headers, &body);
    let number = shared.log.record(request.clone());
    let reply = match request.side_request() {
        Some(side) => side.reply(),
        None => shared.reply_to(&request),
    };
    answer(shared, number, &request, reply)
}

async fn count_tokens(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, body: Bytes) -> Response {
    shared.log.record_other(format!("{method} {uri}"));
    json_response(StatusCode::OK, &serde_json::json!({ "input_tokens": wire::tokens(body.len()) }))
}

/// Greetings, metrics, strays: nothing a test scripts, nothing that should stop an agent.
async fn other(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.log.record_other(format!("{} {}", request.method(), request.uri()));
    json_response(StatusCode::OK, &serde_json::json!({}))
}

fn read(api: Api, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> ModelRequest {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    ModelRequest {
        method: method.to_string(),
        path: uri.to_string(),
        headers,
        api,
        body: api.as_messages(&serde_json::from_slice(body).unwrap_or_default()),
        body_bytes: body.len(),
    }
}

fn answer(shared: Arc<Shared>, number: u64, request: &ModelRequest, reply: Reply) -> Response {
    let streams = request.wants_stream();
    let steps = match &reply.outcome {
        Outcome::Status { status, message, retry_after_secs } => {
            return failure(request.api, *status, message, *retry_after_secs, number);
        }
        Outcome::Stalled => vec![Step::Stall],
        Outcome::Message { blocks, stop_reason, ending } => {
            let message = Message { number, request, blocks, stop_reason, ending: *ending };
            match request.api {
                Api::Responses => wire_openai::responses(&message),
                Api::Chat => wire_openai::chat(&message),
                Api::Messages if streams => message.stream(),
                Api::Messages => message.object(),
            }
        }
    };
    let content_type = if streams { "text/event-stream; charset=utf-8" } else { "application/json" };
    // Both are what a client skips: a comment in an event stream, white space before or within JSON.
    let ping = Bytes::from_static(if streams { b": ping\n\n" } else { b" " });
    let mut response = Response::new(play(steps, reply.pause, ping, OpenReply::new(shared)));
    set_header(&mut response, header::CONTENT_TYPE, content_type);
    set_header(&mut response, header::HeaderName::from_static("request-id"), &request_id(number));
    response
}

/// A body that takes one step after another. It ends early when the client hangs up or the model is dropped.
fn play(steps: Vec<Step>, pause: Duration, ping: Bytes, open: OpenReply) -> Body {
    let steps = steps.into_iter();
    let player = Player { steps, stalled: false, repeated: None, pause, ping, stop: open.stopped(), _open: open };
    Body::from_stream(stream::unfold(Some(player), async |player| player?.next().await))
}

struct Player {
    steps: std::vec::IntoIter<Step>,
    stalled: bool,
    repeated: Option<Bytes>,
    pause: Duration,
    ping: Bytes,
    stop: watch::Receiver<bool>,
    _open: OpenReply,
}

type Played = (Result<Bytes, io::Error>, Option<Player>);

impl Player {
    async fn next(mut self) -> Option<Played> {
        loop {
            if self.stalled {
                let Ok(()) = self.wait(PING_EVERY).await else { return Some(broken()) };
                return Some((Ok(self.ping.clone()), Some(self)));
            }
            if let Some(bytes) = self.repeated.clone() {
                let Ok(()) = self.wait(self.pause).await else { return Some(broken()) };
                return Some((Ok(bytes), Some(self)));
            }
            match self.steps.next()? {
                Step::Send(bytes) => return Some((Ok(bytes), Some(self))),
                Step::Pause => {
                    let Ok(()) = self.wait(self.pause).await else { return Some(broken()) };
                }
                Step::Stall => self.stalled = true,
                Step::Repeat(bytes) => self.repeated = Some(bytes),
                Step::Cut => {
                    // The model being dropped meanwhile comes to the same.
                    let _ = self.wait(CUT_AFTER).await;
                    return Some(broken());
                }
            }
        }
    }

    /// Waits; fails when the model was dropped meanwhile.
    async fn wait(&mut self, time: Duration) -> Result<(), Stopped> {
        if time.is_zero() {
            return if *self.stop.borrow() { Err(Stopped) } else { Ok(()) };
        }
        let stopped = self.stop.wait_for(|stopped| *stopped);
        match tokio::time::timeout(time, stopped).await {
            Ok(_) => Err(Stopped),
            Err(_) => Ok(()),
        }
    }
}

/// The model was dropped.
struct Stopped;

/// An error in a body makes the server drop the connection without ending the message.
fn broken() -> Played {
    (Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the reply breaks off here")), None)
}

fn failure(api: Api, status: u16, message: &str, retry_after_secs: Option<u64>, number: u64) -> Response {
    let request_id = request_id(number);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error = match api {
        Api::Messages => wire::error_object(status.as_u16(), message, &request_id),
        Api::Responses | Api::Chat => wire_openai::error_object(status.as_u16(), message),
    };
    let mut response = json_response(status, &error);
    set_header(&mut response, header::HeaderName::from_static("request-id"), &request_id);
    if let Some(secs) = retry_after_secs {
        response.headers_mut().insert(header::RETRY_AFTER, secs.into());
    }
    response
}

fn request_id(number: u64) -> String {
    format!("req_mock_{number:06}")
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    set_header(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

fn set_header(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}
