//! The same stories with every real agent that speaks the Agent Client Protocol: Claude Code behind its adapter, Codex
//! behind its, and Copilot, each in front of the mock model.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clawdforge_testkit::agents;
use clawdforge_testkit::app::{PATIENCE, Setup};
use clawdforge_testkit::mock_model::{MockModel, Reply};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{API_KEY, Bench};

/// How one agent is reached, and what is its own about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    Claude,
    Codex,
    Copilot,
}

/// A service with one agent; the folder holds the agent's own configuration.
pub struct Stage {
    agent: Agent,
    pub bench: Bench,
    _folder: TempDir,
}

impl Agent {
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Copilot => "copilot",
        }
    }

    /// The wish to run a command, as this agent's model has it.
    pub fn runs(self, command: &str) -> Reply {
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
                // As an operator configures it for every home of it.
                std::fs::create_dir(folder.join(".codex"))?;
                std::fs::write(folder.join(".codex/config.toml"), codex_config(&url))?;
                let env = format!(
                    "{{ CODEX_PATH = {}, MOCK_KEY = \"{API_KEY}\", NO_BROWSER = \"1\" }}",
                    json!(programs.codex)
                );
                format!("[agents.codex]\nhome_files = {}\nenv = {env}\n", json!(folder))
            }
            Self::Copilot => {
                let env = format!(
                    "{{ COPILOT_PROVIDER_BASE_URL = \"{url}/v1\", \
                     COPILOT_PROVIDER_API_KEY = \"{API_KEY}\", COPILOT_MODEL = \"mock-model\", COPILOT_OFFLINE = \"true\", \
                     COPILOT_AUTO_UPDATE = \"false\" }}"
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
    pub async fn set(agent: Agent) -> anyhow::Result<Option<Self>> {
        Self::set_with(agent, &[]).await
    }

    /// The same with further options of the service.
    async fn set_with(agent: Agent, options: &[&str]) -> anyhow::Result<Option<Self>> {
        let (Some(claude), Some((codex, copilot)), Some(path)) =
            (agents::claude()?, agents::codex_and_copilot()?, agents::adapters_path()?)
        else {
            return Ok(None);
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let programs = Programs { claude: text(&claude), codex: text(&codex), copilot: text(&copilot) };
        let folder = tempfile::Builder::new().prefix("cf-agent").tempdir()?;
        let model = MockModel::start().await?;
        let setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge"))
            .config(agent.table(folder.path(), &model, &programs)?)
            .env("ANTHROPIC_BASE_URL", model.base_url())
            .env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", model.endpoint())
            .env("ANTHROPIC_API_KEY", API_KEY)
            .env("PATH", path);
        let app = options.iter().fold(setup, |setup, option| setup.arg(*option)).start().await?;
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
        stage.bench.model.wait_for_requests(asked + 1, PATIENCE).await?;
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

/// A provider that refuses the key or fails is told as a failure with its code, in whatever words the agent has for it; none
/// of them stands in the events, and the session goes on.
async fn is_told_of_failures(agent: Agent, told: &[(u16, &str)]) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent).await? else { return Ok(()) };
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

/// What Copilot and its model say after a tool was used costs tokens, so the driver cannot tell a failure there from an
/// answer. It is told in the agent's words.
#[tokio::test]
async fn a_failure_of_copilot_behind_a_tool_is_an_answer() -> anyhow::Result<()> {
    let Some(stage) = Stage::set(Agent::Copilot).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": "copilot" })).await?;
    stage.bench.model.reply_next(stage.agent.runs("pwd"));
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
    let Some(stage) = Stage::set_with(Agent::Codex, &off).await? else { return Ok(()) };
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

/// The program behind an adapter dies in a turn and the adapter lives: the turn fails in words for a caller, and the next goes
/// on with its memory, in the same adapter where that starts the program again.
async fn goes_on_without_its_program(agent: Agent, next: &str) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent).await? else { return Ok(()) };
    let session = stage.bench.session(json!({ "agent": agent.name() })).await?;
    stage.turn(&session, "The word is plum.").await?;
    stage.bench.model.reply_next(Reply::text("This will break off ".repeat(40)).slow(Duration::from_millis(500)));
    let asked = stage.bench.model.turn_requests().len() as u64;
    let killing = async {
        stage.bench.model.wait_for_requests(asked + 1, PATIENCE).await?;
        ensure!(stage.bench.kill_children()? > 0, "the adapter has no program");
        Ok(())
    };
    let (failed, ()) = tokio::try_join!(stage.bench.turn(&session, json!({ "prompt": "Do not finish." })), killing)?;
    let body = failed.json();
    assert_eq!((failed.status, &body["code"]), (StatusCode::BAD_GATEWAY, &json!("agent_crashed")), "{body}");
    let words = body["error"].as_str().unwrap_or_default();
    assert!(!words.is_empty() && !words.contains(char::is_control), "{words:?}");
    let reply = stage.turn(&session, "Go on.").await?;
    assert_eq!(reply["context"], next, "{reply}");
    assert!(stage.last_asked().contains("The word is plum."));
    stage.finish(&session).await
}

#[tokio::test]
async fn claude_goes_on_without_its_program() -> anyhow::Result<()> {
    goes_on_without_its_program(Agent::Claude, "resumed").await
}

#[tokio::test]
async fn codex_goes_on_without_its_program() -> anyhow::Result<()> {
    goes_on_without_its_program(Agent::Codex, "warm").await
}
