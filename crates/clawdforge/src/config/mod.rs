//! Configuration: four layers, one table, every error at once.
//!
//! An option takes its value from the last layer that names it: default, file, environment, flag.
//! [`options`] declares each option once; everything else here reads that table. Reading order:
//! `options`, `kinds`, `raw`, then the layers `file` (with `agents`), `env` and `flags`, then
//! `resolve` and `assemble`, then what is printed: `show`, `reference`, `command`.
//!
//! Invariants:
//! - only this module reads the environment of the process, in one function;
//! - a secret is a `SecretString` from parsing on, and no row, error or `Debug` shows it;
//! - what goes on to agents ([`Environment`]) holds no variable of ours.

mod agents;
mod assemble;
mod command;
mod env;
mod file;
mod flags;
mod kinds;
mod options;
mod origin;
mod raw;
mod reference;
mod resolve;
mod show;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use clawdforge_core::agent::AgentName;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::network::{Endpoint, NetworkRule};
use clawdforge_core::secret::SecretString;
use clawdforge_core::session::DriverName;
use clawdforge_egress::Egress;
use clawdforge_engine::AgentHome;
use clawdforge_process::Confinement;
use clawdforge_server::AllowedHost;
use ipnet::IpNet;

pub use self::agents::{AgentEntry, Dialect};
pub use self::command::{config_command, run_config_command};
pub use self::env::{EnvMap, Environment, forget_environment};
pub use self::flags::{Flags, serve_args};
pub use self::kinds::{CgroupChoice, UserRange};
pub use self::origin::{ConfigErrors, Origin};
use self::resolve::Resolver;
pub use self::show::Row;
use crate::isolation;

/// The file that is read when none was named and none is in the working directory.
pub const SYSTEM_FILE: &str = "/etc/clawdforge/clawdforge.toml";

/// The configuration in force. Each field is described where its option is declared.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory of everything the service keeps; absolute.
    pub data_dir: PathBuf,
    /// Whether the demo agent is the default and has an app token ready.
    pub demo: bool,
    /// The operator's token, given directly or read from `admin_token_file`.
    pub admin_token: Option<SecretString>,
    /// The file the operator's token was read from; absolute.
    pub admin_token_file: Option<PathBuf>,
    /// Who may call, beside loopback.
    pub allow_cidrs: Vec<IpNet>,
    /// Proxies whose word about the caller's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Host names under which the service answers, beside those that no page on the web can have.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Wrong tokens that one address may send in a minute.
    pub sign_in_failures_max: usize,
    /// What a start is not refused for.
    pub start_despite: Vec<Risk>,
    /// The agent where a request names none. Whether it exists is for the registry of agents to say.
    pub default_agent: AgentName,
    /// The model where neither request nor agent names one.
    pub default_model: String,
    /// How often an agent may silently ask its provider again.
    pub agent_retries_max: usize,
    /// What keeps agents apart; `None` is the strongest that can be made.
    pub isolation_mode: Option<Isolation>,
    /// The weakest isolation to start with.
    pub isolation_require: Isolation,
    /// The users agents run as.
    pub isolation_users: Option<UserRange>,
    /// What every agent may read.
    pub isolation_read: Vec<PathBuf>,
    /// What every agent may write.
    pub isolation_write: Vec<PathBuf>,
    /// Whether root may go without isolation.
    pub isolation_off_as_root: bool,
    /// Where agents get control groups.
    pub isolation_cgroup: CgroupChoice,
    /// Memory of one agent's group, in bytes; three quarters of the machine's where nothing is said.
    pub agent_memory_max: Option<u64>,
    /// Which agents share a home.
    pub agent_home: AgentHome,
    /// What agents may reach whose own table does not say it.
    pub agent_network: NetworkRule,
    /// What they reach under every rule.
    pub agent_network_always: Vec<Endpoint>,
    /// Time limit of a run that asks for none; at most `timeout_max`.
    pub default_timeout: Duration,
    /// Longest time limit a run may ask for.
    pub timeout_max: Duration,
    /// Longest silence of a healthy agent.
    pub silence_max: Duration,
    /// Agents that may work at the same time.
    pub slots: usize,
    /// Runs that may wait for a slot, of all apps together.
    pub queue_max: usize,
    /// Runs of one app that may wait for a slot.
    pub queue_per_app_max: usize,
    /// Longest wait for a slot.
    pub queue_wait_max: Duration,
    /// Bytes that a workspace may take; 0 is no limit.
    pub workspace_bytes_max: u64,
    /// Bytes of the largest upload.
    pub upload_max_bytes: u64,
    /// How agents of sessions are spoken to where nothing else says it.
    pub session_driver: DriverName,
    /// How long the agent of an idle session is kept ready.
    pub session_warm: Duration,
    /// Whether an agent is started when a session is opened.
    pub session_warm_up: bool,
    /// Sessions of one app and agent that may share a process.
    pub sessions_per_process: usize,
    /// How long a session may see no turn before it is closed.
    pub session_ttl: Duration,
    /// How long a closed session is kept.
    pub session_hard_ttl: Duration,
    /// How long prompt and answer are kept.
    pub run_retention: Duration,
    /// How long ledger lines are kept; `None` is for ever.
    pub ledger_retention: Option<Duration>,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// How long running work may go on after the service was asked to stop.
    pub drain_deadline: Duration,
    /// Time between asking an agent to end and killing it.
    pub kill_grace: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged: a directive string that `tracing_subscriber::EnvFilter` has accepted.
    pub log_level: String,
    /// The agents described in the file, by name.
    pub agents: BTreeMap<AgentName, AgentEntry>,
    /// The environment that agents may get parts of.
    pub environment: Environment,
    /// What is the same for the sandboxes of all agents; nothing where isolation is off.
    pub confinement: Option<Arc<Confinement>>,
    /// The proxy of a running service, which is what makes rules about the network count.
    pub egress: Option<Egress>,
}

/// What the service refuses to start with, unless the operator says that it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// Listening beyond loopback with the admin token that a first start made.
    GeneratedAdminToken,
    /// Listening beyond loopback with an admin token that is easy to guess.
    WeakAdminToken,
    /// Data or tokens that others may read.
    ReadableData,
    /// A data directory in which locks keep nobody out.
    NoLocks,
}

impl Risk {
    /// All of them, by the words of `start_despite`.
    pub const ALL: [(&'static str, Self); 4] = [
        ("generated-admin-token", Self::GeneratedAdminToken),
        ("weak-admin-token", Self::WeakAdminToken),
        ("readable-data", Self::ReadableData),
        ("no-locks", Self::NoLocks),
    ];
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Everything the configuration is made from. No `Debug`: the environment holds secrets.
#[derive(Clone)]
pub struct Inputs {
    /// The environment.
    pub env: EnvMap,
    /// The working directory; absolute.
    pub cwd: PathBuf,
    /// The file that is read when no other is named or found; [`SYSTEM_FILE`] outside tests.
    pub system_file: PathBuf,
    /// The flags.
    pub flags: Flags,
}

impl Inputs {
    /// The inputs of this process, without flags.
    ///
    /// # Errors
    /// When the working directory is gone or out of reach.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self {
            env: env::of_process(),
            cwd: std::env::current_dir()?,
            system_file: PathBuf::from(SYSTEM_FILE),
            flags: Flags::default(),
        })
    }

    /// The same with the flags given to a command that was made with [`serve_args`].
    #[must_use]
    pub fn with_flags(self, matches: &ArgMatches) -> Self {
        Self { flags: Flags::of(matches), ..self }
    }
}

/// A configuration without errors.
#[derive(Debug)]
pub struct Loaded {
    /// What the service works with.
    pub config: Config,
    /// The same for showing, with origins: options in the table's order, then agents by name.
    pub rows: Vec<Row>,
    /// What works but rarely as meant: unknown variables, risky combinations.
    pub warnings: Vec<String>,
}

/// Reads all layers.
///
/// # Errors
/// When anything is wrong in any layer; everything that is wrong is in the error.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let file = file::read(inputs, &mut errors);
    let mut resolver = Resolver::new(inputs, &file, errors);
    let config = assemble::assemble(inputs, &file, &mut resolver);
    let Resolver { mut rows, errors, .. } = resolver;
    match config {
        Some(mut config) if errors.is_empty() => {
            config.confinement = isolation::confinement(&config);
            rows.extend(file.agents.rows);
            let mut warnings = env::warnings(&inputs.env);
            warnings.extend(assemble::risks(&config));
            Ok(Loaded { config, rows, warnings })
        }
        _ => Err(ConfigErrors::new(errors)),
    }
}
