//! Sessions with the real Claude Code behind its real adapter.

use clawdforge_testkit::mock_model::Reply;
use serde_json::{Value, json};

use crate::bench::{Bench, Kind};

/// The text of a reply: what stands in its `text` events.
pub fn said(reply: &Value) -> String {
    let events = reply["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter(|event| event["type"] == "text").filter_map(|event| event["content"].as_str()).collect()
}

#[tokio::test]
async fn an_api_failure_is_told_once_and_the_session_goes_on() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    for (status, code) in [
        // The adapter takes it for a sign-in that has run out.
        (401, "agent_not_signed_in"),
        (429, "agent_rate_limited"),
        (500, "agent_provider_error"),
        (529, "agent_overloaded"),
    ] {
        bench.model.script(move |_| Reply::status(status));
        let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["code"]), (502, &json!(code)), "{status}: {body}");
    }
    bench.model.script(|_| Reply::text("Back again."));
    assert_eq!(said(&bench.turned(&session, json!({ "prompt": "hello" })).await?), "Back again.");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn the_model_of_a_session_is_the_one_asked_for() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude", "model": "haiku" })).await?;
    bench.turned(&session, json!({ "prompt": "hello" })).await?;
    let asked = bench.model.turn_requests();
    assert!(asked[0].model().contains("haiku"), "{}", asked[0].model());
    bench.close(&session).await?;
    let session = bench.session(json!({ "agent": "claude", "model": "no-such-model" })).await?;
    let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
    assert_eq!(answer.json()["code"], "agent_unknown_model", "{answer:?}");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn nobody_signed_in_is_told_with_what_to_do() -> anyhow::Result<()> {
    let kind = crate::bench::Kind { signed_out: true, ..crate::bench::Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["code"]), (502, &json!("agent_not_signed_in")), "{body}");
    assert!(body["error"].to_string().contains("clawdforge doctor"), "{body}");
    bench.close(&session).await?;
    bench.finish().await
}

/// The transcripts of conversations that Claude Code keeps in its homes.
fn transcripts(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = bench.app.agent_homes().iter().map(|home| home.join(".claude/projects")).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|extension| extension == "jsonl") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[tokio::test]
async fn what_the_agent_keeps_of_a_session_is_erased_with_it_and_of_others_stays() -> anyhow::Result<()> {
    let kind = Kind {
        env: &[("CLAWDFORGE_SESSION_HARD_TTL_SECS", "1"), ("CLAWDFORGE_SWEEP_INTERVAL_SECS", "1")],
        ..Kind::default()
    };
    transcripts_are_erased(kind).await
}

/// Of two sessions, the transcript of the one that is erased goes.
pub async fn transcripts_are_erased(kind: Kind) -> anyhow::Result<()> {
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let (kept, erased) = (bench.session(json!({})).await?, bench.session(json!({})).await?);
    for session in [&kept, &erased] {
        bench.turned(session, json!({ "prompt": "Remember this." })).await?;
    }
    assert_eq!(transcripts(&bench).len(), 2);
    bench.close(&erased).await?;
    let gone = async {
        while transcripts(&bench).len() > 1 {
            clawdforge_testkit::app::poll_pause().await;
        }
    };
    tokio::time::timeout(clawdforge_testkit::app::PATIENCE, gone).await?;
    let ledger = bench.app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "session_erased")).await?;
    assert!(ledger.iter().any(|line| line["kind"] == "session_erased"));
    assert_eq!(bench.turned(&kept, json!({ "prompt": "Go on." })).await?["context"], "warm");
    bench.close(&kept).await?;
    bench.finish().await
}
