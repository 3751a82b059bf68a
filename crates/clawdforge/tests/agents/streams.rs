//! `/v1` with the real agents: a turn is watched as it goes on and stopped, a run is sent twice and done once.

use std::time::Duration;

use anyhow::Context as _;
use clawdforge_testkit::app::{PATIENCE, read};
use clawdforge_testkit::mock_model::Reply;
use clawdforge_testkit::sse::{Sse, Stream, follow};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::battery::{Agent, Stage};
use crate::bench::Bench;

fn names(events: &[Sse]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn text_of(events: &[Sse]) -> String {
    let texts = events.iter().filter(|event| event.name == "text");
    texts.filter_map(|event| event.data["content"].as_str()).collect()
}

async fn streamed(stage: &Stage, session: &str, prompt: &str) -> anyhow::Result<Stream> {
    let bench = &stage.bench;
    let request = bench.app.http().post(bench.app.url(&format!("{session}/turns"))).bearer_auth(&bench.token);
    follow(request.header("accept", "text/event-stream").json(&json!({ "prompt": prompt }))).await
}

/// A turn with a tool, one that is stopped while the model talks, and one that goes on from there; then the whole of it from the
/// log.
async fn is_watched_and_stopped(agent: Agent) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent).await? else { return Ok(()) };
    let call =
        async |method, path: String, body: Value| stage.bench.app.call(method, &path, &stage.bench.token, body).await;
    let opened = call(Method::POST, "/v1/sessions".to_owned(), json!({ "agent": agent.name() })).await?;
    assert_eq!(opened.status, StatusCode::CREATED, "{opened:?}");
    let session = opened.headers["location"].to_str()?.to_owned();

    stage.bench.model.reply_next(agent.runs("echo plum"));
    stage.bench.model.reply_next(Reply::text("It says plum."));
    let events = streamed(&stage, &session, "Run it.").await?.rest().await?;
    let kinds = names(&events);
    assert_eq!((kinds.first(), kinds.last()), (Some(&"prompt"), Some(&"ended")), "{kinds:?}");
    assert!(kinds.contains(&"tool_call") && kinds.contains(&"tool_result"), "{kinds:?}");
    assert!(text_of(&events).contains("It says plum."), "{events:?}");

    stage.bench.model.reply_next(Reply::text("word after word ".repeat(400)).slow(Duration::from_millis(100)));
    let mut stream = streamed(&stage, &session, "Do not finish.").await?;
    let turn = stream.location().context("it says where the turn is")?;
    // As soon as it is heard talking.
    while stream.next().await?.context("it talks")?.name != "text" {}
    let asked = call(Method::POST, format!("{turn}/cancel"), Value::Null).await?;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let end = stream.rest().await?.pop().context("it ends")?;
    assert_eq!((end.name.as_str(), &end.data["failure"]["kind"]), ("ended", &json!("cancelled")), "{end:?}");

    stage.bench.model.reply_next(Reply::text("I go on."));
    let events = streamed(&stage, &session, "Go on.").await?.rest().await?;
    assert!(text_of(&events).contains("I go on."), "{events:?}");

    call(Method::DELETE, session.clone(), Value::Null).await?;
    let url = stage.bench.app.url(&format!("{session}/events"));
    let request = stage.bench.app.http().get(url).bearer_auth(&stage.bench.token);
    let mut all = follow(request.header("accept", "text/event-stream")).await?.rest().await?;
    assert_eq!(all.pop().map(|last| last.name).as_deref(), Some("closed"));
    let ids: Vec<_> = all.iter().filter_map(|event| event.id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    assert_eq!(names(&all).iter().filter(|name| **name == "ended").count(), 3);
    assert!(stage.bench.app.agent_processes().is_empty(), "processes are left after the close");
    stage.bench.finish().await
}

#[tokio::test]
async fn claude_is_watched_and_stopped() -> anyhow::Result<()> {
    is_watched_and_stopped(Agent::Claude).await
}

#[tokio::test]
async fn codex_is_watched_and_stopped() -> anyhow::Result<()> {
    is_watched_and_stopped(Agent::Codex).await
}

#[tokio::test]
async fn copilot_is_watched_and_stopped() -> anyhow::Result<()> {
    is_watched_and_stopped(Agent::Copilot).await
}

#[tokio::test]
async fn a_run_of_claude_is_done_once_watched_and_stopped() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let run = |key: &'static str, prompt: &str| {
        let request = bench.app.http().post(bench.app.url("/v1/runs")).bearer_auth(&bench.token);
        request.header("idempotency-key", key).json(&json!({ "prompt": prompt }))
    };
    bench.model.reply_next(Reply::text("Once."));
    let events = follow(run("one", "Say it.").header("accept", "text/event-stream")).await?.rest().await?;
    assert_eq!(text_of(&events), "Once.", "{events:?}");
    let again = read(run("one", "Say it.")).await?;
    assert_eq!((again.status, &again.json()["result"]["answer"]), (StatusCode::OK, &json!("Once.")));
    assert_eq!(bench.model.turn_requests().len(), 1, "the model was asked once");

    bench.model.reply_next(Reply::text("word after word ".repeat(400)).slow(Duration::from_millis(100)));
    let begun = read(run("two", "Do not finish.").header("prefer", "respond-async")).await?;
    let path = begun.headers["location"].to_str()?.to_owned();
    bench.model.wait_for_requests(2, PATIENCE).await?;
    let asked = bench.app.call(Method::POST, &format!("{path}/cancel"), &bench.token, Value::Null).await?;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let url = bench.app.url(&format!("{path}/events"));
    let events = follow(bench.app.http().get(url).bearer_auth(&bench.token)).await?.rest().await?;
    assert_eq!(events.last().map(|end| end.data["failure"]["kind"].clone()), Some(json!("cancelled")));
    bench.app.wait_for_processes(<[i32]>::is_empty).await?;
    bench.finish().await
}
