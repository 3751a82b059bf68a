//! The agents of sessions: which there are, and how each of them is started.
//!
//! Agents are data. What is not in the table is an entry of the configuration with the dialect `acp`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clawdforge_agent::locate::locate;
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::{
    AcpDriver, AcpxDriver, AgentDriver, AgentLimits, Choices, SessionAgent, SessionAgents, Versions,
};
use clawdforge_core::agent::AgentName;
use clawdforge_core::session::DriverName;
use clawdforge_process::Spawner;
use serde_json::{Map, Value, json};

use crate::agents::catalogue;
use crate::cli::DEMO_AGENT;
use crate::config::{self, AgentEntry, Config};
use crate::network;
use crate::profiles::{self, CLAUDE, DEMO};

/// An agent that speaks the Agent Client Protocol, by itself or through an adapter.
struct Known {
    name: &'static str,
    /// Its program on a search path.
    command: &'static str,
    /// What makes it speak the protocol.
    args: &'static [&'static str],
    /// Which of the programs of which installation of ours it is.
    own: Option<(&'static str, usize)>,
    /// How to get it, an imperative without a full stop.
    install: &'static str,
    /// The mode in which it works unattended and leaves the questions to us.
    mode: Option<&'static str>,
    /// The agent's own variable for its mode, which wins where the operator sets it.
    mode_variable: Option<&'static str>,
    /// The variable by which it is told where its own program is, and which of the same installation that is.
    program_variable: Option<(&'static str, usize)>,
}

/// Claude Code, behind its adapter. Also the agent of every entry of the dialect `claude`.
const CLAUDE_ACP: Known = Known {
    name: CLAUDE,
    command: "claude-agent-acp",
    args: &[],
    own: Some(("claude-acp", 0)),
    install: "run `clawdforge agents install claude-acp`, or put claude-agent-acp on the PATH of the service",
    mode: Some(CLAUDE_MODE),
    mode_variable: None,
    program_variable: None,
};

/// Every other agent that is known out of the box.
const KNOWN: [Known; 5] = [
    Known {
        name: "codex",
        command: "codex-acp",
        args: &[],
        own: Some(("codex", 1)),
        install: "run `clawdforge agents install codex`, or put codex-acp on the PATH of the service",
        mode: Some(CODEX_MODE),
        mode_variable: Some("INITIAL_AGENT_MODE"),
        program_variable: Some(("CODEX_PATH", 0)),
    },
    Known {
        name: "copilot",
        command: "copilot",
        args: &["--acp"],
        own: Some(("copilot", 0)),
        install: "run `clawdforge agents install copilot`, or put copilot on the PATH of the service",
        mode: None,
        mode_variable: None,
        program_variable: None,
    },
    Known {
        name: "gemini",
        command: "gemini",
        args: &["--acp"],
        own: None,
        install: "put gemini (npm package @google/gemini-cli) on the PATH of the service",
        mode: None,
        mode_variable: None,
        program_variable: None,
    },
    Known {
        name: "opencode",
        command: "opencode",
        args: &["acp"],
        own: None,
        install: "put opencode (npm package opencode-ai) on the PATH of the service",
        mode: None,
        mode_variable: None,
        program_variable: None,
    },
    Known {
        name: "goose",
        command: "goose",
        args: &["acp"],
        own: None,
        install: "put goose on the PATH of the service",
        mode: None,
        mode_variable: None,
        program_variable: None,
    },
];

/// The mode in which Claude's adapter asks before it acts. Its own default lets commands pass unasked by a
/// rule of its own, and the mode without questions is not there for root; asked, the service says yes.
const CLAUDE_MODE: &str = "default";

/// The mode in which Codex stays in its own sandbox and asks before it leaves it; asked, the service says yes. Its default lets a
/// second model decide (0.166, 2026-11-25).
const CODEX_MODE: &str = "workspace-write";

/// The mode in which Codex has no sandbox of its own, for when it is in ours. Its own needs bubblewrap and a user namespace,
/// which none in ours may make: every command ended with "error building bubblewrap command: Permission denied"
/// (0.166, 2026-11-25), and the model was told so instead of anybody being asked.
const CODEX_MODE_CONFINED: &str = "agent-full-access";

fn mode_of(config: &Config, known: &Known) -> Option<&'static str> {
    match known.mode {
        Some(CODEX_MODE) if config.confinement.is_some() => Some(CODEX_MODE_CONFINED),
        mode => mode,
    }
}

/// Whether an agent of this name speaks the protocol unless its entry says otherwise.
pub fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// Every agent of sessions with its drivers, and the default of the service.
///
/// # Errors
/// When this program cannot tell where it is itself; where the default agent has no sessions.
pub fn agents(config: &Config, spawner: &Spawner, versions: &Arc<Versions>) -> anyhow::Result<SessionAgents> {
    let acpx = profiles::acpx_profile(config)?;
    let agents = all(config)?.into_iter().map(|Agent { profile, choices, limits, driver }| {
        let name = profile.name.clone();
        let natively = AcpDriver::new(profile.clone(), choices.clone(), spawner.clone()).limited(limits);
        let (acpx, versions, warm_max) = (acpx.clone(), Arc::clone(versions), config.session_warm);
        let through_acpx = AcpxDriver::new(profile, choices, acpx, versions, spawner.clone(), warm_max).limited(limits);
        let drivers: [(DriverName, Arc<dyn AgentDriver>); 2] =
            [(DriverName::Acp, Arc::new(natively)), (DriverName::Acpx, Arc::new(through_acpx))];
        (name, SessionAgent::new(driver, drivers))
    });
    Ok(SessionAgents::new(profiles::default_agent(config)?, agents)?)
}

/// An agent of sessions, as configured.
pub struct Agent {
    /// How it is started, whichever driver does it.
    pub profile: Profile,
    /// What is chosen for all its sessions.
    pub choices: Choices,
    /// What it is allowed.
    pub limits: AgentLimits,
    /// How it is spoken to unless a session says otherwise.
    pub driver: DriverName,
}

/// Every agent of sessions, in the order of their names.
///
/// # Errors
/// When this program cannot tell where it is itself.
pub fn all(config: &Config) -> anyhow::Result<Vec<Agent>> {
    let mut names: Vec<AgentName> = vec![CLAUDE.parse()?];
    for known in &KNOWN {
        names.push(known.name.parse()?);
    }
    if config.demo {
        names.push(DEMO.parse()?);
    }
    names.extend(config.agents.keys().cloned());
    names.sort();
    names.dedup();
    let agent = |name: AgentName| {
        let entry = config.agents.get(&name);
        let is_claude = is_claude(&name, entry);
        let is_demo = is_demo(&name, entry);
        let (profile, mode) = profile(config, name, entry)?;
        let choices = Choices {
            mode,
            session_meta: (is_claude && !profile.trusts_workspace).then(narrowed),
            default_model: entry.and_then(|entry| entry.default_model.clone()),
            model_option: entry.and_then(|entry| entry.model_option.clone()),
            takes_system_prompt: entry.and_then(|entry| entry.takes_system_prompt).unwrap_or(is_claude || is_demo),
        };
        Ok(Agent {
            profile,
            choices,
            limits: entry.map(|entry| entry.limits).unwrap_or_default(),
            driver: entry.and_then(|entry| entry.session_driver).unwrap_or(config.session_driver),
        })
    };
    names.into_iter().map(agent).collect()
}

/// How an agent is started, whichever driver does it, and the mode it works in.
fn profile(config: &Config, name: AgentName, entry: Option<&AgentEntry>) -> anyhow::Result<(Profile, Option<String>)> {
    let is_demo = is_demo(&name, entry);
    let own_words = entry.filter(|entry| entry.dialect == config::Dialect::Acp);
    Ok(if is_demo {
        (demo(config, name, entry)?, None)
    } else if let Some(known) = KNOWN.iter().find(|known| known.name == name.as_str()) {
        let profile = speaking(config, name, entry, known);
        let mode = known.mode_variable.and_then(|variable| profile.env.get(OsStr::new(variable))?.to_str());
        let mode = mode.or(mode_of(config, known)).map(str::to_owned);
        (profile, mode)
    } else if let Some(entry) = own_words {
        (foreign(config, name, entry), None)
    } else {
        (claude(config, name, entry)?, CLAUDE_ACP.mode.map(str::to_owned))
    })
}

/// Whether an agent is the bundled one.
fn is_demo(name: &AgentName, entry: Option<&AgentEntry>) -> bool {
    match entry {
        Some(entry) => entry.dialect == config::Dialect::Demo,
        None => name.as_str() == DEMO,
    }
}

/// Whether Claude Code's adapter speaks for an agent.
fn is_claude(name: &AgentName, entry: Option<&AgentEntry>) -> bool {
    match entry {
        Some(entry) => entry.dialect == config::Dialect::Claude && !is_known(name.as_str()),
        None => name.as_str() == CLAUDE,
    }
}

/// What Claude's adapter is told, so that only the home's settings count: it would have hooks, permissions and tool servers
/// that lie in a workspace, by default.
fn narrowed() -> Map<String, Value> {
    let told = json!({"claudeCode": {"options": {"settingSources": ["user"]}}});
    told.as_object().cloned().unwrap_or_default()
}

fn demo(config: &Config, name: AgentName, entry: Option<&AgentEntry>) -> anyhow::Result<Profile> {
    let own = std::env::current_exe().context("this program cannot tell where it is")?;
    let args = vec![DEMO_AGENT.to_owned(), "--acp".to_owned()];
    let profile = base(config, name, entry, DEMO);
    Ok(Profile { own_program: Some(own), args, ..profile })
}

fn speaking(config: &Config, name: AgentName, entry: Option<&AgentEntry>, known: &Known) -> Profile {
    let entry = entry.filter(|entry| entry.dialect == config::Dialect::Acp);
    let own_args = entry.map(|entry| entry.args.clone()).filter(|args| !args.is_empty());
    let mut base = base(config, name, entry, known.name);
    if let Some((variable, place)) = known.program_variable
        && let Some((installation, _)) = known.own
        && let Some(program) = catalogue::programs(&config.data_dir, installation).into_iter().nth(place)
        && program.is_file()
    {
        base.env.entry(OsString::from(variable)).or_insert(program.into_os_string());
    }
    Profile {
        program: known.command.to_owned(),
        command: entry.and_then(command_of),
        own_program: own(config, known),
        args: own_args.unwrap_or_else(|| known.args.iter().map(|arg| (*arg).to_owned()).collect()),
        install_hint: known.install.to_owned(),
        ..base
    }
}

fn foreign(config: &Config, name: AgentName, entry: &AgentEntry) -> Profile {
    let hint =
        format!("set `command` of the agent {name} in the configuration, or put {name} on the PATH of the service");
    Profile {
        program: name.to_string(),
        command: command_of(entry),
        args: entry.args.clone(),
        install_hint: hint,
        ..base(config, name, Some(entry), "")
    }
}

/// Claude Code behind its adapter; `command` of the entry is Claude Code itself, as for runs.
fn claude(config: &Config, name: AgentName, entry: Option<&AgentEntry>) -> anyhow::Result<Profile> {
    let mut profile = Profile {
        program: CLAUDE_ACP.command.to_owned(),
        own_program: own(config, &CLAUDE_ACP),
        install_hint: CLAUDE_ACP.install.to_owned(),
        ..base(config, name.clone(), entry, CLAUDE)
    };
    let of_runs = profiles::profiles(config)?.into_iter().find(|run| run.name == name);
    let found = of_runs.and_then(|run| locate(&run).ok()).map(|found| found.path);
    let bundled = || catalogue::programs(&config.data_dir, "claude-acp").into_iter().nth(1);
    let retries = profile.retries_max.to_string();
    let mut put = |name: &str, value: OsString| {
        profile.env.entry(OsString::from(name)).or_insert(value);
    };
    if let Some(executable) = found.or_else(bundled) {
        put("CLAUDE_CODE_EXECUTABLE", executable.into_os_string());
    }
    // Ten retries by default: a failing API would be reported after three minutes.
    put("CLAUDE_CODE_MAX_RETRIES", retries.into());
    put("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into());
    put("DISABLE_AUTOUPDATER", "1".into());
    // Would leave a folder in the operator's home for every workspace there ever was.
    put("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1".into());
    // Would ask the model for the next prompt after every turn, with the whole conversation.
    put("CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION", "false".into());
    // Not for anybody to switch off: a prompt that says `@/path` would have that file of the host read and
    // sent to the model with no permission asked.
    profile.env.insert("CLAUDE_CODE_DISABLE_FILE_MENTIONS".into(), "1".into());
    Ok(profile)
}

fn base(config: &Config, name: AgentName, entry: Option<&AgentEntry>, family: &str) -> Profile {
    let mut env = profiles::environment_of(config, family, entry);
    Profile {
        sign_in: profiles::sign_in_of(&mut env, entry),
        home_files: entry.and_then(|entry| entry.home_files.clone()),
        trusts_workspace: entry.is_some_and(|entry| entry.trust_workspace),
        dialect: Dialect::Acp,
        program: String::new(),
        command: None,
        own_program: None,
        search_path: config.environment.get("PATH").map(OsString::from),
        args: Vec::new(),
        env,
        retries_max: u32::try_from(config.agent_retries_max).unwrap_or(u32::MAX),
        install_hint: String::new(),
        confinement: config.confinement.clone(),
        network: network::of(config, entry),
        name,
    }
}

fn command_of(entry: &AgentEntry) -> Option<String> {
    entry.command.as_ref().map(|path| path.to_string_lossy().into_owned())
}

fn own(config: &Config, known: &Known) -> Option<PathBuf> {
    let (installation, place) = known.own?;
    catalogue::programs(&config.data_dir, installation).into_iter().nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Inputs, load};

    fn mode_of(agent: &str, toml: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clawdforge.toml"), toml).unwrap();
        let inputs = Inputs {
            env: [].into(),
            cwd: dir.path().to_owned(),
            system_file: dir.path().join("none"),
            flags: Flags::default(),
        };
        let config = load(&inputs).unwrap().config;
        let agents = all(&config).unwrap();
        agents.into_iter().find(|known| known.profile.name.as_str() == agent).unwrap().choices.mode
    }

    #[test]
    fn codex_relies_on_our_sandbox_or_else_on_its_own_unless_the_operator_sets_its_mode() {
        assert_eq!(mode_of("codex", "").as_deref(), Some("agent-full-access"));
        let own = "[agents.codex]\nenv = { INITIAL_AGENT_MODE = \"read-only\" }\n";
        for isolation in ["", "isolation_mode = \"off\"\n"] {
            assert_eq!(mode_of("codex", &format!("{isolation}{own}")).as_deref(), Some("read-only"));
            assert_eq!(mode_of("copilot", &format!("{isolation}{own}")), None);
            assert_eq!(mode_of("claude", &format!("{isolation}{own}")).as_deref(), Some("default"));
        }
        assert_eq!(mode_of("codex", "isolation_mode = \"off\"\n").as_deref(), Some("workspace-write"));
    }
}
