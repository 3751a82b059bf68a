//! The `[agents.<name>]` tables: agents as the operator configured them.
//!
//! Only the file can hold them. Values under `env` are secrets from parsing on, because that is
//! where operators put the keys of their providers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clawdforge_agent::{AgentLimits, sign_in};
use clawdforge_core::agent::AgentName;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::network::{Endpoint, NetworkRule};
use clawdforge_core::secret::SecretString;
use clawdforge_core::session::DriverName;
use serde_json::json;
use toml::de::{DeTable, DeValue};

use super::file::Page;
use super::kinds::{
    Choice, Endpoints, EnvNames, FilePath, Kind, Model, Network, Program, REDACTED, Span, Switch, Unit, Words,
    is_env_name,
};
use super::origin::ConfigError;
use super::raw::Raw;
use super::show::Row;
use super::suggest;
use crate::session_agents;

/// The key under which the tables stand.
pub const TABLE: &str = "agents";

/// An agent as the operator configured it.
#[derive(Debug, Clone)]
pub struct AgentEntry {
    /// The program: an absolute path, or a bare name to look for; `None` leaves it to the dialect.
    pub command: Option<PathBuf>,
    /// Arguments before those of the dialect.
    pub args: Vec<String>,
    /// Variables it gets.
    pub env: BTreeMap<String, SecretString>,
    /// Variables of the service's environment it gets too: names, or beginnings with a `*` behind;
    /// for [`Environment::select`](super::Environment::select).
    pub pass_env: Vec<String>,
    /// Files that hold what signs it in, by the variable that gets the value.
    pub sign_in: BTreeMap<String, PathBuf>,
    /// A folder whose files are laid into each of its homes.
    pub home_files: Option<PathBuf>,
    /// Whether it may obey the settings that it finds in a workspace.
    pub trust_workspace: bool,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// The model where a request names none.
    pub default_model: Option<String>,
    /// The id of the option by which an agent of sessions takes its model.
    pub model_option: Option<String>,
    /// Whether its sessions can be given text for its system prompt; `None` leaves it to what is known of it.
    pub takes_system_prompt: Option<bool>,
    /// What it is allowed.
    pub limits: AgentLimits,
    /// How its sessions are spoken to; `None` leaves it to the service.
    pub session_driver: Option<DriverName>,
    /// What it may reach; `None` leaves it to the service.
    pub network: Option<NetworkRule>,
    /// What it reaches under every rule; `None` leaves it to the service.
    pub network_always: Option<Vec<Endpoint>>,
}

/// How an agent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The command line of Claude Code.
    Claude,
    /// The bundled demo agent's.
    Demo,
    /// The Agent Client Protocol; for sessions only.
    Acp,
}

const DIALECT: Choice<Dialect> = Choice(&[("claude", Dialect::Claude), ("demo", Dialect::Demo), ("acp", Dialect::Acp)]);

const SILENCE: Span = Span { unit: Unit::Secs, min: 1, max: DAY_SECS };

/// As short as a request may ask for.
const TURN: Span = Span { unit: Unit::Secs, min: 5, max: DAY_SECS };

const DAY_SECS: u32 = 24 * 60 * 60;

/// A key of an agent's table, for messages and the reference page.
pub struct AgentKey {
    /// The key.
    pub key: &'static str,
    /// A value as the file writes it.
    pub example: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Every key of an agent's table.
pub const AGENT_KEYS: [AgentKey; 17] = [
    AgentKey {
        key: "dialect",
        example: "\"claude\"",
        help: "How the agent is spoken to: `claude`, `demo`, or `acp` (the Agent Client Protocol, for sessions only); may be left out where the agent is named like its dialect, or is one of codex, copilot, gemini, opencode and goose.",
    },
    AgentKey {
        key: "command",
        example: "\"/opt/claude/bin/claude\"",
        help: "The program: a name to look for, or a path; a relative path with a `/` in it starts from this file.",
    },
    AgentKey {
        key: "args",
        example: "[\"--verbose\"]",
        help: "Arguments put before those of the dialect; `config show` prints them, so no place for secrets.",
    },
    AgentKey {
        key: "env",
        example: "{ ANTHROPIC_BASE_URL = \"http://127.0.0.1:9000\" }",
        help: "Variables the agent gets; values are treated as secrets.",
    },
    AgentKey {
        key: "pass_env",
        example: "[\"ANTHROPIC_*\"]",
        help: "Variables of the service's own environment that the agent gets too; a `*` at the end stands for any rest. Variables of the service itself are never passed.",
    },
    AgentKey {
        key: "sign_in",
        example: "{ CLAUDE_CODE_OAUTH_TOKEN = \"/etc/clawdforge/claude-token\" }",
        help: "What signs the agent in: variables, each with the file that holds its value. A file must be closed to everybody but the service's user (mode 0600); it is read at each start of the agent.",
    },
    AgentKey {
        key: "home_files",
        example: "\"/etc/clawdforge/claude-home\"",
        help: "A folder whose files (settings, tool servers, skills) are laid into each home of the agent, at the same places, as read-only copies that are renewed at each start of the agent.",
    },
    AgentKey {
        key: "trust_workspace",
        example: "true",
        help: "Whether Claude Code obeys settings, hooks and tool servers that lie in a workspace, where an upload, an earlier turn or a page may have put them; `false` unless set. Other agents decide that themselves.",
    },
    AgentKey { key: "default_model", example: "\"opus\"", help: "The model where a request names none." },
    AgentKey {
        key: "model_option",
        example: "\"model\"",
        help: "The id of the option by which an agent of sessions takes its model; found by its category unless set.",
    },
    AgentKey {
        key: "takes_system_prompt",
        example: "true",
        help: "Whether sessions can be given text for its system prompt (`system`): it is told in `_meta.systemPrompt` of `session/new`, `session/load` and `session/resume`, as Claude Code's adapter takes it. Unless set, `true` for Claude Code and the demo agent, `false` for every other, whose sessions are refused it.",
    },
    AgentKey {
        key: "silence_max_secs",
        example: "900",
        help: "Longest time without a sign of life, instead of the service's `silence_max_secs`.",
    },
    AgentKey {
        key: "timeout_max_secs",
        example: "600",
        help: "Longest time of one run or turn, whatever the request allows.",
    },
    AgentKey {
        key: "session_driver",
        example: "\"acp\"",
        help: "How its sessions are spoken to where a request does not say it: `acp` or `acpx`.",
    },
    AgentKey {
        key: "isolation_require",
        example: "\"uid\"",
        help: "The weakest isolation to run this agent at: `landlock`, `uid` or `namespaces`; runs and sessions that would have less are refused.",
    },
    AgentKey {
        key: "network",
        example: "[\"api.anthropic.com:443\", \"*.npmjs.org:443\"]",
        help: "What it may reach, instead of the service's `agent_network`: `open`, `none`, `unfiltered`, or a list of hosts with ports.",
    },
    AgentKey {
        key: "network_always",
        example: "[\"127.0.0.1:9000\"]",
        help: "What it reaches under every rule, instead of the service's `agent_network_always`: its model's endpoint.",
    },
];

/// The configured agents and what `config show` says of them.
#[derive(Default)]
pub struct Agents {
    /// By name.
    pub entries: BTreeMap<AgentName, AgentEntry>,
    /// One row for each key that is set.
    pub rows: Vec<Row>,
}

/// Reads all tables and reports everything that is wrong in them.
pub fn read(tables: &DeTable<'_>, page: &Page<'_>, errors: &mut Vec<ConfigError>) -> Agents {
    let mut agents = Agents::default();
    for (key, value) in tables {
        let at = key.span();
        let name = match key.get_ref().parse::<AgentName>() {
            Ok(name) => name,
            Err(error) => {
                errors.push(page.error(&at, format!("`{}`: {error}", key.get_ref())));
                continue;
            }
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                let mut reader = Reader { name: &name, table, page, rows: &mut agents.rows, errors };
                if let Some(entry) = reader.entry(&at) {
                    agents.entries.insert(name, entry);
                }
            }
            _ => errors.push(page.error(&at, format!("`agents.{name}` must be a table"))),
        }
    }
    agents
}

struct Reader<'a> {
    name: &'a AgentName,
    table: &'a DeTable<'a>,
    page: &'a Page<'a>,
    rows: &'a mut Vec<Row>,
    errors: &'a mut Vec<ConfigError>,
}

impl Reader<'_> {
    /// The whole table; `None` where something in it was reported.
    fn entry(&mut self, at: &std::ops::Range<usize>) -> Option<AgentEntry> {
        let errors_before = self.errors.len();
        self.report_unknown_keys();
        let dialect = self.value("dialect", &DIALECT);
        let command = self.value("command", &Program);
        let args = self.value("args", &Words).unwrap_or_default();
        let env = self.env();
        let sign_in = self.sign_in(&env);
        let home_files = self.value("home_files", &FilePath);
        let trust_workspace = self.value("trust_workspace", &Switch).unwrap_or_default();
        let pass_env = self.value("pass_env", &EnvNames).unwrap_or_default();
        let default_model = self.value("default_model", &Model);
        let model_option = self.value("model_option", &Model);
        let takes_system_prompt = self.value("takes_system_prompt", &Switch);
        let limits = AgentLimits {
            silence_max: self.value("silence_max_secs", &SILENCE),
            turn_max: self.value("timeout_max_secs", &TURN),
            isolation_min: self.value("isolation_require", &Choice(&Isolation::WORDS)),
        };
        let session_driver = self.value("session_driver", &Choice(&DriverName::ALL));
        let network = self.value("network", &Network);
        let network_always = self.value("network_always", &Endpoints);
        if self.errors.len() > errors_before {
            return None;
        }
        let Some(dialect) = dialect.or_else(|| self.dialect_by_name()) else {
            let message = format!("`agents.{}` needs a `dialect`: {}", self.name, DIALECT.expected());
            self.errors.push(self.page.error(at, message));
            return None;
        };
        Some(AgentEntry {
            command,
            args,
            env,
            pass_env,
            sign_in,
            home_files,
            trust_workspace,
            dialect,
            default_model,
            model_option,
            takes_system_prompt,
            limits,
            session_driver,
            network,
            network_always,
        })
    }

    fn dialect_by_name(&self) -> Option<Dialect> {
        if session_agents::is_known(self.name.as_str()) {
            return Some(Dialect::Acp);
        }
        DIALECT.read(&Raw::Plain(self.name.to_string()), self.page.dir).ok()
    }

    fn report_unknown_keys(&mut self) {
        let known = || AGENT_KEYS.iter().map(|known| known.key);
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known().any(|known| known == name) {
                let hint = suggest::did_you_mean(name, known());
                let message = format!("unknown key `agents.{}.{name}`{hint}", self.name);
                self.errors.push(self.page.error(&key.span(), message));
            }
        }
    }

    /// The value of a key, if it is there and right; its row is written, or the error.
    fn value<K: Kind>(&mut self, key: &str, kind: &K) -> Option<K::Value> {
        let (at, value) = self.table.iter().find(|(each, _)| each.get_ref() == key)?;
        let origin = self.page.origin(&at.span());
        let key = format!("agents.{}.{key}", self.name);
        match kind.read(&Raw::of(value.get_ref()), self.page.dir) {
            Ok(value) => {
                self.rows.push(Row { key, value: kind.human(&value), json: kind.json(&value), origin });
                Some(value)
            }
            Err(message) => {
                self.errors.push(ConfigError { origin, message: format!("`{key}` {message}") });
                None
            }
        }
    }

    fn env(&mut self) -> BTreeMap<String, SecretString> {
        let mut env = BTreeMap::new();
        let Some((at, value)) = self.table.iter().find(|(each, _)| each.get_ref() == "env") else { return env };
        let key = format!("agents.{}.env", self.name);
        let DeValue::Table(variables) = value.get_ref() else {
            self.errors.push(self.page.error(&at.span(), format!("`{key}` must be a table of strings")));
            return env;
        };
        for (variable, value) in variables {
            let name: &str = variable.get_ref();
            let at = variable.span();
            match value.get_ref() {
                _ if !is_env_name(name) => {
                    self.errors.push(self.page.error(&at, format!("`{key}`: `{name}` cannot name a variable")));
                }
                DeValue::String(text) if !text.contains('\0') => {
                    let key = format!("{key}.{name}");
                    let origin = self.page.origin(&at);
                    self.rows.push(Row { key, value: REDACTED.to_owned(), json: json!(REDACTED), origin });
                    env.insert(name.to_owned(), SecretString::from(text.as_ref()));
                }
                _ => self.errors.push(self.page.error(&at, format!("`{key}.{name}` must be a string"))),
            }
        }
        env
    }

    /// Each file is looked at now, so that a mistake is told at the start and not by the first request.
    fn sign_in(&mut self, env: &BTreeMap<String, SecretString>) -> BTreeMap<String, PathBuf> {
        let mut files = BTreeMap::new();
        let Some((at, value)) = self.table.iter().find(|(each, _)| each.get_ref() == "sign_in") else { return files };
        let key = format!("agents.{}.sign_in", self.name);
        let DeValue::Table(variables) = value.get_ref() else {
            let message = format!("`{key}` must be a table of variables, each with the path of a file");
            self.errors.push(self.page.error(&at.span(), message));
            return files;
        };
        for (variable, value) in variables {
            let name: &str = variable.get_ref();
            let at = variable.span();
            let wrong = match FilePath.read(&Raw::of(value.get_ref()), self.page.dir) {
                _ if !is_env_name(name) => format!("`{key}`: `{name}` cannot name a variable"),
                _ if env.contains_key(name) => format!("`{key}.{name}` is given by `env` as well; keep one of them"),
                // Not repeated: whoever mistakes this for the place of the value writes a secret here.
                Err(_no_path) => format!("`{key}.{name}` must be the path of a file that holds the value"),
                Ok(path) => match sign_in::read(&path) {
                    Ok(_) => {
                        let (key, text) = (format!("{key}.{name}"), path.display().to_string());
                        let origin = self.page.origin(&at);
                        self.rows.push(Row { key, value: text.clone(), json: json!(text), origin });
                        files.insert(name.to_owned(), path);
                        continue;
                    }
                    Err(error) => format!("`{key}.{name}`: {error}"),
                },
            };
            self.errors.push(self.page.error(&at, wrong));
        }
        files
    }
}
