//! Every problem of the catalogue happens: each code is made once, from outside where that can be, and as what it is
//! told with its page. What cannot be made from outside is made in `crates/clawdforge-server/src/tests/problems.rs`.

use std::collections::HashSet;

use clawdforge_api::problem::{Code, PROBLEM_JSON};
use clawdforge_testkit::app::{Answer, TestApp, poll_pause, read};
use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::setup;
use crate::support::{get, raw};

/// Where a code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MadeBy {
    /// Whoever is not let in.
    Gates,
    /// Whoever asks for what cannot be.
    Requests,
    /// A service without room.
    Crowd,
    /// A service that stops.
    Drain,
    /// The tests of the server.
    Server,
}

/// The whole catalogue; a new code does not compile before it is here.
fn made_by(code: Code) -> MadeBy {
    match code {
        Code::AddressNotAllowed
        | Code::NotSignedIn
        | Code::NotPermitted
        | Code::TooManySignIns
        | Code::HostNotAllowed
        | Code::HostUnreadable
        | Code::ForeignPage
        | Code::TokenInUrl => MadeBy::Gates,
        Code::NoSuchRoute
        | Code::MethodNotAllowed
        | Code::WrongContentType
        | Code::BodyTooLarge
        | Code::BodyBroken
        | Code::InvalidRequest
        | Code::NotFound
        | Code::SessionClosed
        | Code::SessionBusy
        | Code::ForkImpossible
        | Code::AlreadyEnded
        | Code::KeyReused
        | Code::UnknownAgent
        | Code::AgentUnavailable
        | Code::IsolationTooWeak
        | Code::NotOffered
        | Code::NameTaken
        | Code::UploadTooLarge => MadeBy::Requests,
        Code::Busy => MadeBy::Crowd,
        Code::Stopping | Code::Deferred => MadeBy::Drain,
        Code::BodyTooSlow
        | Code::TooManyTokens
        | Code::DiskFull
        | Code::RecordsUnavailable
        | Code::OutcomeUnrecorded
        | Code::InternalError => MadeBy::Server,
    }
}

/// Asserts that these answers are the problems that are made there, each by its code.
#[track_caller]
fn assert_made(place: MadeBy, answers: &[(Code, Answer)]) {
    for (code, answer) in answers {
        let problem = answer.json();
        assert_eq!(problem["code"], code.as_str(), "{answer:?}");
        assert_eq!(answer.status.as_u16(), code.status(), "{answer:?}");
        assert_eq!(answer.headers["content-type"], PROBLEM_JSON, "{answer:?}");
        assert_eq!((&problem["title"], &problem["status"]), (&json!(code.title()), &json!(code.status())));
        assert_eq!(problem["type"], format!("/problems/{}", code.as_str()));
    }
    let made: HashSet<Code> = answers.iter().map(|(code, _)| *code).collect();
    let expected: HashSet<Code> = Code::ALL.iter().copied().filter(|code| made_by(*code) == place).collect();
    assert_eq!(made, expected);
}

/// A request of the demo app.
fn ask(app: &TestApp, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
    Ok(app.http().request(method, app.url(path)).bearer_auth(app.demo_token()?))
}

async fn call(app: &TestApp, method: Method, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(method, path, &app.demo_token()?, body).await
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_by_which_gate() -> anyhow::Result<()> {
    let setup = setup().demo().env("CLAWDFORGE_TRUSTED_PROXIES", "127.0.0.1/32").arg("--sign-in-failures-max=1");
    let app = setup.start().await?;
    let runs = || ask(&app, Method::GET, "/v1/runs");
    let wrong = || app.call(Method::GET, "/v1/runs", "cf_wrong", Value::Null);
    let two_hosts = raw::request(&app, "GET /v1/runs HTTP/1.1\r\nHost: 127.0.0.1", b"").await?;
    let answers = [
        (Code::AddressNotAllowed, read(runs()?.header("x-forwarded-for", "192.0.2.1")).await?),
        (Code::NotPermitted, get(&app, "/v1/runs", &app.admin_token()?).await?),
        (Code::HostNotAllowed, read(runs()?.header("host", "evil.example")).await?),
        (Code::HostUnreadable, two_hosts),
        (Code::ForeignPage, read(runs()?.header("origin", "https://evil.example")).await?),
        (Code::TokenInUrl, call(&app, Method::GET, "/v1/runs?token=x", Value::Null).await?),
        (Code::NotSignedIn, wrong().await?),
        (Code::TooManySignIns, wrong().await?),
    ];
    assert_made(MadeBy::Gates, &answers);
    Ok(())
}

#[tokio::test]
async fn whoever_asks_for_what_cannot_be_is_told_why() -> anyhow::Result<()> {
    let absent = "[agents.absent]\ndialect = \"acp\"\ncommand = \"/nowhere/agent\"\n";
    let deaf = "[agents.deaf]\ndialect = \"demo\"\ntakes_system_prompt = false\n";
    let setup =
        setup().demo().config(format!("{absent}{deaf}")).arg("--upload-max-bytes=10").arg("--drain-deadline-secs=0");
    let setup = setup.arg("--isolation-mode=off").arg("--isolation-require=off").arg("--isolation-off-as-root");
    let app = setup.start().await?;
    let session = call(&app, Method::POST, "/v1/sessions", json!({})).await?;
    let session = session.headers["location"].to_str()?.to_owned();
    call(&app, Method::DELETE, &session, Value::Null).await?;
    let run = call(&app, Method::POST, "/v1/runs", json!({ "prompt": "say: x" })).await?;
    let run = run.headers["location"].to_str()?.to_owned();
    let keyed = |prompt: &str| {
        let request = ask(&app, Method::POST, "/v1/runs")?.header("idempotency-key", "one");
        anyhow::Ok(request.json(&json!({ "prompt": prompt })))
    };
    read(keyed("say: x")?).await?;
    let of_kind = |path: &str, kind: &str, body: &'static str| {
        anyhow::Ok(ask(&app, Method::POST, path)?.header("content-type", kind).body(body))
    };
    let head = format!("POST /v1/runs HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Length: ", app.demo_token()?);
    let too_large = clawdforge_core::limits::JSON_BODY_BYTES_MAX + 1;
    let part = reqwest::multipart::Part::bytes(vec![b'x'; 11]).file_name("a");
    let upload = ask(&app, Method::POST, "/v1/files")?.multipart(reqwest::multipart::Form::new().part("file", part));
    let post = |path: &str, body: Value| {
        let path = path.to_owned();
        let app = &app;
        async move { call(app, Method::POST, &path, body).await }
    };
    let turns = format!("{session}/turns");
    let fresh = post("/v1/sessions", json!({})).await?.headers["location"].to_str()?.to_owned();
    let busy = post("/v1/sessions", json!({})).await?.headers["location"].to_str()?.to_owned();
    let hang = ask(&app, Method::POST, &format!("{busy}/turns"))?.json(&json!({ "prompt": "hang" }));
    read(hang.header("prefer", "respond-async")).await?;
    let isolated = json!({ "prompt": "x", "isolation": "namespaces" });
    let answers = [
        (Code::NoSuchRoute, call(&app, Method::GET, "/v1/nothing", Value::Null).await?),
        (Code::MethodNotAllowed, call(&app, Method::DELETE, "/v1/runs", Value::Null).await?),
        (Code::WrongContentType, read(of_kind("/v1/runs", "text/plain", "x")?).await?),
        (Code::BodyTooLarge, raw::request(&app, &format!("{head}{too_large}"), b"").await?),
        (Code::BodyBroken, read(of_kind("/v1/files", "multipart/form-data; boundary=x", "--x\r\nno")?).await?),
        (Code::InvalidRequest, post("/v1/runs", json!({})).await?),
        (Code::NotFound, call(&app, Method::GET, "/v1/runs/run_nobodys", Value::Null).await?),
        (Code::SessionClosed, post(&turns, json!({ "prompt": "x" })).await?),
        (Code::SessionBusy, post(&format!("{busy}/fork"), json!({})).await?),
        (Code::ForkImpossible, post(&format!("{fresh}/fork"), json!({})).await?),
        (Code::AlreadyEnded, post(&format!("{run}/cancel"), Value::Null).await?),
        (Code::KeyReused, read(keyed("say: y")?).await?),
        (Code::UnknownAgent, post("/v1/sessions", json!({ "agent": "nobody" })).await?),
        (Code::AgentUnavailable, post("/v1/sessions", json!({ "agent": "absent" })).await?),
        (Code::IsolationTooWeak, post("/v1/runs", isolated).await?),
        (Code::NotOffered, post("/v1/sessions", json!({ "agent": "deaf", "system": "x" })).await?),
        (Code::UploadTooLarge, read(upload).await?),
        (Code::NameTaken, app.call(Method::POST, "/v1/tokens", &app.admin_token()?, json!({ "name": "demo" })).await?),
    ];
    assert_made(MadeBy::Requests, &answers);
    Ok(())
}

#[tokio::test]
async fn a_service_without_room_says_so() -> anyhow::Result<()> {
    let setup = setup().demo().arg("--slots=1").arg("--queue-max=0").arg("--drain-deadline-secs=0");
    let app = setup.start().await?;
    let hang = || ask(&app, Method::POST, "/v1/runs").map(|request| request.json(&json!({ "prompt": "hang" })));
    read(hang()?.header("prefer", "respond-async")).await?;
    let refused = read(hang()?).await?;
    assert!(refused.json()["retry_after_ms"].as_u64().is_some_and(|wait| wait >= 1_000), "{refused:?}");
    assert_made(MadeBy::Crowd, &[(Code::Busy, refused)]);
    Ok(())
}

#[tokio::test]
async fn a_service_that_stops_says_what_becomes_of_work() -> anyhow::Result<()> {
    let app = setup().demo().arg("--drain-deadline-secs=3600").start().await?;
    let session = call(&app, Method::POST, "/v1/sessions", json!({})).await?;
    let turns = format!("{}/turns", session.headers["location"].to_str()?);
    let first = ask(&app, Method::POST, &turns)?.json(&json!({ "prompt": "hang" }));
    read(first.header("prefer", "respond-async")).await?;
    let stop = async {
        // One turn has begun and one waits: only a turn that has begun keeps the service.
        let states = |page: Value| [0, 1].map(|place| page["data"][place]["state"].clone());
        while states(get(&app, &turns, &app.demo_token()?).await?.json()) != ["running", "queued"] {
            poll_pause().await;
        }
        app.signal(Signal::TERM)?;
        while get(&app, "/readyz", "").await?.status.is_success() {
            poll_pause().await;
        }
        let late = call(&app, Method::POST, "/v1/runs", json!({ "prompt": "say: late" })).await?;
        // Nothing waits for the turn that hangs.
        app.signal(Signal::INT)?;
        anyhow::Ok(late)
    };
    let waiting = call(&app, Method::POST, &turns, json!({ "prompt": "say: later" }));
    let (deferred, stopping) = tokio::join!(waiting, stop);
    assert_made(MadeBy::Drain, &[(Code::Deferred, deferred?), (Code::Stopping, stopping?)]);
    Ok(())
}

#[test]
fn what_is_not_made_from_outside_is_made_in_the_server() {
    let left: HashSet<Code> = Code::ALL.iter().copied().filter(|code| made_by(*code) == MadeBy::Server).collect();
    // The server's own test makes exactly these.
    assert_eq!(left, HashSet::from(include!("../../../clawdforge-server/src/tests/made_inside.in")));
}
