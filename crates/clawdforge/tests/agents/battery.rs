//! The same stories with every real agent that speaks the Agent Client Protocol: Claude Code behind its adapter, Codex
//! behind its, and Copilot, each in front of the mock model.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clawdforge_testkit::agents;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::mock_model::{MockModel, Reply};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{API_KEY, Bench};

/// How one agent is reached, and what is its own about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agent {
    Claude,
    Codex,
    Copilot,
}

/// A service with one agent; the folder holds the agent's own configuration.
struct Stage {
    agent: Agent,
    bench: Bench,
    _folder: TempDir,
}

impl Agent {
    fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Copilot => "copilot",
        }
    }

    /// The wish to run a command, as this agent's model has it.
    fn runs(self, command: &str) -> Reply {
        match self {
            Self::Claude => Reply::tool_use("Bash", json!({ "command": command, "description": "x" })),
            Self::Codex => Reply::tool_use("exec_command", json!({ "cmd": command })),
            Self::Copilot => Reply::tool_use("bash", json!({ "command": command, "description": "x" })),
        }
    }

    fn table(self, folder: &Path, model: &MockModel, programs: &Programs) -> anyhow::Result<String> {
        let url = model.base_url();
        Ok(match self {
            Self::Claude => format!("[agents.claude]\ncommand = {}\n", json!(programs.claude)),
            Self::Codex => {
                std::fs::write(folder.join("config.toml"), codex_config(&url))?;
                let env = format!(
                    "{{ CODEX_HOME = {}, CODEX_PATH = {}, MOCK_KEY = \"{API_KEY}\", NO_BROWSER = \"1\" }}",
                    json!(folder),
                    json!(programs.codex)
                );
                format!("[agents.codex]\nenv = {env}\n")
            }
            Self::Copilot => {
                let env = format!(
                    "{{ COPILOT_HOME = {}, COPILOT_PROVIDER_BASE_URL = \"{url}/v1\", \
                     COPILOT_PROVIDER_API_KEY = \"{API_KEY}\", COPILOT_MODEL = \"mock-model\", COPILOT_OFFLINE = \"true\", \
                     COPILOT_AUTO_UPDATE = \"false\" }}",
                    json!(folder)
                );
                format!("[agents.copilot]\ncommand = {}\nenv = {env}\n", json!(programs.copilot))
            }
        })
    }
}

struct Programs {
    claude: String,
    codex: String,
    copilot: String,
}

/// With the features that ask hosts outside of this machine switched off.
fn codex_config(url: &str) -> String {
    format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\ncheck_for_update_on_startup = false\n\
         [model_providers.mock]\nname = \"mock\"\nbase_url = \"{url}/v1\"\nenv_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 1\nstream_max_retries = 1\n[analytics]\nenabled = false\n[features]\nplugins = false\n"
    )
}

impl Stage {
    async fn set(agent: Agent) -> anyhow::Result<Option<Self>> {
        let (Some(claude), Some((codex, copilot)), Some(path)) =
            (agents::claude()?, agents::codex_and_copilot()?, agents::adapters_path()?)
        else {
            return Ok(None);
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let programs = Programs { claude: text(&claude), codex: text(&codex), copilot: text(&copilot) };
        let folder = tempfile::Builder::new().prefix("cf-agent").tempdir()?;
        let model = MockModel::start().await?;
        let app = Setup::new(env!("CARGO_BIN_EXE_clawdforge"))
            .config(agent.table(folder.path(), &model, &programs)?)
            .env("ANTHROPIC_BASE_URL", model.base_url())
            .env("ANTHROPIC_API_KEY", API_KEY)
            .env("PATH", path)
            .start()
            .await?;
        let token = app.mint("app").await?;
        Ok(Some(Self { agent, bench: Bench { model, app, token }, _folder: folder }))
    }

    async fn turn(&self, session: &str, prompt: &str) -> anyhow::Result<Value> {
        self.bench.turned(session, json!({ "prompt": prompt })).await
    }

    /// What the newest request of a turn told the model.
    fn last_asked(&self) -> String {
        self.bench.model.turn_requests().last().map(|request| request.body["messages"].to_string()).unwrap_or_default()
    }

    async fn finish(self, session: &str) -> anyhow::Result<()> {
        self.bench.close(session).await?;
        ensure!(self.bench.app.agent_processes().is_empty(), "processes are left after the close");
        self.bench.finish().await
    }
}

fn said(reply: &Value) -> String {
    let events = reply["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter(|event| event["type"] == "text").filter_map(|event| event["content"].as_str()).collect()
}

/// Turns that share a memory, a command in the workspace, an attachment; what they used is told of each turn alone.
async fn talks(agent: Agent) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent).await? else { return Ok(()) };
    let (bench, session) = (&stage.bench, stage.bench.session(json!({ "agent": agent.name() })).await?);
    bench.model.reply_next(Reply::text("Hello, Ada."));
    let first = stage.turn(&session, "My name is Ada.").await?;
    assert_eq!((said(&first).as_str(), &first["context"]), ("Hello, Ada.", &json!("new")), "{first}");
    assert_eq!(first["stop_reason"], "end_turn");
    bench.model.reply_next(Reply::text("Ada."));
    let second = stage.turn(&session, "What is my name?").await?;
    assert_eq!((said(&second).as_str(), &second["context"]), ("Ada.", &json!("warm")), "{second}");
    assert!(stage.last_asked().contains("My name is Ada."), "the second request holds the first turn");
    let tokens = |reply: &Value| reply["usage"]["output_tokens"].as_u64();
    assert!(tokens(&first) >= tokens(&second) && tokens(&second) > Some(0), "of each turn alone: {first} {second}");

    bench.model.reply_next(stage.agent.runs("echo made > note.txt && pwd"));
    bench.model.reply_next(Reply::text("Done."));
    let third = stage.turn(&session, "Make a note.").await?;
    let calls: Vec<&Value> =
        third["events"].as_array().into_iter().flatten().filter(|e| e["type"] == "tool_call").collect();
    assert_eq!(calls.len(), 1, "{third}");
    assert!(calls[0]["args"].to_string().contains("note.txt"), "{third}");
    assert!(calls[0]["result"].to_string().contains("/sessions/ses_"), "the command ran in the workspace: {third}");
    assert_eq!(said(&third), "Done.");

    let file = bench.app.upload(&bench.token, "notes.txt", b"the word is plum".to_vec()).await?;
    bench.model.reply_next(Reply::text("Plum."));
    bench.turned(&session, json!({ "prompt": "What is the word?", "files": [file] })).await?;
    let asked = stage.last_asked();
    assert!(asked.contains("attachment-1.txt") || asked.contains("the word is plum"), "{asked}");
    stage.finish(&session).await
}

/// A turn that takes too long, an agent that dies between turns and in one, a service that is killed: each time the
/// conversation goes on with its memory, and nothing is left.
async fn survives(agent: Agent) -> anyhow::Result<()> {
    let Some(mut stage) = Stage::set(agent).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": agent.name() })).await?;
    stage.turn(&session, "The word is plum.").await?;

    stage.bench.model.reply_next(Reply::text("a very long answer ".repeat(400)).slow(Duration::from_millis(500)));
    let late = stage.bench.turn(&session, json!({ "prompt": "Take your time.", "timeout_secs": 5 })).await?;
    assert_eq!((late.status, &late.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("timed_out")), "{late:?}");
    assert_eq!(stage.turn(&session, "Go on.").await?["context"], "warm", "the agent let itself be stopped");

    stage.bench.kill_agent(&session).await?;
    let resumed = stage.turn(&session, "And on.").await?;
    assert_eq!(resumed["context"], "resumed", "{resumed}");
    assert!(stage.last_asked().contains("The word is plum."));

    stage.bench.model.reply_next(Reply::text("This will break off ".repeat(40)).slow(Duration::from_millis(500)));
    let asked = stage.bench.model.turn_requests().len() as u64;
    let dying = stage.bench.turn(&session, json!({ "prompt": "Do not finish." }));
    let killing = async {
        stage.bench.model.wait_for_requests(asked + 1, clawdforge_testkit::app::PATIENCE).await?;
        stage.bench.kill_agent(&session).await
    };
    let (died, killed) = tokio::join!(dying, killing);
    killed?;
    let died = died?;
    assert_eq!((died.status, &died.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("agent_crashed")), "{died:?}");
    assert_eq!(stage.turn(&session, "Once more.").await?["context"], "resumed");

    stage.bench.app.signal(Signal::KILL)?;
    stage.bench.app.ended().await?;
    stage.bench.app = stage.bench.app.restart().await?;
    assert_eq!(stage.bench.app.agent_processes(), Vec::<i32>::new(), "nothing of the dead service is left");
    assert_eq!(stage.turn(&session, "After all.").await?["context"], "resumed");
    assert!(stage.last_asked().contains("The word is plum."));
    stage.finish(&session).await
}

#[tokio::test]
async fn claude_talks() -> anyhow::Result<()> {
    talks(Agent::Claude).await
}

#[tokio::test]
async fn codex_talks() -> anyhow::Result<()> {
    talks(Agent::Codex).await
}

#[tokio::test]
async fn copilot_talks() -> anyhow::Result<()> {
    talks(Agent::Copilot).await
}

#[tokio::test]
async fn claude_survives() -> anyhow::Result<()> {
    survives(Agent::Claude).await
}

#[tokio::test]
async fn codex_survives() -> anyhow::Result<()> {
    survives(Agent::Codex).await
}

#[tokio::test]
async fn copilot_survives() -> anyhow::Result<()> {
    survives(Agent::Copilot).await
}

/// What becomes of a provider that refuses the key or fails. Claude's adapter tells both as errors, Codex' adapter the
/// first of them; what Codex and Copilot tell as the words of an answer, nothing sets apart from one.
async fn is_told_of_failures(agent: Agent, told: [(u16, Option<&str>); 2]) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": agent.name() })).await?;
    for (status, code) in told {
        let failing = move |_: &_| Reply::status(status);
        stage.bench.model.script(failing);
        let answer = stage.bench.turn(&session, json!({ "prompt": "Try.", "timeout_secs": 60 })).await?;
        let reply = answer.json();
        match code {
            Some(code) => {
                assert_eq!(
                    (answer.status, &reply["code"]),
                    (StatusCode::BAD_GATEWAY, &json!(code)),
                    "{status}: {reply}"
                );
            }
            None => {
                assert_eq!(
                    (answer.status, &reply["stop_reason"]),
                    (StatusCode::OK, &json!("end_turn")),
                    "{status}: {reply}"
                );
                let words = said(&reply);
                let tells = words.contains(&status.to_string()) || words.contains("invalid_request_error");
                assert!(tells, "the agent's own words: {reply}");
            }
        }
        stage.bench.model.script(Reply::echo);
        assert!(said(&stage.turn(&session, "Go on.").await?).contains("Go on."), "the session goes on after {status}");
    }
    stage.finish(&session).await
}

#[tokio::test]
async fn claude_is_told_of_failures() -> anyhow::Result<()> {
    is_told_of_failures(Agent::Claude, [(401, Some("agent_not_signed_in")), (500, Some("agent_provider_error"))]).await
}

#[tokio::test]
async fn codex_is_told_of_failures() -> anyhow::Result<()> {
    is_told_of_failures(Agent::Codex, [(401, Some("agent_not_signed_in")), (400, None)]).await
}

#[tokio::test]
async fn copilot_is_told_of_failures() -> anyhow::Result<()> {
    is_told_of_failures(Agent::Copilot, [(401, None), (400, None)]).await
}
