//! `/v1` from the SDK: what is asked, and what is made of the answers.

use std::time::Duration;

use clawdforge_client::shapes::{SessionChanges, SessionRequest};
use clawdforge_client::{ClientError, PageQuery, RunRequest, TurnRequest};
use serde_json::json;

use crate::streams::refused;
use crate::stub::{Asked, Stub, reply};

const PROGRESS: &str = r#""state":"running","outcome":null,"queued_at":"2026-11-29T00:01:10.667Z","new":1"#;

fn answer(asked: &Asked) -> axum::response::Response {
    let run = format!(r#"{{"id":"run_1","agent":"claude",{PROGRESS}}}"#);
    let turn = format!(r#"{{"id":"trn_1","session_id":"ses_1","index":2,{PROGRESS}}}"#);
    let session = r#"{"id":"ses_1","state":"open","agent":"claude","warm":true,"turns":1,"created_at":"2026-11-29T00:01:10.667Z"}"#;
    let page = |of: &str| format!(r#"{{"data":[{of}],"next_cursor":"next"}}"#);
    let event = r#"{"seq":3,"at":"2026-11-29T00:01:10.667Z","turn_id":"trn_1","type":"text","content":"a"}"#;
    let path = asked.path.trim_start_matches("/v1/");
    let body = match (asked.method.as_str(), path) {
        ("GET", "runs") => page(&run),
        (_, "runs" | "runs/run_1" | "runs/run_1/cancel") => run,
        ("GET", "sessions") => page(session),
        (_, "sessions" | "sessions/ses_1" | "sessions/ses_1/fork") => session.to_owned(),
        ("GET", "sessions/ses_1/events") => page(event),
        ("GET", "sessions/ses_1/turns") => page(&turn),
        (_, "sessions/ses_1/turns" | "sessions/ses_1/turns/trn_1" | "sessions/ses_1/turns/trn_1/cancel") => turn,
        ("GET", "files/ff_1") => {
            r#"{"id":"ff_1","name":"a","size_bytes":1,"created_at":"t","expires_at":"t"}"#.to_owned()
        }
        ("GET", "agents") => page(r#"{"name":"claude","is_default":true,"is_present":true,"drivers":["acp"]}"#),
        ("GET", "usage") => {
            r#"{"from":null,"to":null,"runs":1,"turns":2,"input_tokens":3,"output_tokens":4,"cache_read_tokens":5,
                "cache_write_tokens":6,"cost_usd":0.5}"#
                .to_owned()
        }
        _ => return refused("no_such_route", 404, None),
    };
    reply(200, &body)
}

fn line(asked: &Asked) -> String {
    let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
    format!("{} {}{query}", asked.method, asked.path)
}

#[tokio::test]
async fn each_method_asks_its_route() {
    let stub = Stub::with(answer).await;
    let client = stub.client();
    let prompt = || "hi".to_owned();
    let (run, turn) = (
        RunRequest { prompt: prompt(), ..RunRequest::default() },
        TurnRequest { prompt: prompt(), ..TurnRequest::default() },
    );
    let page = PageQuery { cursor: Some("a&b".to_owned()), limit: Some(2) };
    assert_eq!(client.start_run(&run, Some("k")).await.unwrap().id, "run_1");
    assert_eq!(client.get_run("run_1").await.unwrap().progress.state, "running");
    assert_eq!(client.list_runs(&page).await.unwrap().next_cursor.as_deref(), Some("next"));
    client.cancel_run("run_1").await.unwrap();
    assert_eq!(client.open_v1_session(&SessionRequest::default(), Some("k")).await.unwrap().id, "ses_1");
    client.get_v1_session("ses_1").await.unwrap();
    assert_eq!(client.list_v1_sessions(false, &PageQuery::default()).await.unwrap().data.len(), 1);
    assert_eq!(client.session_events("ses_1", 2, &page).await.unwrap().data[0].text(), Some("a"));
    assert_eq!(client.start_turn("ses_1", &turn, None).await.unwrap().index, 2);
    client.get_turn("ses_1", "trn_1").await.unwrap();
    client.list_turns("ses_1", &PageQuery::default()).await.unwrap();
    client.cancel_turn("ses_1", "trn_1").await.unwrap();
    client.close_v1_session("ses_1").await.unwrap();
    client.get_file("ff_1").await.unwrap();
    assert_eq!(client.list_agents().await.unwrap().data[0].drivers, ["acp"]);
    assert_eq!(client.usage(Some("2026-01-01T00:00:00Z"), None).await.unwrap().turns, 2);
    let asked = stub.asked();
    assert_eq!(
        asked.iter().map(line).collect::<Vec<_>>(),
        [
            "POST /v1/runs",
            "GET /v1/runs/run_1",
            "GET /v1/runs?cursor=a%26b&limit=2",
            "POST /v1/runs/run_1/cancel",
            "POST /v1/sessions",
            "GET /v1/sessions/ses_1",
            "GET /v1/sessions?include_closed=false",
            "GET /v1/sessions/ses_1/events?after=2&cursor=a%26b&limit=2",
            "POST /v1/sessions/ses_1/turns",
            "GET /v1/sessions/ses_1/turns/trn_1",
            "GET /v1/sessions/ses_1/turns",
            "POST /v1/sessions/ses_1/turns/trn_1/cancel",
            "DELETE /v1/sessions/ses_1",
            "GET /v1/files/ff_1",
            "GET /v1/agents",
            "GET /v1/usage?from=2026-01-01T00%3A00%3A00Z",
        ]
    );
    for (place, prefer, key) in
        [(0, Some("respond-async"), Some("k")), (4, None, Some("k")), (8, Some("respond-async"), None)]
    {
        assert_eq!((asked[place].header("prefer"), asked[place].header("idempotency-key")), (prefer, key), "{place}");
    }
    assert_eq!((asked[0].json(), asked[8].json()), (json!({ "prompt": "hi" }), json!({ "prompt": "hi" })));
}

#[tokio::test]
async fn a_fork_sends_what_differs_and_null_for_what_is_taken_away() {
    let stub = Stub::with(answer).await;
    let changes = SessionChanges { model: Some(None), effort: Some(Some("low".to_owned())), mode: None, meta: None };
    assert_eq!(stub.client().fork_session("ses_1", &changes, Some("k")).await.unwrap().forked_from, None);
    let asked = stub.only();
    assert_eq!((line(&asked).as_str(), asked.header("idempotency-key")), ("POST /v1/sessions/ses_1/fork", Some("k")));
    assert_eq!(asked.json(), json!({ "model": null, "effort": "low" }));
}

#[tokio::test]
async fn a_change_sends_what_differs_and_null_for_what_is_taken_away() {
    let stub = Stub::with(answer).await;
    let meta = Some(Some(json!({ "a": 1 })));
    let changes = SessionChanges { model: Some(Some("opus".to_owned())), effort: Some(None), mode: None, meta };
    let uuid = "0190f0a4-7c1e-7000-8000-000000000000";
    assert_eq!(stub.client().change_session("ses_1", &changes).await.unwrap().id, "ses_1");
    let unknown = stub.client().change_session(uuid, &SessionChanges::default()).await.unwrap_err();
    assert_eq!(unknown.code(), Some("no_such_route"), "the stub knows one session");
    let asked = stub.asked();
    assert_eq!(line(&asked[0]), "PATCH /v1/sessions/ses_1");
    assert_eq!(asked[0].json(), json!({ "model": "opus", "effort": null, "meta": {"a": 1} }));
    assert!(asked[1].path.starts_with("/v1/sessions/ses_") && asked[1].json() == json!({}), "{:?}", asked[1]);
}

#[tokio::test]
async fn a_problem_is_told_with_its_code_its_detail_and_when_to_come_back() {
    for (code, status, wait) in [
        ("session_closed", 410, None),
        ("busy", 503, Some(3_000)),
        ("invalid_request", 422, None),
        ("not_permitted", 403, None),
    ] {
        let stub = Stub::with(move |_| refused(code, status, wait)).await;
        let error = stub.client().get_run("run_1").await.unwrap_err();
        assert_eq!((error.status(), error.code()), (Some(status), Some(code)));
        assert_eq!(error.retry_after(), wait.map(Duration::from_millis));
        assert!(matches!(&error, ClientError::Api { message, .. } if message == "because"), "{error:?}");
    }
    // A proxy's page is no problem, whatever it calls itself.
    let stub = Stub::with(|_| {
        let mut page = reply(404, "<h1>nothing here</h1>");
        page.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
        page
    })
    .await;
    let error = stub.client().get_run("run_1").await.unwrap_err();
    assert!(matches!(&error, ClientError::Api { status: 404, code: None, .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_not_sent() {
    let stub = Stub::with(answer).await;
    let client = stub.client();
    let run = RunRequest { prompt: "hi".to_owned(), ..RunRequest::default() };
    for key in ["", "two words", "é", &"k".repeat(256)] {
        let error = client.start_run(&run, Some(key)).await.unwrap_err();
        assert!(matches!(error, ClientError::Invalid(_)), "{key:?}: {error:?}");
    }
    for id in ["", "..", "a/b", "a?b"] {
        assert!(matches!(client.get_run(id).await, Err(ClientError::Invalid(_))), "{id:?}");
        assert!(matches!(client.get_v1_session(id).await, Err(ClientError::Invalid(_))), "{id:?}");
        assert!(matches!(client.follow_turn("ses_1", id, 0).await, Err(ClientError::Invalid(_))), "{id:?}");
    }
    let empty = client.stream_run(&RunRequest::default(), None).await;
    assert!(matches!(empty, Err(ClientError::Invalid(_))), "{empty:?}");
    assert!(stub.asked().is_empty());
}
