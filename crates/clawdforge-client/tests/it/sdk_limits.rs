//! Waits and sizes end where they are said to.

use std::future::pending;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use clawdforge_client::{Client, ClientError, RunRequest};
use futures_util::stream;

use crate::stub::{APP_TOKEN, Stub};

#[tokio::test]
async fn a_run_is_given_up_after_its_own_limit_and_the_grace() {
    let stub = Stub::with_slow(|_| Box::pin(pending())).await;
    let client = Client::builder(&stub.url).token(APP_TOKEN).run_grace(Duration::from_millis(300)).build().unwrap();
    let began = Instant::now();
    let request = RunRequest { prompt: "hi".to_owned(), timeout_secs: Some(1), ..RunRequest::default() };
    let error = client.run(request).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { after, .. } if after == Duration::from_millis(1_300)), "{error:?}");
    assert!(began.elapsed() >= Duration::from_millis(1_300));
}

#[tokio::test]
async fn other_calls_are_given_up_after_their_own_wait() {
    let stub = Stub::with_slow(|_| Box::pin(pending())).await;
    let client = Client::builder(&stub.url).call_wait(Duration::from_millis(100)).build().unwrap();
    assert!(matches!(client.healthz().await, Err(ClientError::Deadline { .. })));
}

#[tokio::test]
async fn a_reply_that_stalls_half_way_is_given_up_too() {
    let stub = Stub::with(|_| Response::new(Body::from_stream(stalling()))).await;
    let client = Client::builder(&stub.url).call_wait(Duration::from_millis(200)).build().unwrap();
    assert!(matches!(client.healthz().await, Err(ClientError::Deadline { .. })));
}

fn stalling() -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(false, |sent| async move {
        if sent {
            pending::<()>().await;
        }
        Some((Ok(Bytes::from_static(br#"{"ok":"#)), true))
    })
}

#[tokio::test]
async fn a_reply_over_the_limit_is_refused_with_and_without_a_length() {
    let sized = Stub::answering(200, &format!("\"{}\"", "x".repeat(2_000))).await;
    let chunked = Stub::with(|_| {
        let chunks = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 100]))));
        Response::new(Body::from_stream(chunks))
    })
    .await;
    for stub in [sized, chunked] {
        let client = Client::builder(&stub.url).reply_bytes_max(1_999).build().unwrap();
        let error = client.healthz().await.unwrap_err();
        assert!(matches!(error, ClientError::TooLarge { limit: 1_999 }), "{error:?}");
    }
}

#[tokio::test]
async fn a_reply_at_the_limit_is_read() {
    let body = r#"{"ok":true,"claude_present":false,"claude_version":null}"#;
    let stub = Stub::answering(200, body).await;
    let client = Client::builder(&stub.url).reply_bytes_max(body.len()).build().unwrap();
    assert!(client.healthz().await.unwrap().ok);
}

#[tokio::test]
async fn an_endless_error_body_is_cut_and_still_an_error() {
    let stub = Stub::with(|_| {
        let mut response = Response::new(Body::from_stream(stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 64 * 1024]))
        })));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let error = stub.client().healthz().await.unwrap_err();
    let ClientError::Api { status: 500, message, .. } = error else { panic!("{error:?}") };
    assert!(message.chars().count() <= clawdforge_client::limits::MESSAGE_CHARS_MAX + 1);
}
