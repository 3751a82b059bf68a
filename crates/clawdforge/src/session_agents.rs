//! The agents of sessions: which there are, and how each of them is started.
//!
//! Agents are data. What is not in the table is an entry of the configuration with the dialect `acp`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clawdforge_agent::locate::locate;
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::{AcpDriver, AgentDriver, Agents};
use clawdforge_core::agent::AgentName;
use clawdforge_process::Spawner;

use crate::agents::catalogue;
use crate::cli::DEMO_AGENT;
use crate::config::{self, AgentEntry, Config};
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
}

/// Claude Code, behind its adapter. Also the agent of every entry of the dialect `claude`.
const CLAUDE_ACP: Known = Known {
    name: CLAUDE,
    command: "claude-agent-acp",
    args: &[],
    own: Some(("claude-acp", 0)),
    install: "run `clawdforge agents install claude-acp`, or put claude-agent-acp on the PATH of the service",
};

/// Every other agent that is known out of the box.
const KNOWN: [Known; 5] = [
    Known {
        name: "codex",
        command: "codex-acp",
        args: &[],
        own: Some(("codex", 1)),
        install: "run `clawdforge agents install codex`, or put codex-acp on the PATH of the service",
    },
    Known {
        name: "copilot",
        command: "copilot",
        args: &["--acp"],
        own: Some(("copilot", 0)),
        install: "run `clawdforge agents install copilot`, or put copilot on the PATH of the service",
    },
    Known {
        name: "gemini",
        command: "gemini",
        args: &["--acp"],
        own: None,
        install: "put gemini (npm package @google/gemini-cli) on the PATH of the service",
    },
    Known {
        name: "opencode",
        command: "opencode",
        args: &["acp"],
        own: None,
        install: "put opencode (npm package opencode-ai) on the PATH of the service",
    },
    Known {
        name: "goose",
        command: "goose",
        args: &["acp"],
        own: None,
        install: "put goose on the PATH of the service",
    },
];

/// The mode in which Claude's adapter asks before it acts. Its own default lets commands pass unasked by a
/// rule of its own, and the mode without questions is not there for root; asked, the service says yes.
const CLAUDE_MODE: &str = "default";

/// Whether an agent of this name speaks the protocol unless its entry says otherwise.
pub fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// A driver for every agent of sessions, in the order of their names.
///
/// # Errors
/// When this program cannot tell where it is itself.
pub fn drivers(config: &Config, spawner: &Spawner) -> anyhow::Result<Vec<Arc<AcpDriver>>> {
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
    names.into_iter().map(|name| driver(config, name, spawner)).collect()
}

/// Those drivers, by name, with the default of the service.
///
/// # Errors
/// Where the default agent has no sessions.
pub fn agents(config: &Config, drivers: &[Arc<AcpDriver>]) -> anyhow::Result<Agents> {
    let dynamic = drivers.iter().map(|driver| Arc::clone(driver) as Arc<dyn AgentDriver>);
    Ok(Agents::new(profiles::default_agent(config)?, dynamic)?)
}

fn driver(config: &Config, name: AgentName, spawner: &Spawner) -> anyhow::Result<Arc<AcpDriver>> {
    let entry = config.agents.get(&name);
    let is_demo = match entry {
        Some(entry) => entry.dialect == config::Dialect::Demo,
        None => name.as_str() == DEMO,
    };
    let own_words = entry.filter(|entry| entry.dialect == config::Dialect::Acp);
    let (profile, mode) = if is_demo {
        (demo(config, name, entry)?, None)
    } else if let Some(known) = KNOWN.iter().find(|known| known.name == name.as_str()) {
        (speaking(config, name, entry, known), None)
    } else if let Some(entry) = own_words {
        (foreign(config, name, entry), None)
    } else {
        (claude(config, name, entry)?, Some(CLAUDE_MODE.to_owned()))
    };
    Ok(Arc::new(AcpDriver::new(profile, mode, spawner.clone())))
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
    Profile {
        program: known.command.to_owned(),
        command: entry.and_then(command_of),
        own_program: own(config, known),
        args: own_args.unwrap_or_else(|| known.args.iter().map(|arg| (*arg).to_owned()).collect()),
        install_hint: known.install.to_owned(),
        ..base(config, name, entry, known.name)
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
    Profile {
        dialect: Dialect::Acp,
        program: String::new(),
        command: None,
        own_program: None,
        search_path: config.environment.get("PATH").map(OsString::from),
        args: Vec::new(),
        env: profiles::environment_of(config, family, entry),
        retries_max: u32::try_from(config.agent_retries_max).unwrap_or(u32::MAX),
        install_hint: String::new(),
        confinement: config.confinement.clone(),
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
