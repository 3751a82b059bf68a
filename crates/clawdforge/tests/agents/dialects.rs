//! What each real agent has its own words or ways for: failures of its provider, and the sandbox of Codex.

use anyhow::ensure;
use clawdforge_testkit::mock_model::{MockModel, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::battery::agent::Agent;
use crate::bench::Bench;
use crate::sessions::said;

/// A service with one agent; the folder holds the agent's own configuration.
pub struct Stage {
    pub bench: Bench,
    _folder: TempDir,
}

impl Stage {
    /// With further options of the service; `None` where the agent is not installed.
    pub async fn set(agent: Agent, options: &[&str]) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("cf-agent").tempdir()?;
        let model = MockModel::start().await?;
        let Some(setup) = agent.setup(false, &model, folder.path())? else { return Ok(None) };
        let app = options.iter().fold(setup, |setup, option| setup.arg(*option)).start().await?;
        let token = app.mint("app").await?;
        Ok(Some(Self { bench: Bench { model, app, token }, _folder: folder }))
    }

    async fn turn(&self, session: &str, prompt: &str) -> anyhow::Result<Value> {
        self.bench.turned(session, json!({ "prompt": prompt })).await
    }

    async fn finish(self, session: &str) -> anyhow::Result<()> {
        self.bench.close(session).await?;
        ensure!(self.bench.app.agent_processes().is_empty(), "processes are left after the close");
        self.bench.finish().await
    }
}

/// A provider that refuses the key or fails is told as a failure with its code, in whatever words the agent has for it; none
/// of them stands in the events, and the session goes on.
async fn is_told_of_failures(agent: Agent, told: &[(u16, &str)]) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent, &[]).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": agent.name() })).await?;
    for (status, code) in told {
        let status = *status;
        stage.bench.model.script(move |_| Reply::status(status).with_message("the provider says no"));
        let answer = stage.bench.turn(&session, json!({ "prompt": "Try.", "timeout_secs": 60 })).await?;
        let reply = answer.json();
        assert_eq!((answer.status, &reply["code"]), (StatusCode::BAD_GATEWAY, &json!(code)), "{status}: {reply}");
        stage.bench.model.script(Reply::echo);
        let reply = stage.turn(&session, "Go on.").await?;
        assert_eq!(
            (said(&reply).as_str(), &reply["context"]),
            ("echo of 6 characters: Go on.", &json!("warm")),
            "{reply}"
        );
    }
    stage.finish(&session).await
}

#[tokio::test]
async fn claude_is_told_of_failures() -> anyhow::Result<()> {
    is_told_of_failures(Agent::Claude, &[(401, "agent_not_signed_in"), (500, "agent_provider_error")]).await
}

#[tokio::test]
async fn codex_is_told_of_failures() -> anyhow::Result<()> {
    let told = [
        (401, "agent_not_signed_in"),
        (400, "agent_request_rejected"),
        (429, "agent_rate_limited"),
        (500, "agent_provider_error"),
    ];
    is_told_of_failures(Agent::Codex, &told).await
}

/// Not 429 and 500: nothing stops it from trying those again for 55 s and 14 s. The words it has for them then are in the unit
/// tests of the driver.
#[tokio::test]
async fn copilot_is_told_of_failures() -> anyhow::Result<()> {
    is_told_of_failures(Agent::Copilot, &[(400, "agent_request_rejected"), (401, "agent_unauthorized")]).await
}

/// What it said before it broke off stays in the events, and is no part of the answer.
#[tokio::test]
async fn an_answer_of_copilot_that_broke_off_once_is_told_from_its_beginning() -> anyhow::Result<()> {
    let Some(stage) = Stage::set(Agent::Copilot, &[]).await? else { return Ok(()) };
    let (bench, body) = (&stage.bench, json!({ "agent": "copilot" }));
    let opened = bench.app.call(Method::POST, "/v1/sessions", &bench.token, body).await?;
    let session = opened.headers["location"].to_str()?.to_owned();
    bench.model.reply_next(Reply::cut_mid_stream());
    bench.model.reply_next(Reply::text("Plum."));
    let body = json!({ "prompt": "What is the word?" });
    let turn = bench.app.call(Method::POST, &format!("{session}/turns"), &bench.token, body).await?.json();
    assert_eq!((&turn["outcome"], &turn["result"]["answer"]), (&json!("completed"), &json!("Plum.")), "{turn}");
    stage.finish(&session.replace("/v1/sessions/", "")).await
}

/// What Copilot and its model say after a tool was used costs tokens, so the driver cannot tell a failure there from an
/// answer. It is told in the agent's words.
#[tokio::test]
async fn a_failure_of_copilot_behind_a_tool_is_an_answer() -> anyhow::Result<()> {
    let Some(stage) = Stage::set(Agent::Copilot, &[]).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": "copilot" })).await?;
    stage.bench.model.reply_next(Agent::Copilot.runs("pwd"));
    stage.bench.model.reply_next(Reply::status(400).with_message("the provider says no"));
    let reply = stage.turn(&session, "Where are you?").await?;
    assert_eq!(said(&reply), "Error: 400 the provider says no", "{reply}");
    assert_eq!(stage.turn(&session, "Go on.").await?["context"], "warm");
    stage.finish(&session).await
}

/// Without ours there is its own, which lets Codex reach no network. Where its model wants out it asks, and is answered yes.
#[tokio::test]
async fn codex_leaves_its_sandbox_when_its_model_asks() -> anyhow::Result<()> {
    let off = ["--isolation-mode=off", "--isolation-require=off", "--isolation-off-as-root"];
    let Some(stage) = Stage::set(Agent::Codex, &off).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": "codex" })).await?;
    let address = stage.bench.app.authority().replace(':', "/");
    let command = format!("bash -c 'echo > /dev/tcp/{address}' && echo yes > reached.txt");
    let reached = || stage.bench.work()?.join("reached.txt").try_exists().map_err(anyhow::Error::from);
    for (permissions, reaches) in [("use_default", false), ("require_escalated", true)] {
        let input = json!({ "cmd": command, "sandbox_permissions": permissions, "justification": "It is wanted." });
        stage.bench.model.reply_next(Reply::tool_use("exec_command", input));
        stage.turn(&session, "Reach out.").await?;
        assert_eq!(reached()?, reaches, "{permissions}");
    }
    stage.finish(&session).await
}
