//! A service that answers what a test says and remembers every request.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use clawdforge_client::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The app token of these tests.
pub const APP_TOKEN: &str = "cf_test-app-secret";
/// The admin token of these tests.
pub const ADMIN_TOKEN: &str = "cfadmin_test-admin-secret";

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Ends the server when the test does.
    _server: JoinSet<()>,
}

impl Stub {
    /// Answers every request the same way.
    pub async fn answering(status: u16, body: &str) -> Self {
        let body = body.to_owned();
        Self::with(move |_| reply(status, &body)).await
    }

    /// Answers each request with what `answer` makes of it.
    pub async fn with(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        Self::with_slow(move |asked| {
            let response = answer(&asked);
            Box::pin(async move { response })
        })
        .await
    }

    /// Answers each request when `answer` completes.
    pub async fn with_slow(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        Self::serving(seen, move |request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            Box::pin(async move {
                let asked = read(request).await;
                log.lock().unwrap().push(asked.clone());
                answer(asked).await
            })
        })
        .await
    }

    /// Answers without reading the body, and remembers nothing.
    pub async fn unread(status: u16, body: &'static str) -> Self {
        Self::serving(Arc::default(), move |request| {
            Box::pin(async move {
                drop(request);
                reply(status, body)
            })
        })
        .await
    }

    async fn serving(
        asked: Arc<Mutex<Vec<Asked>>>,
        handler: impl Fn(Request) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let router = Router::new().fallback(handler);
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, asked, _server: server }
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until there were as many requests.
    pub async fn asked_of(&self, count: usize) -> Vec<Asked> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.asked.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "{count} requests were expected: {:?}", self.asked());
            tokio::task::yield_now().await;
        }
        self.asked()
    }

    /// The one request there was.
    pub fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "one request was expected: {asked:?}");
        asked.into_iter().next().unwrap()
    }

    /// A client with both tokens.
    pub fn client(&self) -> Client {
        Client::builder(&self.url).token(APP_TOKEN).admin_token(ADMIN_TOKEN).build().unwrap()
    }
}

/// A JSON reply.
pub fn reply(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "application/json")], body.to_owned()).into_response()
}

/// A reply whose connection breaks behind its head.
pub fn broken_reply() -> Response {
    let cut = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("the line is cut"))]);
    Response::new(Body::from_stream(cut))
}

async fn read(request: Request) -> Asked {
    let (parts, body): (_, Body) = request.into_parts();
    Asked {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        // A body that breaks off is remembered as empty; the tests of that look at the caller.
        body: to_bytes(body, usize::MAX).await.unwrap_or_default(),
    }
}
