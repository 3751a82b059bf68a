//! The service as it is measured: its release build in a process of its own, as an operator starts it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::runtime::Runtime;

use super::http::{Connection, get, post};
use crate::paths::root;

/// The search path of everything that is started.
pub const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The operator's token of every service measured; they live for seconds, on loopback.
pub const ADMIN_TOKEN: &str = "cf_admin_of_a_service_that_is_measured";

/// Ports to listen on. Below those the kernel hands out for outgoing connections: who connects to one of
/// those over and over while nobody listens will in the end be connected with itself.
const PORTS: std::ops::Range<u16> = 21_000..29_000;

/// How long a start or a stop may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// After this long, a service that nobody asks anything is idle.
pub const SETTLE: Duration = Duration::from_secs(2);

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
    child: Child,
    began: Instant,
    /// Where it listens.
    pub address: SocketAddr,
    /// From just before it was started to its first `200 /healthz`.
    pub ready_in: Duration,
}

/// What a process holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, pages shared with others included.
    pub resident: u64,
    /// Resident, shared pages counted in part.
    pub proportional: u64,
    /// Resident and belonging to no file: what it allocated.
    pub anonymous: u64,
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

        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "the service is started as an operator starts it")]
        let child = command.spawn().context("could not start the service")?;
        let mut service = Self { child, began, address, ready_in: Duration::ZERO };
        while !client.block_on(is_good(address, "/healthz")) {
            if began.elapsed() > PATIENCE || service.child.try_wait()?.is_some() {
                bail!("the service did not start; its log:\n{}", fs::read_to_string(&log)?);
            }
        }
        service.ready_in = began.elapsed();
        Ok(service)
    }

    /// Asks until it takes work; how long that was from just before it was started.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_until_ready(&self, client: &Runtime) -> Result<Duration> {
        while !client.block_on(is_good(self.address, "/readyz")) {
            ensure!(self.began.elapsed() < PATIENCE, "the service is not ready");
        }
        Ok(self.began.elapsed())
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
        std::thread::sleep(SETTLE);
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| field_bytes(&text, name).with_context(|| format!("{path} has no {name}"));
        Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")?, anonymous: field("Anonymous:")? })
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                bail!("the service did not end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both refuse where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that is measured.
pub fn program() -> PathBuf {
    root().join("target/release/clawdforge")
}

async fn is_good(address: SocketAddr, path: &str) -> bool {
    let asked = async { Connection::open(address).await?.ask(&get(path, "")).await };
    asked.await.is_ok_and(|reply| reply.status == 200)
}

/// An address nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    PORTS
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| format!("no port is free in {PORTS:?}"))
}

fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_kernel_are_read_in_bytes() {
        let text = "55d0 ---p 0 [rollup]\nRss:               13000 kB\nPss_Anon:   7 kB\n";
        assert_eq!(field_bytes(text, "Rss:"), Some(13_000 * 1024));
        assert_eq!(field_bytes(text, "Pss:"), None);
    }
}
