//! Listening: connections with bounds on their number, their heads and their patience.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use clawdforge_core::ledger::FailedSignIns;
use clawdforge_engine::{Engine, OnError, TaskKind, Tasks};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::extract::BodyRoom;
use crate::limits::{
    CONNECTIONS_DRAIN_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_WAIT_MAX, LINGER_MAX, STRANGERS_MAX, WRITE_PAUSE_MAX,
};
use crate::openapi::Description;
use crate::sign_ins::{REPORT_EVERY, SignIns};
use crate::v1::places::Places;
use crate::{App, ServerOptions, gate, router};

const CONNECTION: TaskKind = TaskKind { name: "connection", on_error: OnError::Log };

/// Pause after a failed accept (no file handle left, most likely), so that it is not tried in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read at a time from a connection that is about to be closed.
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// The HTTP server, ready to take connections.
pub struct Server {
    connections: Connections,
    engine: Engine,
    sign_ins: Arc<SignIns>,
}

/// What takes connections and answers on them.
struct Connections {
    router: Router,
    options: Arc<ServerOptions>,
    patience: Patience,
    tasks: Tasks,
}

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
struct Patience {
    head: Duration,
    write: Duration,
}

impl Server {
    /// A server in front of an engine.
    #[must_use]
    pub fn new(engine: Engine, options: ServerOptions) -> Self {
        let sign_ins = Arc::new(SignIns::new(options.sign_in_failures_max));
        let options = Arc::new(options);
        let app = App {
            engine: engine.clone(),
            options: Arc::clone(&options),
            body_room: BodyRoom::new(),
            places: Places::default(),
            sign_ins: Arc::clone(&sign_ins),
            description: Arc::new(Description::of(options.timeout_max.as_secs())),
        };
        let patience = Patience { head: HEAD_WAIT_MAX, write: WRITE_PAUSE_MAX };
        let connections = Connections { router: router::router(app), options, patience, tasks: Tasks::default() };
        Self { connections, engine, sign_ins }
    }

    /// Takes connections until told to stop, then lets those that are answering finish, for a short
    /// time. Failed sign-ins are in the ledger when it returns.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let Self { connections, engine, sign_ins } = self;
        let reports = async {
            while tokio::time::timeout(REPORT_EVERY, stop.cancelled()).await.is_err() {
                record(&engine, sign_ins.report(Instant::now(), false)).await;
            }
        };
        tokio::join!(connections.serve(listener, stop.clone()), reports);
        record(&engine, sign_ins.report(Instant::now(), true)).await;
    }
}

/// Tells the log and the ledger of failed sign-ins.
async fn record(engine: &Engine, bursts: Vec<FailedSignIns>) {
    if bursts.is_empty() {
        return;
    }
    for burst in &bursts {
        let FailedSignIns { from, door, count, .. } = burst;
        tracing::warn!(caller.address = from, sign_ins.failed = count, reason = door.outcome(), "wrong tokens came");
    }
    if let Err(error) = engine.record_failed_sign_ins(bursts).await {
        tracing::error!(
            error = error.for_operator(),
            "failed sign-ins are in the log only: the ledger did not take them"
        );
    }
}

impl Connections {
    async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            // A place first: beyond the limit, callers wait in the kernel's queue.
            let place = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match (accepted, place) {
                (Ok((stream, peer)), Ok(place)) => {
                    let known = gate::may_connect(&self.options, peer.ip());
                    // Closed unheard when there are too many of them.
                    let Some(place) = place_of(known, place, &strangers) else { continue };
                    let connection = connection(self.router.clone(), stream, peer, self.patience, stop.clone());
                    self.tasks.spawn(CONNECTION, async move {
                        connection.await;
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (_, Err(_closed)) => break,
            }
        }
        if tokio::time::timeout(CONNECTIONS_DRAIN_MAX, self.tasks.finish()).await.is_err() {
            tracing::warn!("connections that did not finish in time were cut");
        }
    }
}

/// The place a connection keeps: the general one, or for strangers one of their own few.
fn place_of(known: bool, place: OwnedSemaphorePermit, strangers: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if known { Some(place) } else { Arc::clone(strangers).try_acquire_owned().ok() }
}

async fn connection(router: Router, stream: TcpStream, peer: SocketAddr, patience: Patience, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's delay");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.head).max_buf_size(HEAD_BYTES_MAX);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.write));
    let mut serving = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut told = false;
    let result = loop {
        tokio::select! {
            result = &mut serving => break result,
            () = stop.cancelled(), if !told => {
                told = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
        }
    };
    // A peer that goes away or speaks no HTTP is the peer's affair.
    if let Err(error) = result {
        tracing::debug!(peer = %peer, %error, "a connection ended with an error");
        if took_nothing(&error) {
            return;
        }
    }
    let linger = linger(serving.into_parts().io.into_inner());
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LINGER_MAX, linger) => {}
    }
}

/// Whether the peer did not take in what was written to it; it would not hear our end either.
fn took_nothing(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Takes in what the peer still sends, until it has heard our end and closes: closing on unread bytes
/// would be a reset, which can overtake the answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut ignored = vec![0; LINGER_BUFFER_BYTES];
    // A peer that is gone already needs no end.
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn serve(write: Duration) -> (SocketAddr, Tasks, CancellationToken) {
        // More than the kernel's buffers on both sides hold.
        let router = Router::new().route("/", get(async || vec![b'x'; 64 * 1024 * 1024]));
        let options = ServerOptions {
            allow_cidrs: Vec::new(),
            trusted_proxies: Vec::new(),
            allowed_hosts: Vec::new(),
            sign_in_failures_max: 20,
            admin_token_guessable: false,
            default_model: String::new(),
            default_timeout: PATIENCE,
            timeout_max: PATIENCE,
        };
        let patience = Patience { head: PATIENCE, write };
        let server = Connections { router, options: Arc::new(options), patience, tasks: Tasks::default() };
        let (connections, stop) = (server.tasks.clone(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Tasks::default().spawn(CONNECTION, server.serve(listener, stop.clone()));
        (address, connections, stop)
    }

    async fn begin(address: SocketAddr) -> TcpStream {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // The first byte of the answer: the connection is there, and writing.
        assert_eq!(peer.read_u8().await.unwrap(), b'H');
        peer
    }

    #[tokio::test]
    async fn a_peer_that_asks_and_never_reads_loses_its_place() {
        let (address, connections, stop) = serve(Duration::from_millis(50)).await;
        let peer = begin(address).await;
        tokio::time::timeout(PATIENCE, connections.idle()).await.expect("the connection ended");
        drop(peer);
        stop.cancel();
    }

    #[test]
    fn strangers_cannot_take_the_places_of_others() {
        let (places, strangers) = (Arc::new(Semaphore::new(10)), Arc::new(Semaphore::new(1)));
        let place = || Arc::clone(&places).try_acquire_owned().unwrap();
        let first = place_of(false, place(), &strangers);
        assert!(first.is_some() && place_of(false, place(), &strangers).is_none());
        assert_eq!(places.available_permits(), 10, "a stranger holds no general place");
        let known = place_of(true, place(), &strangers);
        assert!(known.is_some() && places.available_permits() == 9);
        drop(first);
        assert!(place_of(false, place(), &strangers).is_some());
    }
}
