//! The problems that take a store, a disk or an agent of their own, or ten thousand tokens. The others are made in
//! `crates/clawdforge/tests/it/problems.rs`, which has the table of all.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use clawdforge_api::problem::{Code, PROBLEM_JSON, Problem};
use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::{AppId, TokenId};
use clawdforge_core::limits::{COMMITS_PER_TRANSACTION_MAX, TOKENS_MAX};
use clawdforge_engine::TokenWish;
use clawdforge_store::{CommitDoor, CommitError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::*;
use crate::answer::Told;
use crate::limits::PLACES_PER_APP_MAX;

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

/// An agent whose program is there until it is started. The store goes with it.
struct Gone {
    name: AgentName,
    shuts: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl AgentDriver for Gone {
    fn name(&self) -> &AgentName {
        &self.name
    }

    fn presence(&self) -> Presence {
        Presence { program: None, version: None }
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn open(&self, _: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        self.shuts.store(true, Ordering::SeqCst);
        // The store is tried again for a while, which passes whenever nothing else can happen.
        tokio::time::pause();
        Err(Failure::new(FailureKind::NotInstalled, "it has just gone"))
    }
}

/// A service, the token of an app, and what shuts its store.
async fn service(dir: &tempfile::TempDir) -> (App, String, Arc<AtomicBool>) {
    let is_shut = Arc::new(AtomicBool::new(false));
    let shut = Arc::clone(&is_shut);
    let app = app_over(dir, |parts| {
        let name = parts.agents.default_name().clone();
        let gone: Arc<dyn AgentDriver> = Arc::new(Gone { name: name.clone(), shuts: Arc::clone(&shut) });
        parts.agents = Arc::new(Agents::new(name, [gone]).unwrap());
        parts.store.door = Arc::new(Shutter { inner: Arc::clone(&parts.store.door), is_shut: shut });
        parts.options.upload_bytes_max = u64::MAX;
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
    let stalled = Body::from_stream(begun.chain(stream::pending()));
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

async fn of_an_end_that_cannot_be_written() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, is_shut) = service(&dir).await;
    let answer = send(crate::router::router(app), post("/v1/runs", &bearer, Body::from(r#"{"prompt": "x"}"#)), PEER);
    let answer = answer.await;
    tokio::time::resume();
    assert!(is_shut.load(Ordering::SeqCst), "it was begun");
    answer
}

async fn of_an_upload_larger_than_any_disk() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, _) = service(&dir).await;
    let mut request =
        post("/v1/files", &bearer, Body::from("--x\r\ncontent-disposition: form-data; name=file\r\n\r\n1"));
    request.headers_mut().insert("content-type", "multipart/form-data; boundary=x".parse().unwrap());
    request.headers_mut().insert("content-length", u64::MAX.into());
    let answer = send(crate::router::router(app), request, PEER).await;
    assert_eq!(std::fs::read_dir(dir.path().join("files")).unwrap().count(), 0);
    answer
}

/// The last token that there may be, and one more.
async fn of_one_token_too_many() -> Answered {
    let dir = tempfile::tempdir().unwrap();
    let opened = clawdforge_store_sql::open(database(&dir)).await.unwrap();
    let at = StillClock.now();
    let commits = (1..TOKENS_MAX as u128).map(|number| {
        let app =
            clawdforge_core::app::App { id: AppId::from_u128(number), name: format!("a{number}").parse().unwrap() };
        let token = AppToken {
            id: TokenId::from_u128(number),
            app: app.clone(),
            hash: TokenHash::of(app.name.as_str()),
            ip_cidrs: Vec::new(),
            network: None,
            may_give_tool_servers: true,
            created_at: at,
        };
        Commit { writes: vec![Write::AddApp(app, at), Write::AddToken(token)], ..Commit::default() }
    });
    // As many at once as go into one transaction.
    let committing = stream::iter(commits).map(|commit| opened.store.door.commit(commit));
    committing.buffer_unordered(COMMITS_PER_TRANSACTION_MAX).try_collect::<()>().await.unwrap();
    opened.close().await.unwrap();
    let router = crate::router::router(app(&dir).await);
    let mint = |name| post("/v1/tokens", "operator", Body::from(format!(r#"{{"name": "{name}"}}"#)));
    let last = send(router.clone(), mint("last"), PEER).await;
    assert_eq!(last.0, StatusCode::CREATED, "{}", last.1);
    send(router, mint("more"), PEER).await
}

#[tokio::test]
async fn every_problem_that_cannot_be_made_from_outside_is_made_here_and_without_inner_detail() {
    let answers = [
        (Code::BodyTooSlow, of_a_body_that_stops_arriving().await),
        (Code::RecordsUnavailable, of_records_that_cannot_be_written().await),
        (Code::InternalError, of_a_panic().await),
        (Code::TooManyTokens, of_one_token_too_many().await),
        (Code::DiskFull, of_an_upload_larger_than_any_disk().await),
        (Code::OutcomeUnrecorded, of_an_end_that_cannot_be_written().await),
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
async fn an_app_that_follows_and_waits_as_often_as_it_may_gets_no_other_place_and_what_it_asks_for_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (app, bearer, _) = service(&dir).await;
    let token = app.engine.tokens().pop().unwrap();
    let places: Vec<_> = (0..PLACES_PER_APP_MAX).map(|_| app.places.enter(token.app.id).unwrap()).collect();
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
    // Whoever waits for the end keeps a connection as well, also on the older route; whoever does not wait is let in.
    for path in ["/v1/runs".to_owned(), format!("{session}/turns"), session.replacen("/v1", "", 1) + "/turn"] {
        let (status, body, response) =
            send(crate::router::router(app.clone()), post(&path, &bearer, prompt()), PEER).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path} {body}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
    }
    let mut unwaited = post(&format!("{session}/turns"), &bearer, prompt());
    unwaited.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    assert_problem(Code::NotFound, &send(crate::router::router(app.clone()), unwaited, PEER).await);
    drop(places);
    let runs = send(crate::router::router(app), follow("/v1/runs").unwrap(), PEER).await;
    assert!(runs.1.contains(r#""data":[]"#), "{}", runs.1);
}
