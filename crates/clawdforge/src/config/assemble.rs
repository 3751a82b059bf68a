//! Putting the typed configuration together, and judging what only shows when values meet.

use std::time::Duration;

use clawdforge_core::secret::{ExposeSecret, SecretString};

use super::env::Environment;
use super::file::{self, FileLayer};
use super::kinds::{Kind, REDACTED, Secret};
use super::origin::{ConfigError, Origin};
use super::raw::Raw;
use super::resolve::Resolver;
use super::{Config, Inputs, options};
use crate::homes;
use crate::isolation;

/// Bytes of a file that holds one secret.
const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;

/// Resolves every option in the order of the table; `None` where an error was reported.
pub fn assemble(inputs: &Inputs, file: &FileLayer, resolver: &mut Resolver<'_>) -> Option<Config> {
    let listen = resolver.value(&options::LISTEN);
    let data_dir = resolver.value(&options::DATA_DIR);
    let demo = resolver.value(&options::DEMO);
    let admin_token = resolver.value(&options::ADMIN_TOKEN);
    let admin_token_file = resolver.value(&options::ADMIN_TOKEN_FILE);
    let allow_cidrs = resolver.value(&options::ALLOW_CIDRS);
    let trusted_proxies = resolver.value(&options::TRUSTED_PROXIES);
    let allowed_hosts = resolver.value(&options::ALLOWED_HOSTS);
    let sign_in_failures_max = resolver.value(&options::SIGN_IN_FAILURES_MAX);
    let start_despite = resolver.value(&options::START_DESPITE);
    let default_agent = resolver.value(&options::DEFAULT_AGENT);
    let default_model = resolver.value(&options::DEFAULT_MODEL);
    let agent_retries_max = resolver.value(&options::AGENT_RETRIES_MAX);
    let isolation_mode = resolver.value(&options::ISOLATION_MODE);
    let isolation_require = resolver.value(&options::ISOLATION_REQUIRE);
    let isolation_users = resolver.value(&options::ISOLATION_USERS);
    let isolation_read = resolver.value(&options::ISOLATION_READ);
    let isolation_write = resolver.value(&options::ISOLATION_WRITE);
    let isolation_off_as_root = resolver.value(&options::ISOLATION_OFF_AS_ROOT);
    let isolation_cgroup = resolver.value(&options::ISOLATION_CGROUP);
    let agent_memory_max = resolver.value(&options::AGENT_MEMORY_MAX);
    let agent_home = resolver.value(&options::AGENT_HOME);
    let agent_network = resolver.value(&options::AGENT_NETWORK);
    let agent_network_always = resolver.value(&options::AGENT_NETWORK_ALWAYS);
    let default_timeout = resolver.value(&options::DEFAULT_TIMEOUT_SECS);
    let timeout_max = resolver.value(&options::TIMEOUT_MAX_SECS);
    let silence_max = resolver.value(&options::SILENCE_MAX_SECS);
    let slots = resolver.value(&options::SLOTS);
    let queue_max = resolver.value(&options::QUEUE_MAX);
    let queue_per_app_max = resolver.value(&options::QUEUE_PER_APP_MAX);
    let queue_wait_max = resolver.value(&options::QUEUE_WAIT_MAX_SECS);
    let upload_max_bytes = resolver.value(&options::UPLOAD_MAX_BYTES);
    let workspace_bytes_max = resolver.value(&options::WORKSPACE_BYTES_MAX);
    let session_driver = resolver.value(&options::SESSION_DRIVER);
    let session_warm = resolver.value(&options::SESSION_WARM_SECS);
    let session_warm_up = resolver.value(&options::SESSION_WARM_UP);
    let sessions_per_process = resolver.value(&options::SESSIONS_PER_PROCESS);
    let session_ttl = resolver.value(&options::SESSION_TTL_SECS);
    let session_hard_ttl = resolver.value(&options::SESSION_HARD_TTL_SECS);
    let run_retention = resolver.value(&options::RUN_RETENTION_SECS);
    let ledger_retention = resolver.value(&options::LEDGER_RETENTION_SECS);
    let sweep_interval = resolver.value(&options::SWEEP_INTERVAL_SECS);
    let drain_deadline = resolver.value(&options::DRAIN_DEADLINE_SECS);
    let kill_grace = resolver.value(&options::KILL_GRACE_MS);
    let log_format = resolver.value(&options::LOG_FORMAT);
    let log_level = resolver.value(&options::LOG_LEVEL);

    if !file.damaged {
        check_timeouts(default_timeout, timeout_max, resolver);
    }
    let admin_token_file = admin_token_file?;
    let admin_token = match &admin_token_file {
        Some(path) => token_with_file(admin_token?, path, resolver)?,
        None => admin_token?,
    };
    Some(Config {
        listen: listen?,
        data_dir: data_dir?,
        demo: demo?,
        admin_token,
        admin_token_file,
        allow_cidrs: allow_cidrs?,
        trusted_proxies: trusted_proxies?,
        allowed_hosts: allowed_hosts?,
        sign_in_failures_max: sign_in_failures_max?,
        start_despite: start_despite?,
        default_agent: default_agent?,
        default_model: default_model?,
        agent_retries_max: agent_retries_max?,
        isolation_mode: isolation_mode?,
        isolation_require: isolation_require?,
        isolation_users: isolation_users?,
        isolation_read: isolation_read?,
        isolation_write: isolation_write?,
        isolation_off_as_root: isolation_off_as_root?,
        isolation_cgroup: isolation_cgroup?,
        agent_memory_max: agent_memory_max?,
        agent_home: agent_home?,
        agent_network: agent_network?,
        agent_network_always: agent_network_always?,
        default_timeout: default_timeout?,
        timeout_max: timeout_max?,
        silence_max: silence_max?,
        slots: slots?,
        queue_max: queue_max?,
        queue_per_app_max: queue_per_app_max?,
        queue_wait_max: queue_wait_max?,
        upload_max_bytes: upload_max_bytes?,
        workspace_bytes_max: workspace_bytes_max?,
        session_driver: session_driver?,
        session_warm: session_warm?,
        session_warm_up: session_warm_up?,
        sessions_per_process: sessions_per_process?,
        session_ttl: session_ttl?,
        session_hard_ttl: session_hard_ttl?,
        run_retention: run_retention?,
        ledger_retention: ledger_retention?,
        sweep_interval: sweep_interval?,
        drain_deadline: drain_deadline?,
        kill_grace: kill_grace?,
        log_format: log_format?,
        log_level: log_level?,
        agents: file.agents.entries.clone(),
        environment: Environment::without_ours(inputs.env.clone()),
        // It needs all the rest.
        confinement: None,
        egress: None,
    })
}

/// A default above the maximum would make every request without a wish fail.
fn check_timeouts(default: Option<Duration>, max: Option<Duration>, resolver: &mut Resolver<'_>) {
    let (Some(default), Some(max)) = (default, max) else { return };
    if default <= max {
        return;
    }
    let set = |key, resolver: &mut Resolver<'_>| {
        resolver.row(key).map(|row| row.origin.clone()).filter(|origin| *origin != Origin::Default)
    };
    let origin = set("default_timeout_secs", resolver).or_else(|| set("timeout_max_secs", resolver));
    let message = format!(
        "`default_timeout_secs` ({}) must not be above `timeout_max_secs` ({})",
        default.as_secs(),
        max.as_secs()
    );
    resolver.errors.push(ConfigError { origin: origin.unwrap_or(Origin::Default), message });
}

/// The admin token out of its file, which must agree with the one that was given directly.
fn token_with_file(
    given: Option<SecretString>,
    path: &std::path::Path,
    resolver: &mut Resolver<'_>,
) -> Option<Option<SecretString>> {
    let origin = resolver.row("admin_token_file").map_or(Origin::Default, |row| row.origin.clone());
    let read = file::read_text(path, SECRET_FILE_BYTES_MAX)
        .map_err(|error| format!("`admin_token_file`: cannot read {}: {error}", path.display()))
        .and_then(|text| {
            let token = Secret.read(&Raw::Plain(text), path);
            token.map_err(|message| format!("`admin_token_file`: the text in {} {message}", path.display()))
        });
    let agrees =
        |token: &SecretString| given.as_ref().is_none_or(|given| given.expose_secret() == token.expose_secret());
    let message = match read {
        Ok(token) if agrees(&token) => {
            if given.is_none()
                && let Some(row) = resolver.row("admin_token")
            {
                (row.value, row.json, row.origin) = (REDACTED.to_owned(), REDACTED.into(), origin);
            }
            return Some(Some(token));
        }
        Ok(_) => "`admin_token` and the text in `admin_token_file` differ; keep one of them".to_owned(),
        Err(message) => message,
    };
    resolver.errors.push(ConfigError { origin, message });
    None
}

/// Combinations that work but rarely as meant, each with the option to change.
pub fn risks(config: &Config) -> Vec<String> {
    let mut risks = Vec::new();
    if !config.listen.ip().is_loopback() && config.allow_cidrs.is_empty() {
        risks.push(format!(
            "listening on {} but only loopback can reach it; name the callers' addresses in `allow_cidrs`",
            config.listen
        ));
    }
    if config.drain_deadline < config.kill_grace {
        risks.push(format!(
            "agents have {} ms to end but the whole service stops after {} s; raise `drain_deadline_secs` or lower `kill_grace_ms`",
            config.kill_grace.as_millis(),
            config.drain_deadline.as_secs()
        ));
    }
    risks.extend(isolation::risk_of_home(config));
    risks.extend(homes::risks(config));
    risks
}
