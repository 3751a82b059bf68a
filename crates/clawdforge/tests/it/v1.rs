//! `/v1` as an app meets it: resources, streams that go on where they were, work in the background, cancel, problems.

use anyhow::{Context as _, ensure};
use clawdforge_testkit::app::{Answer, PATIENCE, TestApp, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::events::{Sse, follow};

async fn call(app: &TestApp, method: Method, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(method, path, &app.demo_token()?, body).await
}

async fn post(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Answer> {
    call(app, Method::POST, path, body).await
}

async fn get(app: &TestApp, path: &str) -> anyhow::Result<Value> {
    let answer = call(app, Method::GET, path, Value::Null).await?;
    ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(answer.json())
}

/// A session's path.
async fn open(app: &TestApp) -> anyhow::Result<String> {
    let opened = post(app, "/v1/sessions", json!({})).await?;
    ensure!(opened.status == StatusCode::CREATED, "{opened:?}");
    let path = format!("/v1/sessions/{}", opened.json()["id"].as_str().unwrap_or_default());
    assert_eq!(opened.headers["location"], path.as_str());
    Ok(path)
}

/// A turn or run in the background: its path.
async fn begun(app: &TestApp, path: &str, prompt: &str) -> anyhow::Result<String> {
    let request = app.http().post(app.url(path)).bearer_auth(app.demo_token()?);
    let answer = read(request.header("prefer", "respond-async").json(&json!({ "prompt": prompt }))).await?;
    ensure!(answer.status == StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.headers["preference-applied"], "respond-async");
    Ok(answer.headers["location"].to_str()?.to_owned())
}

fn names(events: &[Sse]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn ids(events: &[Sse]) -> Vec<u64> {
    events.iter().filter_map(|event| event.id).collect()
}

#[tokio::test]
async fn a_run_answers_with_its_outcome_its_events_or_at_once() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let waited = post(&app, "/v1/runs", json!({ "prompt": "say: plum" })).await?;
    assert_eq!(waited.status, StatusCode::OK);
    let run = waited.json();
    assert_eq!(
        (&run["state"], &run["outcome"], &run["result"]["answer"]),
        (&json!("ended"), &json!("completed"), &json!("plum"))
    );

    let request = app.http().post(app.url("/v1/runs")).bearer_auth(app.demo_token()?);
    let stream = follow(request.header("accept", "text/event-stream").json(&json!({ "prompt": "say: plum" }))).await?;
    let events = stream.rest().await?;
    assert_eq!(names(&events), ["prompt", "started", "text", "ended"]);
    assert_eq!(ids(&events), [1, 2, 3, 4]);
    assert_eq!(events[2].data["content"], "plum");
    assert_eq!(events[3].data["answer"], "plum");

    let path = begun(&app, "/v1/runs", "say: plum").await?;
    let stream = follow(app.http().get(app.url(&format!("{path}/events"))).bearer_auth(app.demo_token()?)).await?;
    assert_eq!(names(&stream.rest().await?), ["prompt", "started", "text", "ended"]);
    assert_eq!(get(&app, &path).await?["result"]["answer"], "plum");
    let listed = get(&app, "/v1/runs?limit=2").await?;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    let rest = get(&app, &format!("/v1/runs?cursor={}", listed["next_cursor"].as_str().unwrap_or_default())).await?;
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(1), &Value::Null));
    assert_eq!(rest["data"][0]["id"], run["id"], "newest first");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_where_it_was_also_after_a_restart() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    for word in ["one", "two"] {
        post(&app, &format!("{session}/turns"), json!({ "prompt": format!("say: {word}") })).await?;
    }
    let events = |app: &TestApp, last: u64| -> anyhow::Result<reqwest::RequestBuilder> {
        let request = app.http().get(app.url(&format!("{session}/events"))).bearer_auth(app.demo_token()?);
        Ok(request.header("accept", "text/event-stream").header("last-event-id", last))
    };
    let mut stream = follow(events(&app, 0)?).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stream.next().await?.context("there is more")?);
    }
    drop(stream);
    let app = app.restart().await?;
    let mut stream = follow(events(&app, seen[2].id.unwrap_or_default())?).await?;
    let head = get(&app, &format!("{session}/events?limit=500")).await?["data"].as_array().map_or(0, Vec::len);
    while seen.len() < head {
        seen.push(stream.next().await?.context("there is more")?);
    }
    // Live from here on: what comes with a turn is streamed, and the close ends the stream.
    post(&app, &format!("{session}/turns"), json!({ "prompt": "say: three" })).await?;
    call(&app, Method::DELETE, &session, Value::Null).await?;
    seen.extend(stream.rest().await?);
    let closed = seen.pop().context("there is an end")?;
    assert_eq!((closed.name.as_str(), closed.id), ("closed", None));
    assert_eq!(ids(&seen), (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(seen.len() > head && names(&seen).iter().filter(|name| **name == "ended").count() == 3);
    Ok(())
}

#[tokio::test]
async fn a_turn_is_stopped_and_one_that_waits_is_taken_away() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    let turns = format!("{session}/turns");
    let (running, waiting) = (begun(&app, &turns, "hang").await?, begun(&app, &turns, "say: never").await?);
    app.wait_for_programs(|pids| !pids.is_empty()).await?;
    let taken = call(&app, Method::DELETE, &waiting, Value::Null).await?;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{taken:?}");
    assert!(taken.json()["cancel_asked_at"].is_string());
    assert_eq!(post(&app, &format!("{running}/cancel"), Value::Null).await?.status, StatusCode::ACCEPTED);
    for turn in [&running, &waiting] {
        let url = app.url(&format!("{turn}/events"));
        let events = follow(app.http().get(url).bearer_auth(app.demo_token()?)).await?.rest().await?;
        let end = events.last().context("there is an end")?;
        assert_eq!((end.name.as_str(), &end.data["failure"]["kind"]), ("ended", &json!("cancelled")));
        let shown = get(&app, turn).await?;
        assert_eq!(
            (&shown["outcome"], &shown["result"]["failure"]["code"]),
            (&json!("cancelled"), &json!("cancelled"))
        );
        let again = post(&app, &format!("{turn}/cancel"), Value::Null).await?;
        assert_eq!((again.status, &again.json()["code"]), (StatusCode::CONFLICT, &json!("already_ended")));
    }
    let listed = get(&app, &format!("{turns}?limit=1")).await?;
    let rest = get(&app, &format!("{turns}?cursor={}", listed["next_cursor"].as_str().unwrap_or_default())).await?;
    let indexes = [&listed, &rest].map(|page| page["data"][0]["index"].clone());
    assert_eq!(indexes, [json!(1), json!(2)]);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_hangs_up_changes_nothing_about_the_turn() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    let request = app.http().post(app.url(&format!("{session}/turns"))).bearer_auth(app.demo_token()?);
    let request = request.header("accept", "text/event-stream").json(&json!({ "prompt": "sleep: 300\nsay: done" }));
    let mut stream = follow(request).await?;
    let path = stream.location().context("it says where the turn is")?;
    assert_eq!(stream.next().await?.map(|event| event.name).as_deref(), Some("prompt"));
    drop(stream);
    let ended = async {
        while get(&app, &path).await?["state"] != "ended" {
            clawdforge_testkit::app::poll_pause().await;
        }
        get(&app, &path).await
    };
    let turn = tokio::time::timeout(PATIENCE, ended).await??;
    assert_eq!(turn["result"]["answer"], "done");
    Ok(())
}

#[tokio::test]
async fn what_is_refused_is_a_problem_with_a_page() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    call(&app, Method::DELETE, &session, Value::Null).await?;
    let turns = format!("{session}/turns");
    let nobodys = "/v1/sessions/ses_01j00000000000000000000000";
    let cases = [
        (Method::POST, turns.as_str(), json!({ "prompt": "x" }), "session_closed"),
        (Method::GET, nobodys, Value::Null, "not_found"),
        (Method::GET, "/v1/sessions/%ff", Value::Null, "not_found"),
        (Method::GET, "/v1/nothing", Value::Null, "no_such_route"),
        (Method::GET, "/problems/nonsense", Value::Null, "no_such_route"),
        (Method::DELETE, "/v1/runs", Value::Null, "method_not_allowed"),
        (Method::POST, "/v1/sessions", json!({ "agent": "nobody" }), "unknown_agent"),
        (Method::GET, "/v1/runs?limit=0&cursor=x", Value::Null, "invalid_request"),
    ];
    for (method, path, body, code) in cases {
        let answer = call(&app, method, path, body).await?;
        let problem = answer.json();
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
        assert_eq!((&problem["code"], &problem["type"]), (&json!(code), &json!(format!("/problems/{code}"))));
        assert_eq!(problem["status"], answer.status.as_u16());
        assert_eq!(problem["instance"], answer.headers["x-request-id"].to_str()?);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        let page = app.call(Method::GET, &format!("/problems/{code}"), "", Value::Null).await?;
        assert!(page.status == StatusCode::OK && page.text.starts_with(&format!("# {code}\n")), "{page:?}");
    }
    let broken = app.http().post(app.url("/v1/runs")).bearer_auth(app.demo_token()?);
    let broken = read(broken.header("content-type", "application/json").body("{\"prompt\": }")).await?;
    let detail = "body.11: JSON decode error: expected value at line 1 column 12";
    assert_eq!((broken.status.as_u16(), &broken.json()["detail"]), (422, &json!(detail)), "{broken:?}");
    let beyond = format!("{session}/events?after=9223372036854775808&cursor=9223372036854775808");
    for (path, places) in [
        ("/v1/runs?limit=0&cursor=x", ["query.cursor", "query.limit"]),
        (beyond.as_str(), ["query.after", "query.cursor"]),
    ] {
        let faults = call(&app, Method::GET, path, Value::Null).await?.json();
        let fields: Vec<_> =
            faults["errors"].as_array().into_iter().flatten().map(|fault| fault["field"].clone()).collect();
        assert_eq!(fields, places);
    }
    let unsigned = app.call(Method::GET, "/v1/runs", "", Value::Null).await?;
    assert_eq!((unsigned.status, &unsigned.json()["code"]), (StatusCode::UNAUTHORIZED, &json!("not_signed_in")));
    assert_eq!(unsigned.headers["www-authenticate"], "Bearer");
    Ok(())
}

fn keyed(app: &TestApp, path: &str, key: &str, prompt: &str) -> anyhow::Result<reqwest::RequestBuilder> {
    let request = app.http().post(app.url(path)).bearer_auth(app.demo_token()?).header("idempotency-key", key);
    Ok(request.json(&json!({ "prompt": prompt })))
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once_however_often_it_is_sent() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let first = read(keyed(&app, "/v1/runs", "one", "say: plum")?).await?;
    let again = read(keyed(&app, "/v1/runs", "one", "say: plum")?).await?;
    assert_eq!((first.status, again.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(first.json(), again.json());
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = read(keyed(&app, "/v1/runs", "one", "say: pear")?).await?;
    assert_eq!((other.status, &other.json()["code"]), (StatusCode::CONFLICT, &json!("idempotency_key_reused")));
    let bad = read(keyed(&app, "/v1/runs", "two words", "say: pear")?).await?;
    assert_eq!(bad.json()["errors"][0]["field"], "header.idempotency-key", "{bad:?}");

    // Whoever asks for a stream is attached to the one that is under way.
    let session = open(&app).await?;
    let turns = format!("{session}/turns");
    let request = keyed(&app, &turns, "two", "sleep: 300\nsay: done")?.header("prefer", "respond-async");
    let begun = read(request).await?;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    let stream =
        follow(keyed(&app, &turns, "two", "sleep: 300\nsay: done")?.header("accept", "text/event-stream")).await?;
    assert_eq!(stream.location().as_deref(), begun.headers["location"].to_str().ok());
    let events = stream.rest().await?;
    assert_eq!(events.last().map(|end| end.data["answer"].clone()), Some(json!("done")));
    let turns = get(&app, &turns).await?;
    assert_eq!(turns["data"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_key_of_one_app_says_nothing_to_another() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let first = read(keyed(&app, "/v1/runs", "one", "say: plum")?).await?;
    let other = app.mint("other").await?;
    let request = app.http().post(app.url("/v1/runs")).bearer_auth(other).header("idempotency-key", "one");
    let theirs = read(request.json(&json!({ "prompt": "say: plum" }))).await?;
    assert_eq!(theirs.status, StatusCode::OK);
    assert_ne!(theirs.json()["id"], first.json()["id"]);
    Ok(())
}

#[tokio::test]
async fn an_upload_is_looked_at_and_attached() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let part = reqwest::multipart::Part::bytes(b"a plum".to_vec()).file_name("../plum.txt");
    let request = app.http().post(app.url("/v1/files")).bearer_auth(app.demo_token()?);
    let made = read(request.multipart(reqwest::multipart::Form::new().part("file", part))).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let file = made.json();
    assert_eq!((&file["name"], &file["size_bytes"]), (&json!("plum.txt"), &json!(6)));
    assert_eq!(get(&app, made.headers["location"].to_str()?).await?, file);
    let body = json!({ "prompt": "read: attachment-1.txt", "files": [file["id"]] });
    let run = post(&app, "/v1/runs", body).await?.json();
    assert_eq!(run["result"]["answer"], "a plum", "{run}");
    Ok(())
}

#[tokio::test]
async fn an_app_sees_the_agents_there_are_and_what_it_has_used() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let agents = get(&app, "/v1/agents").await?;
    let demo = agents["data"].as_array().into_iter().flatten().find(|agent| agent["name"] == "demo").cloned();
    let demo = demo.context("the demo agent is among them")?;
    assert_eq!(
        (&demo["is_default"], &demo["is_present"], &demo["drivers"][0]),
        (&json!(true), &json!(true), &json!("acp"))
    );
    post(&app, "/v1/runs", json!({ "prompt": "say: one two" })).await?;
    let turns = format!("{}/turns", open(&app).await?);
    for _ in 0..2 {
        post(&app, &turns, json!({ "prompt": "say: three" })).await?;
    }
    let used = get(&app, "/v1/usage").await?;
    assert_eq!((&used["runs"], &used["turns"], &used["from"]), (&json!(1), &json!(2), &Value::Null));
    assert!(used["output_tokens"].as_u64().is_some_and(|tokens| tokens >= 3), "{used}");
    let later = get(&app, "/v1/usage?from=2100-01-01T00:00:00Z").await?;
    assert_eq!((&later["runs"], &later["output_tokens"]), (&json!(0), &json!(0)));
    let other = app.mint("other").await?;
    assert_eq!(app.call(Method::GET, "/v1/usage", &other, Value::Null).await?.json()["turns"], 0);
    let bad = call(&app, Method::GET, "/v1/usage?to=tomorrow", Value::Null).await?;
    assert_eq!(bad.json()["errors"][0]["field"], "query.to", "{bad:?}");
    Ok(())
}

#[tokio::test]
async fn a_session_of_the_first_versions_is_found_by_either_form_of_its_id() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let uuid = app.open_session(json!({})).await?;
    let found = get(&app, &format!("/v1/sessions/{uuid}")).await?;
    assert_eq!(get(&app, &format!("/v1/sessions/{}", found["id"].as_str().unwrap_or_default())).await?, found);
    Ok(())
}

#[tokio::test]
async fn model_effort_and_notes_of_a_session_are_changed_by_a_merge_patch() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let opened = post(&app, "/v1/sessions", json!({ "meta": {"a": 1}, "effort": "low" })).await?.json();
    let session = format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default());
    let patch = async |body: Value| call(&app, Method::PATCH, &session, body).await;
    let changed = patch(json!({ "model": "large", "effort": null })).await?;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let changed = changed.json();
    assert_eq!(
        (&changed["model"], &changed["effort"], &changed["meta"]),
        (&json!("large"), &Value::Null, &json!({"a": 1}))
    );
    assert_eq!(get(&app, &session).await?, changed);
    let turn = post(&app, &format!("{session}/turns"), json!({ "prompt": "model" })).await?.json();
    assert_eq!(turn["result"]["answer"], "large", "{turn}");
    let bad = patch(json!({ "model": "-x", "effort": "most", "meta": [] })).await?;
    let fields: Vec<_> =
        bad.json()["errors"].as_array().into_iter().flatten().map(|fault| fault["field"].clone()).collect();
    assert_eq!(fields, ["body.model", "body.effort", "body.meta"]);
    call(&app, Method::DELETE, &session, Value::Null).await?;
    assert_eq!(patch(json!({ "model": null })).await?.json()["code"], "session_closed");
    Ok(())
}
