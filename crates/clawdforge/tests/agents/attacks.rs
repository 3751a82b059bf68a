//! The attack suite by the shell of the real Claude Code, which its model tells to attack: all that a shell can try, behind
//! the service's own driver and behind acpx.

use anyhow::Context as _;
use clawdforge_core::isolation::Isolation;
use clawdforge_testkit::agents;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::attack::{Ground, Report, Shell, run_in};
use clawdforge_testkit::mock_model::{MockModel, Reply};
use rustix::process::geteuid;
use serde_json::json;

use crate::acpx::search_path;
use crate::bench::API_KEY;

fn runs(command: &str) -> Reply {
    Reply::tool_use("Bash", json!({ "command": command, "description": "x" }))
}

/// What came of it; `None` where the agents are not installed, or this machine does not offer the level.
async fn attacked(driver: &'static str, ground: Ground) -> anyhow::Result<Option<Report>> {
    let (Some(claude), Some(path)) = (agents::claude()?, search_path()?) else { return Ok(None) };
    let model = MockModel::start().await?;
    let setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge"))
        .config(format!("[agents.claude]\ncommand = {}\n", json!(claude)))
        .env("ANTHROPIC_BASE_URL", model.base_url())
        .env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", model.endpoint())
        .env("ANTHROPIC_API_KEY", API_KEY)
        .env("PATH", path);
    run_in(Shell::of("claude", driver, runs, model), setup, ground).await.context(driver)
}

/// What its level promises, and nothing else, came of all of them.
async fn holds(driver: &'static str, level: Isolation) -> anyhow::Result<()> {
    let Some(report) = attacked(driver, Ground::here(level)).await? else { return Ok(()) };
    assert_eq!(report.wrong(), Vec::<&str>::new(), "\n{report}");
    Ok(())
}

#[tokio::test]
async fn what_the_strongest_level_promises_holds_against_the_shell_of_claude() -> anyhow::Result<()> {
    holds("acp", Isolation::Namespaces).await
}

/// acpx has no namespaces, and starts slowly: at the one level that is the strongest of those it can have.
#[tokio::test]
async fn what_is_promised_behind_acpx_holds_against_the_shell_of_claude() -> anyhow::Result<()> {
    holds("acpx", if geteuid().is_root() { Isolation::Uid } else { Isolation::Landlock }).await
}
