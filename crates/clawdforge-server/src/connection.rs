//! Listening: connections with bounds on their number, their heads and their patience.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use clawdforge_engine::{Engine, OnError, TaskKind, Tasks};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::limits::{CONNECTIONS_DRAIN_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_WAIT_MAX, LINGER_MAX};
use crate::{App, ServerOptions, router};

const CONNECTION: TaskKind = TaskKind { name: "connection", on_error: OnError::Log };

/// Pause after a failed accept (no file handle left, most likely), so that it is not tried in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read at a time from a connection that is about to be closed.
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// The HTTP server, ready to take connections.
pub struct Server {
    router: Router,
    tasks: Tasks,
}

impl Server {
    /// A server in front of an engine.
    #[must_use]
    pub fn new(engine: Engine, options: ServerOptions) -> Self {
        let app = App { engine, options: Arc::new(options) };
        Self { router: router::router(app), tasks: Tasks::default() }
    }

    /// Takes connections until told to stop, then lets those that are answering finish, for a short
    /// time.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
                    let connection = connection(self.router.clone(), stream, peer, stop.clone());
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

async fn connection(router: Router, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's delay");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = http.serve_connection(TokioIo::new(stream), service);
    let mut told = false;
    loop {
        tokio::select! {
            result = &mut serving => {
                // A peer that goes away or speaks no HTTP is the peer's affair.
                if let Err(error) = result {
                    tracing::debug!(peer = %peer, %error, "a connection ended with an error");
                }
                break;
            }
            () = stop.cancelled(), if !told => {
                told = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
        }
    }
    let linger = linger(serving.into_parts().io.into_inner());
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LINGER_MAX, linger) => {}
    }
}

/// Takes in what the peer still sends, until it has heard our end and closes: closing on unread bytes
/// would be a reset, which can overtake the answer.
async fn linger(mut stream: TcpStream) {
    let mut ignored = vec![0; LINGER_BUFFER_BYTES];
    // A peer that is gone already needs no end.
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
}
