//! One Claude Code behind one service in front of one model, and what is true after every test.

use std::path::Path;

use anyhow::{Context, ensure};
use clawdforge_testkit::agents;
use clawdforge_testkit::app::{Answer, PATIENCE, Setup, TestApp, poll_pause};
use clawdforge_testkit::mock_model::{MockModel, ModelRequest};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The provider's key of every service here; it is looked for where it must not be.
pub const API_KEY: &str = "sk-ant-fake-0123456789abcdefghij";

/// The keys of a successful `POST /run`: these four and no other.
const SUCCESS_KEYS: [&str; 4] = ["ok", "result", "duration_ms", "stop_reason"];

/// A service with the real Claude Code as its agent.
pub struct Bench {
    pub model: MockModel,
    pub app: TestApp,
    /// Of the one app there is.
    pub token: String,
}

impl Bench {
    /// A service that is signed in; `None` where Claude Code is not installed.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        Self::start_as(Kind::default()).await
    }

    /// As [`Self::start`], another kind of service.
    pub async fn start_as(kind: Kind) -> anyhow::Result<Option<Self>> {
        let Some(claude) = agents::claude()? else { return Ok(None) };
        let model = MockModel::start().await?;
        let app = kind.setup(&claude, &model).start().await?;
        let token = app.mint("app").await?;
        Ok(Some(Self { model, app, token }))
    }

    /// `POST /run`.
    pub async fn run(&self, body: Value) -> anyhow::Result<Answer> {
        self.app.run(&self.token, body).await
    }

    /// `POST /run` of a prompt that must be answered: the four keys.
    pub async fn answered(&self, body: Value) -> anyhow::Result<Value> {
        let answer = self.run(body).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}; log:\n{}", self.app.log()?);
        let body = answer.json();
        let keys = body.as_object().map(|object| object.keys().map(String::as_str).collect::<Vec<_>>());
        ensure!(keys.as_deref() == Some(&SUCCESS_KEYS), "other keys: {body}");
        ensure!(body["ok"] == true && body["duration_ms"].is_u64(), "{body}");
        Ok(body)
    }

    /// `POST /run` of a prompt that must fail: 502, and the body with this code.
    pub async fn failed(&self, body: Value, code: &str) -> anyhow::Result<Value> {
        let answer = self.run(body).await?;
        ensure!(answer.status == StatusCode::BAD_GATEWAY, "{answer:?}; log:\n{}", self.app.log()?);
        let body = answer.json();
        ensure!(body["ok"] == false && body["code"] == code, "not {code}: {body}");
        ensure!(body["duration_ms"].is_u64() && body["stderr"].is_string(), "{body}");
        Ok(body)
    }

    /// Opens a session.
    pub async fn session(&self, body: Value) -> anyhow::Result<String> {
        let answer = self.app.call(reqwest::Method::POST, "/sessions", &self.token, body).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        Ok(answer.json()["session_id"].as_str().unwrap_or_default().to_owned())
    }

    /// `POST /sessions/{id}/turn`.
    pub async fn turn(&self, session: &str, body: Value) -> anyhow::Result<Answer> {
        self.app.call(reqwest::Method::POST, &format!("/sessions/{session}/turn"), &self.token, body).await
    }

    /// A turn that must be answered.
    pub async fn turned(&self, session: &str, body: Value) -> anyhow::Result<Value> {
        let answer = self.turn(session, body).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}; log:\n{}", self.app.log()?);
        Ok(answer.json())
    }

    /// Closes a session.
    pub async fn close(&self, session: &str) -> anyhow::Result<Answer> {
        self.app.call(reqwest::Method::DELETE, &format!("/sessions/{session}"), &self.token, Value::Null).await
    }

    /// Kills every process of the agents with a signal that nobody can act on, and waits until the service has noticed: a dying
    /// process still takes a prompt.
    pub async fn kill_agent(&self, session: &str) -> anyhow::Result<()> {
        for pid in self.app.agent_processes() {
            // One may have gone with another.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        self.app.wait_for_processes(<[i32]>::is_empty).await?;
        let noticed = async {
            let path = format!("/sessions/{session}");
            while self.app.call(reqwest::Method::GET, &path, &self.token, Value::Null).await?.json()["warm"] != false {
                poll_pause().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, noticed).await.context("the service did not notice that its agent is gone")?
    }

    /// The workspace of the one session there is.
    pub fn work(&self) -> anyhow::Result<std::path::PathBuf> {
        let mut sessions = std::fs::read_dir(self.app.data_dir().join("sessions"))?;
        Ok(sessions.next().context("there is a session")??.path().join("work"))
    }

    /// The one request the model got.
    pub fn the_request(&self) -> anyhow::Result<ModelRequest> {
        let mut requests = self.model.turn_requests();
        ensure!(requests.len() == 1, "{} requests instead of one", requests.len());
        requests.pop().context("there is one")
    }

    /// The ledger's line about the end of the one run.
    pub async fn the_end(&self) -> anyhow::Result<Value> {
        let is_end = |line: &&Value| line["kind"] == "run_ended";
        let ledger = self.app.ledger_with(|lines| lines.iter().any(|line| is_end(&line))).await?;
        let ends: Vec<&Value> = ledger.iter().filter(is_end).collect();
        ensure!(ends.len() == 1, "{ends:#?}");
        Ok(ends[0].clone())
    }

    /// Waits until nothing is left of any run: no process, no directory.
    pub async fn wait_until_clean(&self) -> anyhow::Result<()> {
        self.app.wait_for_processes(<[i32]>::is_empty).await?;
        let left = || anyhow::Ok(std::fs::read_dir(self.app.data_dir().join("runs"))?.count());
        let cleaned = async {
            while left()? > 0 {
                poll_pause().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, cleaned).await.context("directories of runs are left")?
    }

    /// What holds after every test: the model was asked properly and for nothing else, nothing is left of any run,
    /// the key stayed secret, and the service stops in good order.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.wait_until_clean().await?;
        ensure!(self.model.violations().is_empty(), "{:#?}", self.model.violations());
        ensure!(self.model.other_requests().is_empty(), "{:?}", self.model.other_requests());
        let status = self.app.stop().await?;
        let log = self.app.log()?;
        ensure!(status.success(), "{status}; log:\n{log}");
        ensure!(!log.contains(API_KEY), "the key is in the log:\n{log}");
        Ok(())
    }
}

/// How a service differs from the usual one.
#[derive(Default)]
pub struct Kind {
    /// Nobody signed the agent in.
    pub signed_out: bool,
    /// The base URL of a provider other than the mock model.
    pub provider: Option<String>,
    /// Further lines of the agent's table.
    pub agent_lines: &'static str,
    /// Further variables of the service.
    pub env: &'static [(&'static str, &'static str)],
}

impl Kind {
    fn setup(&self, claude: &Path, model: &MockModel) -> Setup {
        let program = json!(claude.to_string_lossy());
        let provider = self.provider.clone().unwrap_or_else(|| model.base_url());
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge"))
            .config(format!("[agents.claude]\ncommand = {program}\n{}\n", self.agent_lines))
            .env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", provider.split("://").last().unwrap_or_default())
            .env("ANTHROPIC_BASE_URL", provider)
            .env("CLAWDFORGE_LOG", "debug")
            // For nobody but the service; agents look for it.
            .env("DATABASE_PASSWORD", "cf-canary-of-the-service-81c4");
        if !self.signed_out {
            setup = setup.env("ANTHROPIC_API_KEY", API_KEY);
        }
        if let Some(path) = agents::adapters_path().ok().flatten() {
            setup = setup.env("PATH", path);
        }
        self.env.iter().fold(setup, |setup, (name, value)| setup.env(name, *value))
    }
}
