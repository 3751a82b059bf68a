//! The service as it is measured: its release build in a process of its own, as an operator starts it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;

use super::http::{Connection, post};
use super::process::{Memory, PATIENCE, Process, is_good};
use crate::paths::root;

/// The search path of everything that is started.
pub const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The operator's token of every service measured; they live for seconds, on loopback.
pub const ADMIN_TOKEN: &str = "cf_admin_of_a_service_that_is_measured";

/// Ports to listen on. Below those the kernel hands out for outgoing connections: who connects to one of
/// those over and over while nobody listens will in the end be connected with itself.
const PORTS: std::ops::Range<u16> = 21_000..29_000;

/// How a service is started.
pub struct Setup<'a> {
    /// The data directory, made when missing.
    pub data_dir: &'a Path,
    /// Its home; the configuration and the log lie there.
    pub home: &'a Path,
    /// The configuration file.
    pub config: String,
    /// With the demo agent as default.
    pub demo: bool,
}

impl Setup<'_> {
    /// The same with options, lines of the configuration file that stand outside of its tables.
    pub fn with(mut self, options: &str) -> Self {
        self.config.insert_str(0, options);
        self
    }
}

/// A service that answers. Killed when dropped.
pub struct Service {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// From just before it was started to its first `200 /healthz`.
    pub ready_in: Duration,
}

impl Service {
    /// Starts a service and asks for its health, over and over, until it is well.
    ///
    /// # Errors
    /// With its log, when it does not come up.
    pub fn start(setup: &Setup<'_>, client: &Runtime) -> Result<Self> {
        let config = setup.home.join("clawdforge.toml");
        fs::write(&config, &setup.config).with_context(|| config.display().to_string())?;
        let log = setup.home.join("service.log");
        let address = free_address()?;
        let mut command = Command::new(program());
        command.arg("serve").arg("--listen").arg(address.to_string()).arg("--data-dir").arg(setup.data_dir);
        command.arg("--config").arg(&config).args(setup.demo.then_some("--demo")).current_dir(setup.home);
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", setup.home);
        command.env("CLAWDFORGE_ADMIN_TOKEN", ADMIN_TOKEN);
        let stderr = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);

        let mut process = Process::start("the service", &mut command)?;
        let ready_in = process.wait_until_good(client, address, "/healthz", &log)?;
        Ok(Self { process, address, ready_in })
    }

    /// Asks until it takes work; how long that was from just before it was started.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_until_ready(&self, client: &Runtime) -> Result<Duration> {
        while !client.block_on(is_good(self.address, "/readyz")) {
            ensure!(self.process.age() < PATIENCE, "the service is not ready");
        }
        Ok(self.process.age())
    }

    /// Registers an app; its token.
    ///
    /// # Errors
    /// When the service refuses.
    pub fn mint(&self, client: &Runtime) -> Result<String> {
        self.mint_as(client, "bench")
    }

    /// Registers an app of this name; its token.
    ///
    /// # Errors
    /// When the service refuses.
    pub fn mint_as(&self, client: &Runtime, name: &str) -> Result<String> {
        let request = post("/admin/tokens", ADMIN_TOKEN, &json!({ "name": name }));
        let reply = client.block_on(async { Connection::open(self.address).await?.ask(&request).await })?;
        let reply: serde_json::Value = serde_json::from_slice(&reply.expect(200)?)?;
        reply["token"].as_str().map(str::to_owned).context("an answer with a token")
    }

    /// What it holds when it has had [`SETTLE`] to finish what it was doing.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(self, signal: Signal) -> Result<()> {
        self.process.stop(signal)
    }
}

/// The program that is measured.
pub fn program() -> PathBuf {
    root().join("target/release/clawdforge")
}

/// An address nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    PORTS
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| format!("no port is free in {PORTS:?}"))
}
