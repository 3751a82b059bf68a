//! Forks of sessions with the real Claude Code and the real Codex.

use anyhow::ensure;
use clawdforge_testkit::mock_model::Reply;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::battery::agent::Agent;
use crate::bench::{Bench, Kind};
use crate::dialects::Stage;
use crate::sessions::said;

/// Forks a session that must be forked; its id.
async fn fork(bench: &Bench, session: &str) -> anyhow::Result<String> {
    let path = format!("/v1/sessions/{session}/fork");
    let answer = bench.app.call(Method::POST, &path, &bench.token, json!({})).await?;
    ensure!(answer.status == StatusCode::CREATED, "{answer:?}; log:\n{}", bench.app.log()?);
    Ok(answer.json()["id"].as_str().unwrap_or_default().to_owned())
}

/// What the model was asked last, as text.
fn asked_last(bench: &Bench) -> String {
    bench.model.turn_requests().last().map(|request| request.body.to_string()).unwrap_or_default()
}

async fn turned(bench: &Bench, session: &str, prompt: &str) -> anyhow::Result<Value> {
    bench.turned(session, json!({ "prompt": prompt })).await
}

/// What a fork is with any agent: it knows what was said before and works in a folder of its own; neither side sees what comes
/// after; and it goes on without the session it came from.
async fn is_forked(agent: Agent, bench: Bench) -> anyhow::Result<()> {
    let source = bench.session(json!({ "agent": agent.name() })).await?;
    bench.model.script(|_| Reply::text("I see."));
    turned(&bench, &source, "The word is plum.").await?;
    let fork_id = fork(&bench, &source).await?;

    turned(&bench, &source, "Only the source hears of quinces.").await?;
    bench.model.reply_next(agent.runs("echo nine > number.txt && pwd"));
    let worked = turned(&bench, &fork_id, "Only the fork hears of medlars.").await?;
    assert_eq!((worked["context"].as_str(), said(&worked).as_str()), (Some("resumed"), "I see."), "{worked}");
    let of_fork = asked_last(&bench);
    assert!(of_fork.contains("plum") && of_fork.contains("medlars") && !of_fork.contains("quinces"), "{of_fork}");
    let folders = bench.app.data_dir().join("sessions");
    assert!(of_fork.contains(&format!("{fork_id}/work")), "it works in its own folder: {of_fork}");
    let with_number = std::fs::read_dir(folders)?
        .filter(|folder| folder.as_ref().is_ok_and(|folder| folder.path().join("work/number.txt").exists()));
    assert_eq!(with_number.count(), 1, "and in no other");

    let warm = turned(&bench, &source, "Go on.").await?;
    assert_eq!(warm["context"], "warm", "{warm}");
    let of_source = asked_last(&bench);
    assert!(of_source.contains("quinces") && !of_source.contains("medlars"), "{of_source}");

    bench.close(&source).await?;
    bench.kill_agent(&fork_id).await?;
    let resumed = turned(&bench, &fork_id, "And on.").await?;
    assert_eq!(resumed["context"], "resumed", "{resumed}");
    let of_fork = asked_last(&bench);
    assert!(of_fork.contains("plum") && of_fork.contains("medlars") && !of_fork.contains("quinces"), "{of_fork}");
    bench.close(&fork_id).await?;
    bench.finish().await
}

#[tokio::test]
async fn a_session_of_claude_is_forked() -> anyhow::Result<()> {
    match Bench::start().await? {
        Some(bench) => is_forked(Agent::Claude, bench).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_session_of_codex_is_forked() -> anyhow::Result<()> {
    match Stage::set(Agent::Codex, &[]).await? {
        Some(Stage { bench, .. }) => is_forked(Agent::Codex, bench).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_fork_through_acpx_is_refused_with_the_reason() -> anyhow::Result<()> {
    if crate::acpx::search_path()?.is_none() {
        return Ok(());
    }
    let kind = Kind { env: &[("CLAWDFORGE_SESSION_DRIVER", "acpx")], ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let source = bench.session(json!({})).await?;
    turned(&bench, &source, "The word is plum.").await?;
    let path = format!("/v1/sessions/{source}/fork");
    let answer = bench.app.call(Method::POST, &path, &bench.token, json!({})).await?.json();
    assert_eq!((&answer["code"], &answer["status"]), (&json!("fork_impossible"), &json!(409)), "{answer}");
    assert!(answer["detail"].to_string().contains("acpx"), "{answer}");
    bench.close(&source).await?;
    bench.finish().await
}
