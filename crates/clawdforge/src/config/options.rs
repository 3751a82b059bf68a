//! The table of options: each is declared here, once.
//!
//! The parser, `--help`, the example file, the reference page and `config show` all come from these
//! declarations. A new option is a constant here, a place in [`OPTIONS`] and a field of
//! [`Config`](super::Config).

mod cgroups;
mod disk;
mod isolation;
mod network;

use clawdforge_core::session::DriverName;
use clawdforge_engine::AgentHome;

pub use cgroups::{AGENT_MEMORY_MAX, ISOLATION_CGROUP};
pub use disk::{UPLOAD_MAX_BYTES, WORKSPACE_BYTES_MAX};
pub use isolation::{
    ISOLATION_MODE, ISOLATION_OFF_AS_ROOT, ISOLATION_READ, ISOLATION_REQUIRE, ISOLATION_USERS, ISOLATION_WRITE,
};
pub use network::{AGENT_NETWORK, AGENT_NETWORK_ALWAYS};

use super::kinds::{
    Address, Agent, Choice, Choices, Cidrs, Count, FilePath, Hosts, Kind, LogFilter, Maybe, Model, OrForEver, Secret,
    Span, Switch, Unit,
};
use super::{LogFormat, Risk};

/// One option: what is declared about it, and how its values are read.
pub struct Opt<K> {
    /// What is declared about it.
    pub spec: Spec,
    /// How its values are read and shown.
    pub kind: K,
}

/// What is declared about an option besides its kind.
pub struct Spec {
    /// Its name in the file and in `config show`. The flag is the same with dashes.
    pub key: &'static str,
    /// The part of the documentation it stands in.
    pub group: Group,
    /// Its environment variable, then older names that mean the same.
    pub env: &'static [&'static str],
    /// The default, as it would be written in the environment; empty means none.
    pub default: &'static str,
    /// Where it may be set.
    pub reach: Reach,
    /// The version that brought it.
    pub since: &'static str,
    /// One sentence: what it does.
    pub help: &'static str,
}

impl Spec {
    /// The flag without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
}

/// Where an option may be set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the file, in the environment and by a flag.
    Everywhere,
    /// In the environment only: flags show in the process list and files end in repositories.
    EnvironmentOnly,
}

/// Parts of the documentation, in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Address and data.
    Service,
    /// Who may call.
    Access,
    /// What agents do by default.
    Agents,
    /// What agents are kept from.
    Isolation,
    /// How much at once and for how long.
    Limits,
    /// Sessions.
    Sessions,
    /// What is kept.
    Retention,
    /// How the service ends.
    Stopping,
    /// What it says meanwhile.
    Logging,
}

impl Group {
    /// All groups, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Service,
        Self::Access,
        Self::Agents,
        Self::Isolation,
        Self::Limits,
        Self::Sessions,
        Self::Retention,
        Self::Stopping,
        Self::Logging,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Access => "Access",
            Self::Agents => "Agents",
            Self::Isolation => "Isolation",
            Self::Limits => "Limits",
            Self::Sessions => "Sessions",
            Self::Retention => "Retention",
            Self::Stopping => "Stopping",
            Self::Logging => "Logging",
        }
    }
}

/// An option without the type of its value, for everything that only describes it.
pub trait AnyOption: Sync {
    /// What is declared about it.
    fn spec(&self) -> &Spec;
    /// What a right value is.
    fn expected(&self) -> String;
    /// The word for the value in `--help`.
    fn placeholder(&self) -> &'static str;
    /// Whether the bare flag means `true`.
    fn is_switch(&self) -> bool;
    /// The default as the file writes it; `None` without a default.
    fn toml_default(&self) -> Option<String>;
}

impl<K: Kind> AnyOption for Opt<K> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn expected(&self) -> String {
        self.kind.expected()
    }

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn is_switch(&self) -> bool {
        self.kind.is_switch()
    }

    fn toml_default(&self) -> Option<String> {
        self.kind.toml(self.spec.default)
    }
}

/// Every option, in the order of the documentation.
pub static OPTIONS: &[&dyn AnyOption] = &[
    &LISTEN,
    &DATA_DIR,
    &DEMO,
    &ADMIN_TOKEN,
    &ADMIN_TOKEN_FILE,
    &ALLOW_CIDRS,
    &TRUSTED_PROXIES,
    &ALLOWED_HOSTS,
    &SIGN_IN_FAILURES_MAX,
    &START_DESPITE,
    &DEFAULT_AGENT,
    &DEFAULT_MODEL,
    &AGENT_RETRIES_MAX,
    &ISOLATION_MODE,
    &ISOLATION_REQUIRE,
    &ISOLATION_USERS,
    &ISOLATION_READ,
    &ISOLATION_WRITE,
    &ISOLATION_OFF_AS_ROOT,
    &ISOLATION_CGROUP,
    &AGENT_MEMORY_MAX,
    &AGENT_HOME,
    &AGENT_NETWORK,
    &AGENT_NETWORK_ALWAYS,
    &DEFAULT_TIMEOUT_SECS,
    &TIMEOUT_MAX_SECS,
    &SILENCE_MAX_SECS,
    &SLOTS,
    &QUEUE_MAX,
    &QUEUE_PER_APP_MAX,
    &QUEUE_WAIT_MAX_SECS,
    &UPLOAD_MAX_BYTES,
    &WORKSPACE_BYTES_MAX,
    &SESSION_DRIVER,
    &SESSION_WARM_SECS,
    &SESSION_WARM_UP,
    &SESSIONS_PER_PROCESS,
    &SESSION_TTL_SECS,
    &SESSION_HARD_TTL_SECS,
    &RUN_RETENTION_SECS,
    &LEDGER_RETENTION_SECS,
    &SWEEP_INTERVAL_SECS,
    &DRAIN_DEADLINE_SECS,
    &KILL_GRACE_MS,
    &LOG_FORMAT,
    &LOG_LEVEL,
];

/// The option of a key.
pub fn find(key: &str) -> Option<&'static dyn AnyOption> {
    OPTIONS.iter().copied().find(|option| option.spec().key == key)
}

const V0_1: &str = "0.1.0";
const V0_2: &str = "0.2.0";
const DAY_SECS: u32 = 86_400;
const TEN_YEARS_SECS: u32 = 3_650 * DAY_SECS;
const TIB: u64 = 1 << 40;

const fn spec(
    group: Group,
    key: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    help: &'static str,
) -> Spec {
    Spec { key, group, env, default, reach: Reach::Everywhere, since: V0_1, help }
}

const fn since_0_2(
    group: Group,
    key: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    help: &'static str,
) -> Spec {
    Spec { since: V0_2, ..spec(group, key, env, default, help) }
}

const fn secs(min: u32, max: u32) -> Span {
    Span { unit: Unit::Secs, min, max }
}

pub static LISTEN: Opt<Address> = Opt {
    spec: spec(
        Group::Service,
        "listen",
        &["CLAWDFORGE_LISTEN"],
        "127.0.0.1:8800",
        "The address and port the service listens on; port 0 takes a free one.",
    ),
    kind: Address,
};

pub static DATA_DIR: Opt<FilePath> = Opt {
    spec: spec(
        Group::Service,
        "data_dir",
        &["CLAWDFORGE_DATA_DIR"],
        "./data",
        "The directory of everything the service keeps: its database, uploads, workspaces and installed agents.",
    ),
    kind: FilePath,
};

pub static DEMO: Opt<Switch> = Opt {
    spec: spec(
        Group::Service,
        "demo",
        &["CLAWDFORGE_DEMO"],
        "false",
        "Offers the bundled demo agent as the default and makes an app token for it at start: for trying, not for use.",
    ),
    kind: Switch,
};

pub static ADMIN_TOKEN: Opt<Maybe<Secret>> = Opt {
    spec: Spec {
        reach: Reach::EnvironmentOnly,
        ..spec(
            Group::Access,
            "admin_token",
            &["CLAWDFORGE_ADMIN_TOKEN"],
            "",
            "The operator's token; without it and without `admin_token_file` the first start makes one and keeps it in the data directory.",
        )
    },
    kind: Maybe(Secret),
};

pub static ADMIN_TOKEN_FILE: Opt<Maybe<FilePath>> = Opt {
    spec: spec(
        Group::Access,
        "admin_token_file",
        &["CLAWDFORGE_ADMIN_TOKEN_FILE"],
        "",
        "A file that holds the operator's token, such as a mounted secret.",
    ),
    kind: Maybe(FilePath),
};

pub static ALLOW_CIDRS: Opt<Cidrs> = Opt {
    spec: spec(
        Group::Access,
        "allow_cidrs",
        &["ALLOW_CIDRS", "CLAWDFORGE_ALLOW_CIDRS"],
        "",
        "The addresses that may call the service, such as `10.0.0.0/8,192.168.1.20`, beside loopback, which always may.",
    ),
    kind: Cidrs,
};

pub static TRUSTED_PROXIES: Opt<Cidrs> = Opt {
    spec: spec(
        Group::Access,
        "trusted_proxies",
        &["CLAWDFORGE_TRUSTED_PROXIES"],
        "",
        "The proxies whose word about the caller's address is believed; from anybody else such headers are ignored.",
    ),
    kind: Cidrs,
};

pub static ALLOWED_HOSTS: Opt<Hosts> = Opt {
    spec: since_0_2(
        Group::Access,
        "allowed_hosts",
        &["CLAWDFORGE_ALLOWED_HOSTS"],
        "",
        "The host names with a dot under which the service answers, such as that of a reverse proxy; addresses, names without a dot and those below `.localhost` and `.internal` need no entry, because no page on the web can have them.",
    ),
    kind: Hosts,
};

pub static SIGN_IN_FAILURES_MAX: Opt<Count> = Opt {
    spec: since_0_2(
        Group::Access,
        "sign_in_failures_max",
        &["CLAWDFORGE_SIGN_IN_FAILURES_MAX"],
        "20",
        "How many wrong tokens an address (of IPv6, a network of 64 bits) may send in a minute; further ones are answered with 429, and an admin token that was not generated is not looked at from there until the minute is over.",
    ),
    kind: Count { min: 1, max: 1_000_000 },
};

pub static START_DESPITE: Opt<Choices<Risk>> = Opt {
    spec: since_0_2(
        Group::Access,
        "start_despite",
        &["CLAWDFORGE_START_DESPITE"],
        "",
        "What the service otherwise refuses to start with: an admin token that a first start made (`generated-admin-token`) or that is easy to guess (`weak-admin-token`) while it listens beyond loopback, data or tokens that others may read (`readable-data`), a data directory without working locks (`no-locks`).",
    ),
    kind: Choices(&Risk::ALL),
};

pub static DEFAULT_AGENT: Opt<Agent> = Opt {
    spec: spec(
        Group::Agents,
        "default_agent",
        &["CLAWDFORGE_DEFAULT_AGENT"],
        "claude",
        "The agent that works where a request names none.",
    ),
    kind: Agent,
};

pub static DEFAULT_MODEL: Opt<Model> = Opt {
    spec: spec(
        Group::Agents,
        "default_model",
        &["CLAWDFORGE_DEFAULT_MODEL"],
        "sonnet",
        "The model where neither the request nor the agent's own table names one.",
    ),
    kind: Model,
};

pub static AGENT_RETRIES_MAX: Opt<Count> = Opt {
    spec: spec(
        Group::Agents,
        "agent_retries_max",
        &["CLAWDFORGE_AGENT_RETRIES_MAX"],
        "2",
        "How often an agent may silently ask its provider again; the agent's own default of ten takes three minutes.",
    ),
    kind: Count { min: 0, max: 10 },
};

pub static AGENT_HOME: Opt<Choice<AgentHome>> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "agent_home",
        &["CLAWDFORGE_AGENT_HOME"],
        "app",
        "Which agents share a home, with settings, sign-ins, transcripts and caches: `app` (those of one name and one app), `session` (none: each session and each run has a home of its own, erased with it), or `shared` (all of all apps, in the HOME of the service).",
    ),
    kind: Choice(&[("app", AgentHome::App), ("session", AgentHome::Session), ("shared", AgentHome::Shared)]),
};

pub static DEFAULT_TIMEOUT_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Limits,
        "default_timeout_secs",
        &["CLAWDFORGE_DEFAULT_TIMEOUT_SECS"],
        "120",
        "How long a run may take where the request says nothing; at most `timeout_max_secs`.",
    ),
    kind: secs(5, DAY_SECS),
};

pub static TIMEOUT_MAX_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Limits,
        "timeout_max_secs",
        &["CLAWDFORGE_TIMEOUT_MAX_SECS"],
        "3600",
        "The longest time a request may ask for.",
    ),
    kind: secs(5, DAY_SECS),
};

pub static SILENCE_MAX_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Limits,
        "silence_max_secs",
        &["CLAWDFORGE_SILENCE_MAX_SECS"],
        "660",
        "How long an agent may say nothing before it is taken for stuck; the longest silence of a healthy one is a shell command of ten minutes.",
    ),
    kind: secs(1, DAY_SECS),
};

pub static SLOTS: Opt<Count> = Opt {
    spec: spec(Group::Limits, "slots", &["CLAWDFORGE_SLOTS"], "8", "How many agents may work at the same time."),
    kind: Count { min: 1, max: 1_024 },
};

pub static QUEUE_MAX: Opt<Count> = Opt {
    spec: spec(
        Group::Limits,
        "queue_max",
        &["CLAWDFORGE_QUEUE_MAX"],
        "256",
        "How many runs of all apps together may wait for a slot; further ones are answered with 503.",
    ),
    kind: Count { min: 0, max: 100_000 },
};

pub static QUEUE_PER_APP_MAX: Opt<Count> = Opt {
    spec: spec(
        Group::Limits,
        "queue_per_app_max",
        &["CLAWDFORGE_QUEUE_PER_APP_MAX"],
        "64",
        "How many runs of one app may wait for a slot, so that one app cannot fill the queue.",
    ),
    kind: Count { min: 0, max: 100_000 },
};

pub static QUEUE_WAIT_MAX_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Limits,
        "queue_wait_max_secs",
        &["CLAWDFORGE_QUEUE_WAIT_MAX_SECS"],
        "120",
        "How long a run may wait for a slot before it is given up.",
    ),
    kind: secs(1, DAY_SECS),
};

pub static SESSION_DRIVER: Opt<Choice<DriverName>> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "session_driver",
        &["CLAWDFORGE_SESSION_DRIVER"],
        "acp",
        "How agents of sessions are spoken to where neither the request nor the agent's own table says it: `acp`, by the service itself, or `acpx`, by that program, which is slower.",
    ),
    kind: Choice(&DriverName::ALL),
};

pub static SESSION_WARM_SECS: Opt<Span> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "session_warm_secs",
        &["CLAWDFORGE_SESSION_WARM_SECS"],
        "300",
        "How long the agent of an idle session is kept ready; then its process ends, and the next turn takes the conversation up again.",
    ),
    kind: secs(0, DAY_SECS),
};

pub static SESSION_WARM_UP: Opt<Switch> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "session_warm_up",
        &["CLAWDFORGE_SESSION_WARM_UP"],
        "true",
        "Starts the agent of a session when the session is opened, where a slot is free, so that the first turn finds it ready.",
    ),
    kind: Switch,
};

pub static SESSIONS_PER_PROCESS: Opt<Count> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "sessions_per_process",
        &["CLAWDFORGE_SESSIONS_PER_PROCESS"],
        "1",
        "How many sessions of one app and agent may share an agent's process. More than 1 saves memory with some agents; a process that must be ended then ends the turns of all its sessions. Only with `isolation_mode = \"off\"`: a process in a sandbox reaches the workspace of one session.",
    ),
    kind: Count { min: 1, max: 64 },
};

pub static SESSION_TTL_SECS: Opt<Span> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "session_ttl_secs",
        &["CLAWDFORGE_SESSION_TTL_SECS"],
        "3600",
        "How long a session may see no turn before it is closed.",
    ),
    kind: secs(1, TEN_YEARS_SECS),
};

pub static SESSION_HARD_TTL_SECS: Opt<Span> = Opt {
    spec: since_0_2(
        Group::Sessions,
        "session_hard_ttl_secs",
        &["CLAWDFORGE_SESSION_HARD_TTL_SECS"],
        "86400",
        "How long a closed session is kept before it is erased with its turns, events and workspace.",
    ),
    kind: secs(1, TEN_YEARS_SECS),
};

pub static RUN_RETENTION_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Retention,
        "run_retention_secs",
        &["CLAWDFORGE_RUN_RETENTION_SECS"],
        "604800",
        "How long prompt and answer of a run are kept after its end.",
    ),
    kind: secs(60, TEN_YEARS_SECS),
};

pub static LEDGER_RETENTION_SECS: Opt<OrForEver> = Opt {
    spec: spec(
        Group::Retention,
        "ledger_retention_secs",
        &["CLAWDFORGE_LEDGER_RETENTION_SECS"],
        "0",
        "How long ledger lines, which hold nothing an agent said, are kept; 0 is for ever.",
    ),
    kind: OrForEver(secs(60, TEN_YEARS_SECS)),
};

pub static SWEEP_INTERVAL_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Retention,
        "sweep_interval_secs",
        &["CLAWDFORGE_SWEEP_INTERVAL_SECS"],
        "60",
        "How often expired files and runs are looked for and erased.",
    ),
    kind: secs(1, 3_600),
};

pub static DRAIN_DEADLINE_SECS: Opt<Span> = Opt {
    spec: spec(
        Group::Stopping,
        "drain_deadline_secs",
        &["CLAWDFORGE_DRAIN_DEADLINE_SECS"],
        "30",
        "How long running work may go on after the service was asked to stop.",
    ),
    kind: secs(0, 3_600),
};

pub static KILL_GRACE_MS: Opt<Span> = Opt {
    spec: spec(
        Group::Stopping,
        "kill_grace_ms",
        &["CLAWDFORGE_KILL_GRACE_MS"],
        "2000",
        "How long an agent has between being asked to end and being killed.",
    ),
    kind: Span { unit: Unit::Millis, min: 0, max: 60_000 },
};

pub static LOG_FORMAT: Opt<Choice<LogFormat>> = Opt {
    spec: spec(
        Group::Logging,
        "log_format",
        &["CLAWDFORGE_LOG_FORMAT"],
        "auto",
        "How log lines look: `human`, `json`, or `auto`, which is `human` on a terminal and `json` elsewhere.",
    ),
    kind: Choice(&[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)]),
};

pub static LOG_LEVEL: Opt<LogFilter> = Opt {
    spec: spec(
        Group::Logging,
        "log_level",
        &["CLAWDFORGE_LOG"],
        "info",
        "What is logged: a level, or directives per module, such as `info,clawdforge_engine=debug`.",
    ),
    kind: LogFilter,
};
