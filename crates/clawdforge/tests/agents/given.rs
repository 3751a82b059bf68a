//! What a session gives the real Claude Code behind its real adapter, natively and through the real acpx.

use anyhow::{Context, ensure};
use clawdforge_testkit::mock_model::ModelRequest;
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::acpx::search_path;
use crate::bench::Bench;

/// The drivers there are; acpx only where it is installed.
fn drivers() -> anyhow::Result<Vec<&'static str>> {
    Ok(if search_path()?.is_some() { vec!["acp", "acpx"] } else { vec!["acp"] })
}

async fn open(bench: &Bench, body: Value) -> anyhow::Result<String> {
    let answer = bench.app.call(Method::POST, "/v1/sessions", &bench.token, body).await?;
    ensure!(answer.status == StatusCode::CREATED, "{answer:?}");
    Ok(answer.json()["id"].as_str().unwrap_or_default().to_owned())
}

fn last(bench: &Bench) -> anyhow::Result<ModelRequest> {
    bench.model.turn_requests().pop().context("the model was asked")
}

/// Ends the service and all it has started, and starts it again.
async fn restarted(mut bench: Bench) -> anyhow::Result<Bench> {
    bench.app.signal(Signal::KILL)?;
    bench.app.ended().await?;
    bench.app = bench.app.restart().await?;
    Ok(bench)
}

#[tokio::test]
async fn a_system_prompt_joins_that_of_claude_code_or_takes_its_place_and_stays() -> anyhow::Result<()> {
    for driver in drivers()? {
        for mode in ["append", "replace"] {
            let Some(bench) = Bench::start().await? else { return Ok(()) };
            // Longer than an argument may be.
            let system = format!("The word is plum.{}", " So it is.".repeat(20_000));
            let body = json!({ "agent": "claude", "driver": driver, "system": system, "system_mode": mode });
            let session = open(&bench, body).await?;
            let is_there = |bench: &Bench| -> anyhow::Result<()> {
                let asked = last(bench)?.system_text();
                let own = asked.replace(system.as_str(), "");
                ensure!(own.len() + system.len() == asked.len(), "{driver} {mode}: it is there once: {}", own.len());
                // Claude Code's own has tens of thousands of characters, and two lines stay.
                ensure!((own.len() > 2_000) == (mode == "append"), "{driver} {mode}: {} are its own", own.len());
                Ok(())
            };
            bench.turned(&session, json!({ "prompt": "hello" })).await?;
            is_there(&bench)?;
            let bench = restarted(bench).await?;
            let reply = bench.turned(&session, json!({ "prompt": "hello again" })).await?;
            assert_eq!(reply["context"], "resumed", "{driver} {mode}");
            is_there(&bench)?;
            bench.close(&session).await?;
            bench.finish().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_mode_is_chosen_for_a_session_and_one_that_is_not_there_told_with_those_that_are() -> anyhow::Result<()> {
    for driver in drivers()? {
        let Some(bench) = Bench::start().await? else { return Ok(()) };
        let session = open(&bench, json!({ "agent": "claude", "driver": driver, "mode": "plan" })).await?;
        bench.turned(&session, json!({ "prompt": "hello" })).await?;
        let said = last(&bench)?.body.to_string();
        assert!(said.contains("Plan mode is active"), "{driver}: {said}");
        bench.close(&session).await?;
        let session = open(&bench, json!({ "agent": "claude", "driver": driver, "mode": "dream" })).await?;
        let failed = bench.turn(&session, json!({ "prompt": "hello" })).await?.json();
        assert_eq!(failed["code"], "agent_unknown_mode", "{driver}: {failed}");
        let told = failed["error"].as_str().unwrap_or_default();
        assert!(told.contains("acceptEdits") && told.contains("plan"), "{driver}: {told}");
        bench.close(&session).await?;
        bench.finish().await?;
    }
    Ok(())
}
