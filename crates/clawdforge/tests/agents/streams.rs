//! Runs of `/v1` with the real Claude Code: sent twice and done once, watched and stopped.

use std::time::Duration;

use clawdforge_testkit::app::{PATIENCE, read};
use clawdforge_testkit::mock_model::Reply;
use clawdforge_testkit::sse::{Sse, follow};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::bench::Bench;

/// What was said in these events.
pub fn text_of(events: &[Sse]) -> String {
    let texts = events.iter().filter(|event| event.name == "text");
    texts.filter_map(|event| event.data["content"].as_str()).collect()
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
