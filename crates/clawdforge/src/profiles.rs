//! From the configuration to the agents: which there are, and everything each of them gets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context;
use clawdforge_agent::SignIn;
use clawdforge_agent::environment;
use clawdforge_agent::oneshot::OneShotDriver;
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::version::Versions;
use clawdforge_core::agent::AgentName;
use clawdforge_core::secret::ExposeSecret;
use clawdforge_process::Spawner;

use crate::agents::catalogue;
use crate::cli::DEMO_AGENT;
use crate::config::{self, AgentEntry, Config};
use crate::network;

/// The agent every installation knows.
pub const CLAUDE: &str = "claude";

/// The bundled agent; there with `--demo`, or where the operator configures an agent of its dialect.
pub const DEMO: &str = "demo";

/// The command line in front of other agents that the first versions drove sessions with.
const ACPX: &str = "acpx";

/// Name of the file in the data directory that remembers the versions of programs.
const VERSIONS_FILE: &str = "agent-versions.json";

/// The agent of requests that name none.
///
/// # Errors
/// Never in practice: both names are fixed or already parsed.
pub fn default_agent(config: &Config) -> anyhow::Result<AgentName> {
    if config.demo { Ok(DEMO.parse()?) } else { Ok(config.default_agent.clone()) }
}

/// The model of requests that name none: the default agent's own, else the service's.
pub fn default_model(config: &Config) -> String {
    let own = default_agent(config).ok().and_then(|name| config.agents.get(&name)?.default_model.clone());
    own.unwrap_or_else(|| config.default_model.clone())
}

/// Every agent as configured, in the order of their names.
///
/// # Errors
/// When this program cannot tell where it is itself.
pub fn profiles(config: &Config) -> anyhow::Result<Vec<Profile>> {
    let mut names: BTreeMap<AgentName, Option<&AgentEntry>> = BTreeMap::from([(CLAUDE.parse()?, None)]);
    if config.demo {
        names.insert(DEMO.parse()?, None);
    }
    let of_runs = config.agents.iter().filter(|(_, entry)| entry.dialect != config::Dialect::Acp);
    names.extend(of_runs.map(|(name, entry)| (name.clone(), Some(entry))));
    names.into_iter().map(|(name, entry)| profile(config, name, entry)).collect()
}

/// The versions of programs, as they were when they were asked last.
pub fn versions(config: &Config) -> Arc<Versions> {
    Arc::new(Versions::load(config.data_dir.join(VERSIONS_FILE)))
}

/// A driver for every agent.
///
/// # Errors
/// As [`profiles`].
pub fn drivers(
    config: &Config,
    spawner: &Spawner,
    versions: &Arc<Versions>,
) -> anyhow::Result<Vec<Arc<OneShotDriver>>> {
    let driver = |profile: Profile| {
        let limits = config.agents.get(&profile.name).map(|entry| entry.limits).unwrap_or_default();
        Arc::new(OneShotDriver::new(profile, spawner.clone(), Arc::clone(versions)).limited(limits))
    };
    Ok(profiles(config)?.into_iter().map(driver).collect())
}

/// The `acpx` program, which `/healthz` tells of.
///
/// # Errors
/// As [`acpx_profile`].
pub fn acpx(config: &Config, spawner: &Spawner, versions: &Arc<Versions>) -> anyhow::Result<Arc<OneShotDriver>> {
    Ok(Arc::new(OneShotDriver::new(acpx_profile(config)?, spawner.clone(), Arc::clone(versions))))
}

/// The `acpx` program as it is asked for its version. What it does for a session it does with the
/// environment of the session's agent.
///
/// # Errors
/// Never in practice: its name is fixed.
pub fn acpx_profile(config: &Config) -> anyhow::Result<Profile> {
    Ok(Profile {
        name: ACPX.parse()?,
        // Nothing is said to it but `--version`.
        dialect: Dialect::Acp,
        program: ACPX.to_owned(),
        command: None,
        own_program: catalogue::own_program(&config.data_dir, ACPX),
        search_path: config.environment.get("PATH").map(OsString::from),
        args: Vec::new(),
        env: asked(environment_of(config, ACPX, None)),
        sign_in: SignIn::default(),
        home_files: None,
        trusts_workspace: false,
        retries_max: 0,
        install_hint: "run `clawdforge agents install acpx`, or put acpx on the PATH of the service".to_owned(),
        confinement: config.confinement.clone(),
        network: network::of(config, None),
    })
}

fn profile(config: &Config, name: AgentName, entry: Option<&AgentEntry>) -> anyhow::Result<Profile> {
    let dialect = match entry.map(|entry| entry.dialect) {
        Some(config::Dialect::Claude) => Dialect::Claude,
        Some(config::Dialect::Demo) => Dialect::Demo,
        None if name.as_str() == DEMO => Dialect::Demo,
        Some(config::Dialect::Acp) | None => Dialect::Claude,
    };
    let mut args = entry.map(|entry| entry.args.clone()).unwrap_or_default();
    let own_program = match dialect {
        Dialect::Demo => {
            args.insert(0, DEMO_AGENT.to_owned());
            Some(std::env::current_exe().context("this program cannot tell where it is")?)
        }
        Dialect::Claude | Dialect::Acp => catalogue::own_program(&config.data_dir, CLAUDE),
    };
    let command = entry.and_then(|entry| entry.command.as_ref());
    let mut env = environment_of(config, dialect.as_str(), entry);
    Ok(Profile {
        sign_in: sign_in_of(&mut env, entry),
        home_files: entry.and_then(|entry| entry.home_files.clone()),
        trusts_workspace: entry.is_some_and(|entry| entry.trust_workspace),
        env,
        install_hint: format!("run `clawdforge agents install {CLAUDE}`, or put claude on the PATH of the service"),
        program: dialect.as_str().to_owned(),
        dialect,
        command: command.map(|path| path.to_string_lossy().into_owned()),
        own_program,
        search_path: config.environment.get("PATH").map(OsString::from),
        args,
        retries_max: u32::try_from(config.agent_retries_max).unwrap_or(u32::MAX),
        confinement: config.confinement.clone(),
        network: network::of(config, entry),
        name,
    })
}

/// Takes what signs an agent in out of its environment.
pub fn sign_in_of(env: &mut BTreeMap<OsString, OsString>, entry: Option<&AgentEntry>) -> SignIn {
    SignIn::taken_from(env, entry.map(|entry| entry.sign_in.clone()).unwrap_or_default())
}

/// The environment of a program that is only asked something: without what signs anybody in.
fn asked(mut env: BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    let _not_its_own = SignIn::taken_from(&mut env, BTreeMap::new());
    env
}

/// The environment of an agent of a family, as its entry has it.
pub fn environment_of(config: &Config, family: &str, entry: Option<&AgentEntry>) -> BTreeMap<OsString, OsString> {
    let set: BTreeMap<String, String> = entry
        .map(|entry| entry.env.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect())
        .unwrap_or_default();
    let pass = entry.map(|entry| entry.pass_env.as_slice()).unwrap_or_default();
    environment::compose(config.environment.select(["*"]), environment::documented(family), pass, &set)
}
