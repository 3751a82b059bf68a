//! The problems that cannot be made from outside, or only at great length. The others are made in
//! `crates/clawdforge/tests/it/problems.rs`, which has the table of all.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::IntoResponse;
use clawdforge_api::problem::{Code, PROBLEM_JSON, Problem};
use clawdforge_core::commit::Commit;
use clawdforge_engine::{EngineError, TokenWish};
use clawdforge_store::{CommitDoor, CommitError};
use futures_util::stream;

use super::*;
use crate::answer::{Refusal, Told};
use crate::limits::STREAMS_PER_APP_MAX;
use crate::v1::problems::translate;

const PEER: &str = "127.0.0.1:9";

/// A door that can be shut.
struct Shutter {
    inner: Arc<dyn CommitDoor>,
    is_shut: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl CommitDoor for Shutter {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        if self.is_shut.load(Ordering::SeqCst) {
            return Err(CommitError::Unavailable("inner detail".to_owned()));
        }
        self.inner.commit(commit).await
    }
}

/// A service, the token of an app, and what shuts its store.
async fn service(dir: &tempfile::TempDir) -> (App, String, Arc<AtomicBool>) {
    let is_shut = Arc::new(AtomicBool::new(false));
    let shut = Arc::clone(&is_shut);
    let app = app_over(dir, |mut store| {
        store.door = Arc::new(Shutter { inner: Arc::clone(&store.door), is_shut: shut });
        store
    })
    .await;
    let minted = app.engine.mint_token(TokenWish::of("app".parse().unwrap()), app.engine.request_id()).await.unwrap();
    (app, minted.secret.expose_secret().to_owned(), is_shut)
}

fn post(path: &str, bearer: &str, body: Body) -> Request<Body> {
    let request = Request::post(path).header("authorization", format!("Bearer {bearer}"));
    request.header("content-type", "application/json").body(body).unwrap()
}

#[track_caller]
fn assert_problem(code: Code, (status, body, response): &Answered) {
    let problem: Problem = serde_json::from_str(body).unwrap();
    assert_eq!((problem.code.as_str(), problem.status), (code.as_str(), status.as_u16()));
    assert_eq!(status.as_u16(), code.status());
    assert_eq!(response.headers()["content-type"], PROBLEM_JSON);
    assert!(!body.contains("inner detail"), "{body}");
}

/// Status, body and the rest of an answer.
type Answered = (StatusCode, String, Response<()>);

async fn of_a_body_that_stops_arriving() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, _) = service(&dir).await;
    let begun = stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{\"prompt\":"))]);
    let stalled = Body::from_stream(futures_util::StreamExt::chain(begun, stream::pending()));
    // From here on time passes whenever nothing else can happen.
    tokio::time::pause();
    let answer = send(crate::router::router(app), post("/v1/runs", &bearer, stalled), PEER).await;
    tokio::time::resume();
    answer
}

async fn of_records_that_cannot_be_written() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, is_shut) = service(&dir).await;
    is_shut.store(true, Ordering::SeqCst);
    send(crate::router::router(app), post("/v1/runs", &bearer, Body::from(r#"{"prompt": "x"}"#)), PEER).await
}

async fn of_a_panic() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (app, ..) = service(&dir).await;
    let panics = Router::new().route("/v1/panics", get(async || -> &'static str { panic!("inner detail") }));
    ask(around(app, panics), "/v1/panics", PEER).await
}

/// What takes a full disk or ten thousand tokens is only told, not made.
async fn of(error: EngineError) -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (id, detail) = (app(&dir).await.engine.request_id(), error.to_string());
    let response = translate("/v1/anything", Refusal::Engine(error).into_response(), id);
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.contains(&detail) && body.contains(&id.to_string()), "{body}");
    (parts.status, body, Response::from_parts(parts, ()))
}

#[tokio::test]
async fn every_problem_that_cannot_be_made_from_outside_is_made_here_and_without_inner_detail() {
    let answers = [
        (Code::BodyTooSlow, of_a_body_that_stops_arriving().await),
        (Code::RecordsUnavailable, of_records_that_cannot_be_written().await),
        (Code::InternalError, of_a_panic().await),
        (Code::TooManyTokens, of(EngineError::TooManyTokens(10_000)).await),
        (Code::DiskFull, of(EngineError::DiskFull).await),
        (Code::OutcomeUnrecorded, of(EngineError::OutcomeUnrecorded).await),
    ];
    for (code, answer) in &answers {
        assert_problem(*code, answer);
    }
    // The table of all, in the tests from outside, leaves exactly these to this one.
    let made: HashSet<Code> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(made, HashSet::from(include!("made_inside.in")));
}

#[tokio::test]
async fn a_second_token_of_an_app_is_refused_by_a_code_that_older_routes_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let (app, ..) = service(&dir).await;
    let request = post("/admin/tokens", "operator", Body::from(r#"{"name": "app"}"#));
    let (status, body, response) = send(crate::router::router(app), request, PEER).await;
    let told = response.extensions().get::<Told>().map(|told| told.code);
    assert_eq!((status, told), (StatusCode::CONFLICT, Some(Code::NameTaken)), "{body}");
    assert!(!body.contains("name_taken"), "{body}");
}

#[tokio::test]
async fn an_app_with_as_many_streams_as_it_may_have_gets_no_other_and_what_it_asks_for_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, _) = service(&dir).await;
    let token = app.engine.tokens().pop().unwrap();
    let places: Vec<_> = (0..STREAMS_PER_APP_MAX).map(|_| app.streams.enter(token.app.id).unwrap()).collect();
    let stream = |mut request: Request<Body>| {
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        request
    };
    let prompt = || Body::from(r#"{"prompt": "x"}"#);
    let session = "/v1/sessions/ses_01j00000000000000000000000";
    let turn = format!("{session}/turns/trn_01j00000000000000000000000");
    let follow =
        |path: &str| Request::get(path).header("authorization", format!("Bearer {bearer}")).body(Body::empty());
    for request in [
        post("/v1/runs", &bearer, prompt()),
        post(&format!("{session}/turns"), &bearer, prompt()),
        follow("/v1/runs/run_01j00000000000000000000000/events").unwrap(),
        follow(&format!("{session}/events")).unwrap(),
        follow(&format!("{turn}/events")).unwrap(),
    ] {
        let answer = send(crate::router::router(app.clone()), stream(request), PEER).await;
        assert_problem(Code::Busy, &answer);
        assert!(answer.2.headers().contains_key("retry-after"));
    }
    drop(places);
    let runs = send(crate::router::router(app), follow("/v1/runs").unwrap(), PEER).await;
    assert!(runs.1.contains(r#""data":[]"#), "{}", runs.1);
}
