//! Sessions: what is sent, what is made of the replies, and how long a turn is waited for.

use std::future::pending;
use std::time::Duration;

use clawdforge_client::{Client, ClientError, Session, SessionOptions, TokenKind, TurnRequest, TurnUsage};
use serde_json::json;

use crate::stub::{APP_TOKEN, Asked, Stub, reply};

pub const OPENED: &str =
    r#"{"ok":true,"session_id":"0190-a","agent":"claude","created_at":7,"model":null,"driver":"acp","new":[1]}"#;
pub const CLOSED: &str = r#"{"ok":true,"session_id":"0190-a","already_closed":false}"#;
pub const TURN: &str = r#"{"ok":true,"session_id":"0190-a","turn_index":2,"events":[
    {"type":"thinking","content":"hm","new":1},
    {"type":"text","content":"Here "},
    {"type":"tool_call","name":"Read","args":{"path":"README.md"},"result":[1]},
    {"type":"text","content":null},{"type":"dream","content":"no"},
    {"type":"text","content":"it is."}],
    "stop_reason":"end_turn","duration_ms":8123,"context":"resumed","usage":{"input_tokens":12},"cost":0.5,
    "events_truncated":true,"new":{"a":1}}"#;
pub const STATE: &str = r#"{"ok":true,"session_id":"0190-a","agent":"claude","created_at":7,"last_turn_at":null,
    "turn_count":0,"closed_at":null,"live":true,"meta":{"a":1},"model":null,"app_name":"app","driver":"acp",
    "on_context_loss":"fail","warm":true,"new":0}"#;

/// A service with one session.
pub async fn service() -> Stub {
    Stub::with(answer).await
}

pub fn answer(asked: &Asked) -> axum::response::Response {
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/sessions") => reply(200, OPENED),
        ("POST", "/sessions/0190-a/turn") => reply(200, TURN),
        ("GET", "/sessions/0190-a") => reply(200, STATE),
        ("GET", "/sessions") => reply(200, &format!(r#"{{"ok":true,"sessions":[{STATE}],"new":1}}"#)),
        ("DELETE", "/sessions/0190-a") => reply(200, CLOSED),
        _ => reply(404, r#"{"detail":"session not found","error":"session not found"}"#),
    }
}

pub fn prompt() -> TurnRequest {
    TurnRequest { prompt: "hi".to_owned(), ..TurnRequest::default() }
}

async fn turn_against(status: u16, body: &'static str) -> ClientError {
    let stub = Stub::answering(status, body).await;
    stub.client().session("0190-a").unwrap().turn(prompt()).await.unwrap_err()
}

#[tokio::test]
async fn opening_sends_only_what_is_set_and_gives_the_id() {
    let stub = service().await;
    let session = stub.client().open_session(SessionOptions::default()).await.unwrap();
    assert_eq!(session.leave_open(), "0190-a");
    let options = SessionOptions {
        agent: Some("claude".to_owned()),
        meta: Some(json!({"a": 1})),
        model: Some("opus".to_owned()),
        effort: Some("high".to_owned()),
        isolation: Some("landlock".to_owned()),
        on_context_loss: Some("fail".to_owned()),
        driver: Some("acpx".to_owned()),
    };
    stub.client().open_session(options).await.unwrap().leave_open();
    let asked = stub.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/sessions"));
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {APP_TOKEN}").as_str()));
    assert_eq!(asked[0].json(), json!({}));
    let all = json!({
        "agent": "claude", "meta": {"a": 1}, "model": "opus", "effort": "high", "isolation": "landlock", "on_context_loss": "fail",
        "driver": "acpx",
    });
    assert_eq!(asked[1].json(), all);
}

#[tokio::test]
async fn a_turn_gives_everything_the_service_tells_and_its_text() {
    let stub = service().await;
    let session = stub.client().session("0190-a").unwrap();
    let request = TurnRequest {
        prompt: "go".to_owned(),
        files: vec!["ff_1".to_owned()],
        timeout_secs: Some(9),
        output_schema: None,
    };
    let turn = session.turn(request).await.unwrap();
    assert_eq!(turn.text(), "Here it is.");
    assert_eq!((turn.turn_index, turn.duration_ms, turn.stop_reason.as_str()), (2, 8123, "end_turn"));
    assert_eq!((turn.context.as_deref(), turn.cost, turn.events_truncated), (Some("resumed"), Some(0.5), true));
    assert_eq!(turn.usage, Some(TurnUsage { input_tokens: Some(12), ..TurnUsage::default() }));
    assert_eq!(turn.events[2].name.as_deref(), Some("Read"));
    assert_eq!(turn.events[2].args, Some(json!({"path": "README.md"})));
    assert_eq!(turn.events[2].result, Some(json!([1])));
    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/sessions/0190-a/turn"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {APP_TOKEN}").as_str()));
    assert_eq!(asked.json(), json!({"prompt": "go", "files": ["ff_1"], "timeout_secs": 9}));
}

#[tokio::test]
async fn a_turn_of_a_service_without_the_additions_is_a_turn() {
    let body = r#"{"ok":true,"session_id":"s","turn_index":1,"events":[],"stop_reason":"end_turn","duration_ms":1}"#;
    let stub = Stub::answering(200, body).await;
    let turn = stub.client().session("s").unwrap().turn(prompt()).await.unwrap();
    assert_eq!((turn.text().as_str(), turn.context, turn.usage, turn.cost), ("", None, None, None));
    assert!(!turn.events_truncated);
}

#[tokio::test]
async fn sessions_are_looked_at_one_by_one_and_listed() {
    let stub = service().await;
    let client = stub.client();
    let state = client.get_session("0190-a").await.unwrap();
    assert_eq!((state.agent.as_str(), state.live, state.warm, state.turn_count), ("claude", true, true, 0));
    assert_eq!((state.driver.as_deref(), state.on_context_loss.as_deref()), (Some("acp"), Some("fail")));
    assert_eq!(client.session("0190-a").unwrap().state().await.unwrap(), state);
    assert_eq!(client.list_sessions(true).await.unwrap().sessions, std::slice::from_ref(&state));
    assert_eq!(client.list_sessions(false).await.unwrap().sessions, [state]);
    let asked: Vec<String> = stub.asked().into_iter().map(|asked| format!("{}?{}", asked.path, asked.query)).collect();
    let one = "/sessions/0190-a?";
    assert_eq!(asked, [one, one, "/sessions?include_closed=true", "/sessions?include_closed=false"]);
}

#[tokio::test]
async fn a_failed_turn_keeps_its_companions_and_the_session_goes_on() {
    let body = r#"{"ok":false,"error":"timed out","code":"timed_out","stderr":"tail","duration_ms":5000,
        "stop_reason":null,"session_id":"0190-a","turn_index":3,"context":"warm"}"#;
    let stub = Stub::answering(502, body).await;
    let session = stub.client().session("0190-a").unwrap();
    for count in 1..=2 {
        let error = session.turn(prompt()).await.unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (Some(502), "the turn failed: timed out"));
        let ClientError::TurnFailed(told) = error else { panic!("{error:?}") };
        assert_eq!((told.turn_index, told.session_id.as_str(), told.context.as_deref()), (3, "0190-a", Some("warm")));
        let told = told.failure;
        assert_eq!((told.code.as_str(), told.stderr.as_str(), told.duration_ms), ("timed_out", "tail", 5000));
        assert_eq!(stub.asked().len(), count);
    }
}

#[tokio::test]
async fn what_is_not_there_what_is_closed_and_what_is_busy_are_told_apart() {
    let missing = turn_against(404, r#"{"detail":"session not found","error":"session not found"}"#).await;
    assert!(matches!(missing, ClientError::Api { status: 404, .. }), "{missing:?}");
    for body in [
        r#"{"detail":"the session is closed","error":"the session is closed"}"#,
        r#"{"ok":false,"error":"the session is closed","code":"session_closed","session_id":"a","turn_index":1}"#,
    ] {
        let closed = turn_against(410, body).await;
        let ClientError::SessionClosed { status: Some(410), message } = &closed else { panic!("{closed:?}") };
        assert_eq!((message.as_str(), closed.status()), ("the session is closed", Some(410)));
    }
    let waited = r#"{"ok":false,"error":"no slot","code":"queue_expired","session_id":"a","turn_index":1}"#;
    let busy = turn_against(503, waited).await;
    assert!(matches!(&busy, ClientError::Busy { status: 503, message, .. } if message == "no slot"), "{busy:?}");
    let absent = Stub::answering(502, r#"{"detail":"not installed","error":"not installed"}"#).await;
    let error = absent.client().open_session(SessionOptions::default()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Api { status: 502, message, .. } if message == "not installed"), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_not_sent() {
    let stub = service().await;
    let bare = Client::builder(&stub.url).build().unwrap();
    let missing = bare.open_session(SessionOptions::default()).await.unwrap_err();
    assert!(matches!(missing, ClientError::TokenMissing(TokenKind::App)), "{missing:?}");
    let client = stub.client();
    for id in ["", "..", "a/b", "a?b", "../admin/tokens"] {
        assert!(matches!(client.session(id), Err(ClientError::Invalid(_))), "{id:?} was taken");
        assert!(matches!(client.get_session(id).await, Err(ClientError::Invalid(_))), "{id:?} was sent");
    }
    let empty = client.session("0190-a").unwrap().turn(TurnRequest::default()).await;
    assert!(matches!(empty, Err(ClientError::Invalid(_))), "{empty:?}");
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn an_id_from_the_service_that_would_lead_elsewhere_is_a_bad_reply() {
    let stub = Stub::answering(200, &OPENED.replace("0190-a", "../admin/tokens/x")).await;
    let error = stub.client().open_session(SessionOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::BadReply(_)), "{error:?}");
    assert_eq!(stub.only().method, "POST");
}

#[tokio::test]
async fn no_debug_output_of_a_session_shows_the_token() {
    let stub = service().await;
    let session = stub.client().open_session(SessionOptions::default()).await.unwrap();
    let shown = format!("{session:?}");
    assert!(shown.contains("0190-a") && !shown.contains("secret"), "{shown}");
    session.close().await.unwrap();
    let closed = session.turn(prompt()).await.unwrap_err();
    assert!(!format!("{session:?} {closed:?} {closed}").contains("secret"));
}

/// A session at a service that takes turns and never answers.
async fn unanswered() -> (Stub, Session) {
    let stub = Stub::with_slow(|_| Box::pin(pending())).await;
    let client = Client::builder(&stub.url).token(APP_TOKEN).turn_grace(Duration::from_millis(200)).build().unwrap();
    let session = client.session("0190-a").unwrap();
    (stub, session)
}

fn limited(timeout_secs: u64) -> TurnRequest {
    TurnRequest { timeout_secs: Some(timeout_secs), ..prompt() }
}

fn deadline(error: &ClientError) -> Duration {
    let ClientError::Deadline { after, .. } = error else { panic!("{error:?}") };
    *after
}

#[tokio::test]
async fn a_turn_is_given_up_after_its_own_limit_and_the_grace() {
    let (stub, session) = unanswered().await;
    let error = session.turn(limited(1)).await.unwrap_err();
    assert_eq!(deadline(&error), Duration::from_millis(1_200));
    assert_eq!(stub.only().path, "/sessions/0190-a/turn");
}

#[tokio::test]
async fn a_turn_waits_for_those_that_were_sent_before_it() {
    let (stub, session) = unanswered().await;
    {
        // Sent, and given up by us: the service does it all the same.
        let mut first = std::pin::pin!(session.turn(limited(2)));
        tokio::select! {
            biased;
            ended = &mut first => panic!("{ended:?}"),
            _ = stub.asked_of(1) => {}
        }
    }
    let after = deadline(&session.turn(limited(1)).await.unwrap_err());
    assert!(after > Duration::from_millis(1_200) && after <= Duration::from_millis(3_200), "{after:?}");
}
