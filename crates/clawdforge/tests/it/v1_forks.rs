//! `POST /v1/sessions/{session}/fork`, with the demo agent as a real process behind the real binary.

use anyhow::ensure;
use clawdforge_testkit::app::{Answer, TestApp, read};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::setup;

async fn post(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(Method::POST, path, &app.demo_token()?, body).await
}

async fn made(answer: Answer) -> anyhow::Result<Value> {
    ensure!(answer.status == StatusCode::CREATED, "{answer:?}");
    let made = answer.json();
    ensure!(answer.headers["location"] == path(&made).as_str(), "{answer:?}");
    Ok(made)
}

fn path(session: &Value) -> String {
    format!("/v1/sessions/{}", session["id"].as_str().unwrap_or_default())
}

async fn open(app: &TestApp, body: Value) -> anyhow::Result<Value> {
    made(post(app, "/v1/sessions", body).await?).await
}

async fn fork(app: &TestApp, session: &Value, body: Value) -> anyhow::Result<Value> {
    made(post(app, &format!("{}/fork", path(session)), body).await?).await
}

/// A turn's answer, and where the agent had the turns before from.
async fn turn(app: &TestApp, session: &Value, body: Value) -> anyhow::Result<(String, String)> {
    let answer = post(app, &format!("{}/turns", path(session)), body).await?.json();
    ensure!(answer["outcome"] == "completed", "{answer}");
    let events = format!("{}/events?limit=1000", path(session));
    let events = app.call(Method::GET, &events, &app.demo_token()?, Value::Null).await?.json();
    let mut contexts = events["data"].as_array().into_iter().flatten().filter(|event| event["type"] == "context");
    let source = contexts.next_back().map_or(Value::Null, |event| event["source"].clone());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&answer["result"]["answer"]), text(&source)))
}

async fn said(app: &TestApp, session: &Value, prompt: &str) -> anyhow::Result<(String, String)> {
    turn(app, session, json!({ "prompt": prompt })).await
}

fn work(app: &TestApp, session: &Value) -> std::path::PathBuf {
    app.data_dir().join("sessions").join(session["id"].as_str().unwrap_or_default()).join("work")
}

#[tokio::test]
async fn a_fork_knows_what_the_session_knew_and_then_they_part() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let source = open(&app, json!({ "effort": "low", "meta": { "n": 1 } })).await?;
    let token = app.demo_token()?;
    let file = app.upload(&token, "notes.txt", b"first".to_vec()).await?;
    turn(&app, &source, json!({ "prompt": "the word is plum", "files": [file] })).await?;
    let fork = fork(&app, &source, json!({ "meta": { "n": 2 } })).await?;
    assert_eq!(fork["forked_from"], json!({ "session_id": source["id"], "turn_index": 1 }), "{fork}");
    assert_eq!((&fork["effort"], &fork["meta"], &fork["turns"]), (&json!("low"), &json!({ "n": 2 }), &json!(0)));
    assert_eq!(source["forked_from"], Value::Null);

    said(&app, &source, "only in the source").await?;
    let (recalled, context) = said(&app, &fork, "recall").await?;
    assert!(recalled.contains("plum") && !recalled.contains("only in the source"), "{recalled}");
    assert_eq!(context, "resumed");
    let (recalled, context) = said(&app, &source, "recall").await?;
    assert!(recalled.contains("plum") && recalled.contains("only in the source"), "{recalled}");
    assert_eq!(context, "warm", "the session's own agent was left alone");

    // What was attached before is there, and what is attached now does not lie on it.
    let file = app.upload(&token, "notes.txt", b"second".to_vec()).await?;
    turn(&app, &fork, json!({ "prompt": "look", "files": [file] })).await?;
    let attached = work(&app, &fork).join("attachments");
    assert_eq!(std::fs::read(attached.join("turn-1/attachment-1.txt"))?, b"first");
    let own = format!("turn-2-of-{}/attachment-1.txt", fork["id"].as_str().unwrap_or_default());
    assert_eq!(std::fs::read(attached.join(own))?, b"second");
    assert!(!work(&app, &source).join("attachments/turn-2").exists());
    Ok(())
}

#[tokio::test]
async fn a_fork_goes_on_after_a_kill_and_without_the_session_it_came_from() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let source = open(&app, json!({})).await?;
    said(&app, &source, "the word is plum").await?;
    let one = fork(&app, &source, Value::Null).await?;
    app.call(Method::DELETE, &path(&source), &app.demo_token()?, Value::Null).await?;
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let app = app.restart().await?;
    said(&app, &one, "and the number is nine").await?;
    let other = fork(&app, &one, json!({})).await?;
    assert_eq!(other["forked_from"]["session_id"], one["id"]);
    let (recalled, _) = said(&app, &other, "recall").await?;
    assert!(recalled.contains("plum") && recalled.contains("nine"), "{recalled}");
    Ok(())
}

#[tokio::test]
async fn the_same_key_makes_one_fork_and_another_body_is_another_request() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let source = open(&app, json!({})).await?;
    said(&app, &source, "hello").await?;
    let url = app.url(&format!("{}/fork", path(&source)));
    let keyed = || anyhow::Ok(app.http().post(&url).bearer_auth(app.demo_token()?).header("idempotency-key", "one"));
    // At once, without a body.
    let (first, second) = tokio::try_join!(read(keyed()?), read(keyed()?))?;
    let replays = [&first, &second].map(|answer| answer.headers.contains_key("idempotent-replayed"));
    assert!(replays[0] != replays[1], "{first:?} {second:?}");
    assert_eq!(made(first).await?["id"], made(second).await?["id"]);
    let other = read(keyed()?.json(&json!({ "meta": {} }))).await?;
    assert_eq!(other.json()["code"], "idempotency_key_reused", "{other:?}");
    let forks = app.ledger().await?.into_iter().filter(|line| line["kind"] == "session_forked").count();
    assert_eq!(forks, 1);
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_fork_the_reason_is_told_and_nothing_is_left() -> anyhow::Result<()> {
    let program = json!(env!("CARGO_BIN_EXE_clawdforge"));
    let config = format!(
        "[agents.volatile]\ndialect = \"acp\"\ncommand = {program}\nargs = [\"{}\", \"--acp\", \"--volatile\"]\n",
        "__demo-agent"
    );
    let app = setup().demo().config(config).start().await?;
    let volatile = open(&app, json!({ "agent": "volatile" })).await?;
    said(&app, &volatile, "hello").await?;
    let normal = open(&app, json!({})).await?;
    said(&app, &normal, "hello").await?;
    let refused = |answer: Answer, why: &str| {
        assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::CONFLICT, &json!("fork_impossible")));
        assert!(answer.json()["detail"].to_string().contains(why), "{answer:?}");
    };
    refused(post(&app, &format!("{}/fork", path(&volatile)), json!({})).await?, "does not offer to fork");
    let wrong = post(&app, &format!("{}/fork", path(&normal)), json!({ "model": "no-such-model" })).await?;
    assert_eq!(wrong.json()["code"], "agent_unavailable", "{wrong:?}");
    let sessions = std::fs::read_dir(app.data_dir().join("sessions"))?.count();
    let hosts = std::fs::read_dir(app.data_dir().join("hosts"))?.count();
    assert_eq!((sessions, hosts), (2, 0));
    assert_eq!(said(&app, &normal, "hello").await?.1, "warm");
    assert_eq!(app.agent_programs().len(), 2, "nothing is left of the tries");
    Ok(())
}
