//! All that `/v1` offers a session, once with each real agent: safe to send again, streamed, replayed, stopped, changed, forked,
//! answered as data.

use std::time::Duration;

use anyhow::{Context, ensure};
use clawdforge_testkit::app::{Answer, PATIENCE, read};
use clawdforge_testkit::mock_model::Reply;
use clawdforge_testkit::sse::{Sse, follow};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::battery::agent::Agent;
use crate::dialects::Stage;
use crate::streams::text_of;

/// A session of `/v1` with one agent.
struct Story {
    stage: Stage,
    agent: Agent,
    session: String,
}

impl Story {
    /// Opened twice with one key, which opens one.
    async fn begin(agent: Agent) -> anyhow::Result<Option<Self>> {
        let Some(stage) = Stage::set(agent, &[]).await? else { return Ok(None) };
        let mut story = Self { stage, agent, session: String::new() };
        let open = || story.post("/v1/sessions", "open", &json!({ "agent": agent.name(), "meta": { "n": 1 } }));
        let (opened, again) = (read(open()).await?, read(open()).await?);
        assert_eq!((opened.status, again.status), (StatusCode::CREATED, StatusCode::CREATED), "{again:?}");
        assert_eq!(opened.json()["id"], again.json()["id"]);
        story.session = opened.headers["location"].to_str()?.to_owned();
        Ok(Some(story))
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> RequestBuilder {
        let request = self.stage.bench.app.http().post(self.stage.bench.app.url(path));
        request.bearer_auth(&self.stage.bench.token).header("idempotency-key", key).json(body)
    }

    fn turn(&self, key: &str, prompt: &str) -> RequestBuilder {
        self.post(&format!("{}/turns", self.session), key, &json!({ "prompt": prompt }))
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Answer> {
        let answer = self.stage.bench.app.call(method, path, &self.stage.bench.token, body).await?;
        ensure!(answer.status.is_success(), "{path}: {answer:?}; log:\n{}", self.stage.bench.app.log()?);
        Ok(answer)
    }

    async fn events(&self, path: &str) -> anyhow::Result<Vec<Sse>> {
        let request = self.stage.bench.app.http().get(self.stage.bench.app.url(path));
        let request = request.bearer_auth(&self.stage.bench.token).header("accept", "text/event-stream");
        follow(request).await?.rest().await
    }

    /// How many questions of callers the model was asked.
    fn asked(&self) -> usize {
        self.stage.bench.model.turn_requests().len()
    }

    /// Streamed, and sent again: the same events, and the model hears of it once. Another body with the key is refused.
    async fn is_done_once(&self) -> anyhow::Result<()> {
        self.stage.bench.model.reply_next(Reply::text("Once."));
        let streamed = || self.turn("one", "Say it.").header("accept", "text/event-stream");
        let events = follow(streamed()).await?.rest().await?;
        assert_eq!(text_of(&events), "Once.", "{events:?}");
        assert_eq!(follow(streamed()).await?.rest().await?, events);
        assert_eq!(self.asked(), 1, "the model was asked once");
        let other = read(self.turn("one", "Say something else.")).await?;
        assert_eq!((other.status, &other.json()["code"]), (StatusCode::CONFLICT, &json!("idempotency_key_reused")));
        Ok(())
    }

    /// One turn is under way and one waits: the waiting one is taken out, the other stopped, and the agent goes on.
    async fn is_stopped(&self) -> anyhow::Result<()> {
        self.stage.bench.model.reply_next(Reply::text("word after word ".repeat(400)).slow(Duration::from_millis(100)));
        let begun = read(self.turn("two", "Do not finish.").header("prefer", "respond-async")).await?;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
        self.stage.bench.model.wait_for_requests(2, PATIENCE).await?;
        let waiting = read(self.turn("three", "Never mind.").header("prefer", "respond-async")).await?;
        let [waiting, begun] = [&waiting, &begun].map(|answer| answer.headers["location"].to_str().map(str::to_owned));
        let (waiting, begun) = (waiting?, begun?);
        self.call(Method::DELETE, &waiting, Value::Null).await?;
        self.call(Method::POST, &format!("{begun}/cancel"), Value::Null).await?;
        for path in [begun, waiting] {
            let end = self.events(&format!("{path}/events")).await?.pop().context("it ends")?;
            assert_eq!(end.data["failure"]["kind"], "cancelled", "{end:?}");
        }
        assert_eq!(self.asked(), 2, "the agent never heard of what was taken out");
        Ok(())
    }

    /// New notes, and a fork where the agent offers one, which knows what was said.
    async fn is_changed_and_forked(&self) -> anyhow::Result<()> {
        let changed = self.call(Method::PATCH, &self.session, json!({ "meta": { "n": 2 } })).await?.json();
        assert_eq!(changed["meta"], json!({ "n": 2 }));
        self.stage.bench.model.script(Reply::echo);
        let path = format!("{}/fork", self.session);
        let (app, token) = (&self.stage.bench.app, &self.stage.bench.token);
        let forked = app.call(Method::POST, &path, token, json!({ "meta": { "n": 3 } })).await?;
        if self.agent == Agent::Copilot {
            assert_eq!(forked.json()["code"], "fork_impossible", "{forked:?}");
            return Ok(());
        }
        assert_eq!((forked.status, &forked.json()["meta"]), (StatusCode::CREATED, &json!({ "n": 3 })), "{forked:?}");
        let fork = forked.headers["location"].to_str()?.to_owned();
        let turn = self.call(Method::POST, &format!("{fork}/turns"), json!({ "prompt": "And here?" })).await?.json();
        assert_eq!(turn["outcome"], "completed", "{turn}");
        let heard = self.stage.bench.model.turn_requests().pop().context("it was asked")?.body.to_string();
        assert!(heard.contains("Say it.") && heard.contains("And here?"), "{heard}");
        self.call(Method::DELETE, &fork, Value::Null).await?;
        Ok(())
    }

    /// An answer as data.
    async fn is_answered_as_data(&self) -> anyhow::Result<()> {
        self.stage.bench.model.script(|_| Reply::text("{\"n\": 7}"));
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let body = json!({ "prompt": "Which number?", "output_schema": schema });
        let turn = self.call(Method::POST, &format!("{}/turns", self.session), body).await?.json();
        assert_eq!((&turn["outcome"], &turn["result"]["output"]), (&json!("completed"), &json!({ "n": 7 })), "{turn}");
        Ok(())
    }

    /// The whole log, and its rest from any number on, each number once; what it cost; and nothing is left.
    async fn ends_with_a_whole_log(self) -> anyhow::Result<()> {
        self.call(Method::DELETE, &self.session, Value::Null).await?;
        let path = format!("{}/events", self.session);
        let all = self.events(&path).await?;
        let numbers: Vec<u64> = all.iter().filter_map(|event| event.id).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(all.last().map(|event| event.name.as_str()), Some("closed"));
        let middle = numbers.len() / 2;
        assert_eq!(self.events(&format!("{path}?after={middle}")).await?, all[middle..]);
        let usage = self.call(Method::GET, "/v1/usage", Value::Null).await?.json();
        assert_eq!(usage["turns"], if self.agent == Agent::Copilot { 4 } else { 5 }, "{usage}");
        ensure!(self.stage.bench.app.agent_processes().is_empty(), "processes are left after the close");
        self.stage.bench.finish().await
    }
}

async fn is_served_whole(agent: Agent) -> anyhow::Result<()> {
    let Some(story) = Story::begin(agent).await? else { return Ok(()) };
    story.is_done_once().await?;
    story.is_stopped().await?;
    story.is_changed_and_forked().await?;
    story.is_answered_as_data().await?;
    story.ends_with_a_whole_log().await
}

#[tokio::test]
async fn claude_is_served_whole() -> anyhow::Result<()> {
    is_served_whole(Agent::Claude).await
}

#[tokio::test]
async fn codex_is_served_whole() -> anyhow::Result<()> {
    is_served_whole(Agent::Codex).await
}

#[tokio::test]
async fn copilot_is_served_whole() -> anyhow::Result<()> {
    is_served_whole(Agent::Copilot).await
}
