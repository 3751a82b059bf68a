//! How a session ends: once, again after a failure, and by being dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clawdforge_client::{Client, ClientError, SessionOptions};

use crate::sdk_sessions::{CLOSED, OPENED, answer, prompt, service};
use crate::stub::{APP_TOKEN, Stub, broken_reply, reply};

/// Methods and paths of everything asked.
fn lines(stub: &Stub) -> Vec<String> {
    stub.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
}

/// A service that opens sessions and answers the closes with these statuses, one after the other; 0 is a
/// connection that breaks.
async fn closing(statuses: &'static [u16]) -> Stub {
    let closes = AtomicUsize::new(0);
    Stub::with(move |asked| {
        if asked.method != "DELETE" {
            return answer(asked);
        }
        match statuses[closes.fetch_add(1, Ordering::Relaxed)] {
            0 => broken_reply(),
            200 => reply(200, CLOSED),
            status => reply(status, r#"{"detail":"no","error":"no"}"#),
        }
    })
    .await
}

const CLOSE: &str = "DELETE /sessions/0190-a";

#[tokio::test]
async fn a_closed_session_is_not_closed_again_and_takes_no_turn() {
    let stub = service().await;
    let session = stub.client().open_session(SessionOptions::default()).await.unwrap();
    assert!(!session.is_closed());
    session.close().await.unwrap();
    session.close().await.unwrap();
    let turn = session.turn(prompt()).await.unwrap_err();
    assert!(matches!(turn, ClientError::SessionClosed { status: None, .. }), "{turn:?}");
    assert!(session.is_closed() && turn.status().is_none());
    session.state().await.unwrap();
    drop(session);
    assert_eq!(lines(&stub), ["POST /sessions", CLOSE, "GET /sessions/0190-a"]);
}

#[tokio::test]
async fn a_close_that_did_not_arrive_can_be_tried_again() {
    let stub = closing(&[0, 500, 200]).await;
    let session = stub.client().open_session(SessionOptions::default()).await.unwrap();
    let broken = session.close().await.unwrap_err();
    assert!(matches!(broken, ClientError::Transport { .. }), "{broken:?}");
    session.turn(prompt()).await.unwrap();
    assert_eq!(session.close().await.unwrap_err().status(), Some(500));
    assert!(!session.is_closed());
    session.close().await.unwrap();
    session.close().await.unwrap();
    assert_eq!(lines(&stub), ["POST /sessions", CLOSE, "POST /sessions/0190-a/turn", CLOSE, CLOSE]);
}

#[tokio::test]
async fn a_close_that_is_given_up_can_be_tried_again() {
    let stub = Stub::with_slow(|asked| {
        Box::pin(async move {
            if asked.method == "DELETE" && asked.path.ends_with("never") {
                std::future::pending::<()>().await;
            }
            reply(200, CLOSED)
        })
    })
    .await;
    let client = Client::builder(&stub.url).token(APP_TOKEN).call_wait(Duration::from_millis(100)).build().unwrap();
    let session = client.session("never").unwrap();
    for count in 1..=2 {
        let late = session.close().await.unwrap_err();
        assert!(matches!(late, ClientError::Deadline { .. }), "{late:?}");
        assert!(!session.is_closed());
        assert_eq!(stub.asked().len(), count);
    }
}

#[tokio::test]
async fn a_session_that_is_gone_is_closed_if_it_ever_was_ours() {
    for statuses in [&[404][..], &[410]] {
        let stub = closing(statuses).await;
        let session = stub.client().open_session(SessionOptions::default()).await.unwrap();
        session.close().await.unwrap();
        session.close().await.unwrap();
        assert_eq!(lines(&stub), ["POST /sessions", CLOSE], "{statuses:?}");
    }
    let stub = closing(&[410, 404]).await;
    stub.client().session("0190-a").unwrap().close().await.unwrap();
    let mistyped = stub.client().session("0190-a").unwrap();
    assert_eq!(mistyped.close().await.unwrap_err().status(), Some(404));
    assert!(!mistyped.is_closed());
}

#[tokio::test]
async fn a_session_opened_here_is_closed_when_it_is_dropped() {
    let stub = service().await;
    drop(stub.client().open_session(SessionOptions::default()).await.unwrap());
    let asked = stub.asked_of(2).await;
    assert_eq!(lines(&stub), ["POST /sessions", CLOSE]);
    assert_eq!(asked[1].header("authorization"), Some(format!("Bearer {APP_TOKEN}").as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_dropped_outside_of_any_runtime_is_closed_too() {
    let stub = service().await;
    let url = stub.url.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = runtime.block_on(async {
            let client = Client::builder(&url).token(APP_TOKEN).build().unwrap();
            client.open_session(SessionOptions::default()).await.unwrap()
        });
        drop(session);
        runtime
    });
    // The connection of the session belongs to a runtime that is there and at rest.
    let at_rest = thread.unwrap().join().unwrap();
    stub.asked_of(2).await;
    at_rest.shutdown_background();
    assert_eq!(lines(&stub), ["POST /sessions", CLOSE]);
}

#[tokio::test]
async fn a_dropped_session_whose_close_fails_disturbs_nobody() {
    let stub = closing(&[0]).await;
    drop(stub.client().open_session(SessionOptions::default()).await.unwrap());
    stub.asked_of(2).await;
    let client = stub.client();
    drop(stub);
    let error = client.open_session(SessionOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error:?}");
}

#[tokio::test]
async fn a_session_that_is_attached_to_or_left_open_stays_open() {
    let stub = service().await;
    drop(stub.client().session("0190-a").unwrap());
    let id = stub.client().open_session(SessionOptions::default()).await.unwrap().leave_open();
    assert!(OPENED.contains(&id));
    // A close of either would have been sent by now: it takes the same way as what is asked next.
    drop(stub.client().open_session(SessionOptions::default()).await.unwrap());
    stub.asked_of(3).await;
    assert_eq!(lines(&stub), ["POST /sessions", "POST /sessions", CLOSE]);
}
