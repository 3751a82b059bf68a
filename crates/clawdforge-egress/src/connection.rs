//! One connection of an agent: who it is, what it asks for, and the bytes both ways.
//!
//! `CONNECT` makes a tunnel; a request with a whole `http://` address is passed on, each one judged anew. hyper
//! reads every head and writes it again, so that nothing ambiguous passes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use bytes::Bytes;
use clawdforge_core::network::{Host, Permit};
use http::header::{HeaderName, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{client, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use crate::Shared;
use crate::dial::{NoDial, dial};
use crate::grants::Granted;
use crate::limits::{HEAD_BYTES_MAX, HEAD_WAIT_MAX};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Headers that are about one connection alone, and those for us.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// What a connection has come to, between its requests.
#[derive(Default)]
struct State {
    /// Set by its first good credential; another one later is refused.
    granted: Option<(Arc<Granted>, OwnedSemaphorePermit)>,
    /// Told when there is one.
    known: Arc<Notify>,
    /// What begins when hyper has let go of the connection.
    tunnel: Option<(OnUpgrade, TcpStream)>,
    /// The other side of the request under way. A new one replaces it: the one before is answered by then.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

type Held = Arc<Mutex<State>>;

fn with<T>(state: &Held, act: impl FnOnce(&mut State) -> T) -> T {
    act(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Serves a connection to its end, which is the grant's at the latest.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    // Without it a tunnel is slower, and nothing else.
    let _ = stream.set_nodelay(true);
    let state = Held::default();
    let service = service_fn(|request| {
        let (shared, state) = (Arc::clone(&shared), Arc::clone(&state));
        async move {
            match answer(&shared, &state, request).await {
                Err(No::Answer(refusal)) => Ok(refusal.render()),
                Err(No::BreakOff(why)) => Err(why),
                Ok(answer) => Ok(answer),
            }
        }
    });
    let mut http = server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = Box::pin(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = std::future::poll_fn(|context| {
        // Whoever answers must be driven while its answer is passed on.
        drive(&state, context);
        // A program that speaks no HTTP, or goes away, is its own affair.
        let polled = serving.as_mut().poll(context).map(drop);
        if polled.is_pending() {
            // One that was begun just now has not been polled yet.
            drive(&state, context);
        }
        polled
    });
    let known = with(&state, |state| Arc::clone(&state.known));
    let ended = async {
        // Who has not shown a credential by then does not stay.
        let in_time = timeout(HEAD_WAIT_MAX, known.notified()).await.is_ok();
        let granted = with(&state, |state| state.granted.as_ref().map(|(granted, _)| granted.ended.clone()));
        if let Some(granted) = granted.filter(|_| in_time) {
            granted.cancelled().await;
        }
    };
    tokio::select! {
        () = served => {}
        () = ended => return,
    }
    let Some((upgrade, mut upstream)) = with(&state, |state| state.tunnel.take()) else { return };
    let Some((granted, _place)) = with(&state, |state| state.granted.take()) else { return };
    let tunnel = async {
        if let Ok(upgraded) = upgrade.await {
            // Either side breaking off is the end of it, and no failure of ours.
            let _ = copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
        }
    };
    tokio::select! {
        () = tunnel => {}
        () = granted.ended.cancelled() => {}
    }
}

/// Passes bytes on between a program in a network of its own and a port of this host's loopback, until either ends, or
/// the grant.
pub(crate) async fn relay(shared: Arc<Shared>, granted: Arc<Granted>, mut stream: TcpStream, target: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let place = Arc::clone(&granted.places).try_acquire_owned();
    let host = Host::Address(target.ip());
    let passed = async {
        if place.is_ok()
            && granted.is_always_reached(target)
            && let Ok(mut upstream) = dial(&*shared.outside, &host, target.port(), Permit::Anywhere).await
        {
            // Either side breaking off is the end of it, and no failure of ours.
            let _ = copy_bidirectional(&mut stream, &mut upstream).await;
        } else {
            // Reset rather than ended: nobody was there. Where that fails, it is merely ended.
            let _ = stream.set_zero_linger();
        }
    };
    tokio::select! {
        () = passed => {}
        () = granted.ended.cancelled() => {}
    }
}

/// Lets the other side of the request under way go on, outside of the lock.
fn drive(state: &Held, context: &mut Context<'_>) {
    let Some(mut driver) = with(state, |state| state.driver.take()) else { return };
    if driver.as_mut().poll(context).is_pending() {
        with(state, |state| state.driver = Some(driver));
    }
}

/// What comes of a request that is not fulfilled.
enum No {
    /// An answer that says why.
    Answer(Refusal),
    /// The connection ends without one. So it looks to whoever asks for what the operator named, above all the
    /// model, as it would without a proxy: a server that is not there, and not one that has failed.
    BreakOff(io::Error),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Answer(refusal)
    }
}

/// An answer that says why not.
struct Refusal {
    status: StatusCode,
    sentence: String,
}

async fn answer(shared: &Shared, state: &Held, request: Request<Incoming>) -> Result<Response<Body>, No> {
    let granted = authenticate(shared, state, request.headers())?;
    if request.method() == Method::CONNECT {
        let authority = request.uri().authority().filter(|_| request.uri().path().is_empty());
        let (host, port) = authority.and_then(|authority| target(authority, None)).ok_or_else(no_target)?;
        let permit = judge(&granted, &host, port)?;
        let upstream = connect(shared, &granted, &host, port, permit).await?;
        let upgrade = hyper::upgrade::on(request);
        with(state, |state| state.tunnel = Some((upgrade, upstream)));
        return Ok(Response::new(text("")));
    }
    if request.uri().scheme_str() != Some("http") {
        return Err(no_target().into());
    }
    let authority = request.uri().authority().cloned().ok_or_else(no_target)?;
    let (host, port) = target(&authority, Some(80)).ok_or_else(no_target)?;
    let permit = judge(&granted, &host, port)?;
    match connect(shared, &granted, &host, port, permit).await {
        Err(refusal) if permit == Permit::Anywhere && refusal.status == StatusCode::BAD_GATEWAY => {
            Err(No::BreakOff(io::ErrorKind::HostUnreachable.into()))
        }
        upstream => Ok(forward(state, upstream?, &authority, request).await?),
    }
}

/// Whose connection it is, by the password of the basic scheme.
fn authenticate(shared: &Shared, state: &Held, headers: &HeaderMap) -> Result<Arc<Granted>, Refusal> {
    let value = headers.get(header::PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    let granted = value.and_then(password).and_then(|secret| shared.grants.find(&secret)).ok_or_else(unknown)?;
    with(state, |state| match &state.granted {
        Some((known, _)) if Arc::ptr_eq(known, &granted) => Ok(()),
        Some(_) => Err(unknown()),
        None => {
            let place = Arc::clone(&granted.places).try_acquire_owned().map_err(|_| {
                refusal(StatusCode::SERVICE_UNAVAILABLE, "this agent has too many connections open".to_owned())
            })?;
            state.granted = Some((Arc::clone(&granted), place));
            state.known.notify_one();
            Ok(())
        }
    })?;
    Ok(granted)
}

/// `Basic <base64 of user:password>`.
fn password(value: &str) -> Option<String> {
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(base64(encoded.trim())?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// The bytes of base64 in its usual alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer, mut bits) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Host and port of an authority without a user.
fn target(authority: &Authority, default: Option<u16>) -> Option<(Host, u16)> {
    if authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.port() {
        Some(port) => Some(port.as_u16()),
        // `host:` without digits is no port at all.
        None if authority.as_str().ends_with(':') => None,
        None => default,
    };
    Some((authority.host().parse().ok()?, port.filter(|port| *port != 0)?))
}

fn judge(granted: &Granted, host: &Host, port: u16) -> Result<Permit, Refusal> {
    granted.judge(host, port).map_err(|why| refusal(StatusCode::FORBIDDEN, why))
}

async fn connect(
    shared: &Shared,
    granted: &Granted,
    host: &Host,
    port: u16,
    permit: Permit,
) -> Result<TcpStream, Refusal> {
    dial(&*shared.outside, host, port, permit).await.map_err(|error| match error {
        NoDial::Closed(what) => refusal(StatusCode::FORBIDDEN, granted.closed(host, port, what)),
        NoDial::Unreachable(why) => refusal(StatusCode::BAD_GATEWAY, why),
    })
}

/// Passes a request on, and its answer back.
async fn forward(
    state: &Held,
    upstream: TcpStream,
    authority: &Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let broken =
        |error: &dyn std::fmt::Display| refusal(StatusCode::BAD_GATEWAY, format!("the server broke off: {error}"));
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| no_target())?;
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| no_target())?;
    strip(request.headers_mut());
    request.headers_mut().insert(header::HOST, host);
    let handshake = client::conn::http1::handshake::<_, Incoming>(TokioIo::new(upstream)).await;
    let (mut sender, driver) = handshake.map_err(|error| broken(&error))?;
    with(state, |state| {
        state.driver = Some(Box::pin(async move {
            // What it has to say arrives with the answer.
            let _ = driver.await;
        }));
    });
    let mut response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.boxed_unsync()))
}

/// Takes out what is for this connection alone, and what `Connection` names as such.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').filter_map(|name| name.trim().parse().ok()))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn unknown() -> Refusal {
    let sentence = "this proxy is for the agents of this machine's clawdforge, each with a credential of its own";
    refusal(StatusCode::PROXY_AUTHENTICATION_REQUIRED, sentence.to_owned())
}

fn no_target() -> Refusal {
    let sentence = "this proxy takes CONNECT with a host and a port, and requests for http:// addresses";
    refusal(StatusCode::BAD_REQUEST, sentence.to_owned())
}

fn refusal(status: StatusCode, sentence: String) -> Refusal {
    Refusal { status, sentence }
}

impl Refusal {
    fn render(self) -> Response<Body> {
        let mut response = Response::new(text(format!("clawdforge: {}\n", self.sentence)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            headers.insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"clawdforge\""));
        }
        response
    }
}

fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}
