//! The agents of the battery, and how an operator configures each of them for a model on loopback.

use std::path::Path;

use clawdforge_testkit::agents;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::mock_model::{MockModel, Reply};
use serde_json::json;

use crate::acpx::search_path;
use crate::bench::API_KEY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// The bundled one, which needs no model: prompts tell it what to do.
    Demo,
    /// Claude Code behind its adapter.
    Claude,
    /// Codex behind its adapter.
    Codex,
    /// Copilot, which speaks the protocol itself.
    Copilot,
}

impl Agent {
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Copilot => "copilot",
        }
    }

    /// The wish to run a command, as this agent's model has it; the demo agent has no model.
    pub fn runs(self, command: &str) -> Reply {
        match self {
            Self::Codex => Reply::tool_use("exec_command", json!({ "cmd": command })),
            Self::Copilot => Reply::tool_use("bash", json!({ "command": command, "description": "x" })),
            Self::Claude | Self::Demo => Reply::tool_use("Bash", json!({ "command": command, "description": "x" })),
        }
    }

    /// A service with this agent; `None` where a program it needs is not installed. The folder is for the agent's own
    /// configuration.
    pub fn setup(self, through_acpx: bool, model: &MockModel, folder: &Path) -> anyhow::Result<Option<Setup>> {
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge"));
        if self != Self::Demo || through_acpx {
            let Some(path) = search_path()? else { return Ok(None) };
            setup = setup.env("PATH", path);
        }
        if self == Self::Demo {
            return Ok(Some(setup.demo()));
        }
        let (Some(claude), Some((codex, copilot))) = (agents::claude()?, agents::codex_and_copilot()?) else {
            return Ok(None);
        };
        let url = model.base_url();
        let table = match self {
            Self::Demo | Self::Claude => format!("[agents.claude]\ncommand = {}\n", json!(claude)),
            Self::Codex => {
                // As an operator configures it for every home of it.
                std::fs::create_dir(folder.join(".codex"))?;
                std::fs::write(folder.join(".codex/config.toml"), codex_config(&url))?;
                let env = format!("{{ CODEX_PATH = {}, MOCK_KEY = \"{API_KEY}\", NO_BROWSER = \"1\" }}", json!(codex));
                format!("[agents.codex]\nhome_files = {}\nenv = {env}\n", json!(folder))
            }
            Self::Copilot => {
                let env = format!(
                    "{{ COPILOT_PROVIDER_BASE_URL = \"{url}/v1\", \
                     COPILOT_PROVIDER_API_KEY = \"{API_KEY}\", COPILOT_MODEL = \"mock-model\", COPILOT_OFFLINE = \"true\", \
                     COPILOT_AUTO_UPDATE = \"false\" }}"
                );
                format!("[agents.copilot]\ncommand = {}\nenv = {env}\n", json!(copilot))
            }
        };
        let setup = setup
            .config(table)
            .env("ANTHROPIC_BASE_URL", url)
            .env("ANTHROPIC_API_KEY", API_KEY)
            .env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", model.endpoint());
        Ok(Some(setup))
    }
}

/// With the features that ask hosts outside of this machine switched off.
fn codex_config(url: &str) -> String {
    format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\ncheck_for_update_on_startup = false\n\
         [model_providers.mock]\nname = \"mock\"\nbase_url = \"{url}/v1\"\nenv_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 1\nstream_max_retries = 1\n[analytics]\nenabled = false\n[features]\nplugins = false\n"
    )
}
