//! What the operator's commands say about the real Claude Code. No service runs, and no model is asked.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::Context;
use clawdforge_testkit::agents;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::mock_model::{MockModel, Reply};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::API_KEY;

/// A machine on which Claude Code is configured and no service runs.
struct Machine {
    home: TempDir,
    claude: PathBuf,
}

impl Machine {
    /// `None` where Claude Code is not installed.
    fn new() -> anyhow::Result<Option<Self>> {
        let Some(claude) = agents::claude()? else { return Ok(None) };
        let home = TempDir::new()?;
        let program = json!(claude.to_string_lossy());
        std::fs::write(home.path().join("clawdforge.toml"), format!("[agents.claude]\ncommand = {program}\n"))?;
        Ok(Some(Self { home, claude }))
    }

    async fn tell(&self, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawdforge"));
        command.args(args).arg("--config").arg("clawdforge.toml").current_dir(self.home.path());
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
        Ok(command.output().await?)
    }
}

/// The element of a list in the JSON on standard output that has this name.
fn named(output: &Output, list: &str, name: &str) -> Value {
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = json[list].as_array().into_iter().flatten().find(|element| element["name"] == name);
    found.cloned().unwrap_or_else(|| json!(format!("no {name} in {output:?}")))
}

#[tokio::test]
async fn agents_list_shows_the_claude_there_is() -> anyhow::Result<()> {
    let Some(machine) = Machine::new()? else { return Ok(()) };
    let output = machine.tell(&["agents", "list", "--json"], &[]).await?;
    assert!(output.status.success(), "{output:?}");
    let claude = named(&output, "agents", "claude");
    assert_eq!((&claude["present"], &claude["usable"]), (&json!(true), &json!(true)), "{claude}");
    assert_eq!(claude["path"].as_str().map(Path::new), Some(machine.claude.as_path()));
    let version = agents::claude_version(&machine.claude)?;
    assert!(claude["version"].as_str().is_some_and(|said| said.contains(&version)), "{claude}");
    Ok(())
}

#[tokio::test]
async fn the_doctor_knows_whether_claude_is_signed_in() -> anyhow::Result<()> {
    let Some(machine) = Machine::new()? else { return Ok(()) };
    let output = machine.tell(&["doctor", "--json"], &[]).await?;
    assert!(!output.status.success(), "{output:?}");
    let check = named(&output, "checks", "agent claude");
    assert_eq!(check["verdict"], "fail", "{check}");
    assert!(check["todo"].as_str().is_some_and(|todo| todo.contains("ANTHROPIC_API_KEY")), "{check}");

    let output = machine.tell(&["doctor", "--json"], &[("ANTHROPIC_API_KEY", API_KEY)]).await?;
    let check = named(&output, "checks", "agent claude");
    assert_eq!(check["verdict"], "ok", "{check}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(API_KEY), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn what_agents_install_put_below_the_data_directory_answers_without_any_configuration() -> anyhow::Result<()> {
    let Some(claude) = agents::claude()? else { return Ok(()) };
    let home = TempDir::new()?;
    let data_dir = home.path().join("data");
    let installed = data_dir.join("agents").join("claude");
    std::fs::create_dir_all(&installed)?;
    std::fs::set_permissions(&data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let packages = claude.ancestors().nth(3).context("the program lies in a package of a scope")?;
    std::os::unix::fs::symlink(packages, installed.join("node_modules"))?;
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("{\"installed\": true}"));
    let setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge")).data_dir(&data_dir);
    let setup = setup.env("ANTHROPIC_API_KEY", API_KEY).env("ANTHROPIC_BASE_URL", model.base_url());
    let setup = setup.env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", model.endpoint());
    let mut app = setup.start().await?;
    let operator = std::fs::read_to_string(data_dir.join("admin-token"))?;
    let minted = app.call(Method::POST, "/admin/tokens", operator.trim(), json!({ "name": "app" })).await?.json();
    let token = minted["token"].as_str().context("a token")?;
    let answer = app.run(token, json!({ "prompt": "Are you there?" })).await?;
    assert_eq!(answer.json()["result"], json!({ "installed": true }), "{answer:?}; log:\n{}", app.log()?);
    assert_eq!(model.violations(), Vec::<String>::new());
    assert!(app.stop().await?.success());
    Ok(())
}
