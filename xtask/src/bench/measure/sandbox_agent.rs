//! sandbox-agent: a server that relays the Agent Client Protocol over HTTP and keeps the last of what agents said in
//! memory, nothing on disk.
//!
//! It drives the very agent that the service is measured with: a script that becomes the demo agent stands where
//! its built-in "mock" agent would be. Each of its own "servers" is one agent process, made by the first request.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::http::{Connection, get, post};
use super::process::{Memory, Process, wait_for};
use super::service::{self, SEARCH_PATH, free_address};
use super::{DEMO_AGENT, Scene};
use crate::bench::install_sandbox_agent;

/// Where it answers 200 when it is up.
pub const HEALTH: &str = "/v1/health";

/// The place of the "mock" agent below its data directory.
const LAUNCHER: &str = "sandbox-agent/bin/agent_processes/mock-acp";

/// A running one with a data directory and a home of its own. Killed when dropped; the demo agent then ends at the
/// end of its input.
pub struct SandboxAgent {
    process: Process,
    place: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// From just before it was started to its first `200` at [`HEALTH`].
    pub ready_in: Duration,
}

impl SandboxAgent {
    /// Starts one on nothing. One at a time: they would share a folder.
    ///
    /// # Errors
    /// When it cannot be installed, or with its output, when it does not come up.
    pub fn start(scene: &Scene, client: &Runtime) -> Result<Self> {
        let program = install_sandbox_agent()?;
        let place = scene.folder("sandbox-agent")?;
        let (data, home) = (scene.folder("sandbox-agent/data")?, scene.folder("sandbox-agent/home")?);
        write_launcher(&data.join(LAUNCHER))?;
        let log = place.join("output.log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["server", "--no-telemetry", "--no-token", "--host"]).arg(address.ip().to_string());
        command.arg("--port").arg(address.port().to_string()).current_dir(&place);
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", &home).env("XDG_DATA_HOME", &data);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);

        let mut process = Process::start("sandbox-agent", &mut command)?;
        let ready_in = process.wait_until_good(client, address, HEALTH, &log)?;
        Ok(Self { process, place, address, ready_in })
    }

    /// What it holds when it has had time to settle; its agents are not counted.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// Ends its agents, sees that they are gone, and ends it.
    ///
    /// It does not do so itself: a `DELETE` of a server is not answered as long as the agent runs, which it does until
    /// somebody else ends it. On SIGTERM it is gone at once and leaves its agents to notice; SIGINT it heeds only when
    /// the last stream is closed.
    ///
    /// # Errors
    /// When it or an agent does not end.
    pub fn stop(self, client: &Runtime) -> Result<()> {
        let agents = self.process.children()?;
        let servers = client.block_on(servers(self.address))?;
        ensure!(agents.len() == servers, "sandbox-agent has {servers} servers, but {} agents", agents.len());
        for agent in &agents {
            kill_process(*agent, Signal::TERM).with_context(|| format!("could not end agent {agent}"))?;
        }
        // It waits for them, so that nothing is left of them.
        let is_gone = |agent: &Pid| !Path::new(&format!("/proc/{agent}")).exists();
        wait_for("the end of sandbox-agent's agents", || Ok(agents.iter().all(is_gone)))?;
        self.process.stop(Signal::TERM)?;
        fs::remove_dir_all(&self.place).with_context(|| self.place.display().to_string())
    }
}

/// A conversation with an agent of its own, on a connection that is kept.
pub struct Conversation {
    connection: Connection,
    path: String,
    session: String,
    requests: u64,
}

impl Conversation {
    /// Has an agent started, initialised, and a conversation opened; how long that took.
    ///
    /// # Errors
    /// When it or the agent refuses.
    pub async fn open(peer: &SandboxAgent, name: &str) -> Result<(Self, Duration)> {
        let connection = Connection::open(peer.address).await?;
        let mut opened = Self { connection, path: path(name), session: String::new(), requests: 0 };
        let began = Instant::now();
        let first = format!("{}?agent=mock", opened.path);
        opened.ask(&first, "initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} })).await?;
        let path = opened.path.clone();
        let session = opened.ask(&path, "session/new", json!({ "cwd": peer.place, "mcpServers": [] })).await?;
        opened.session = session["sessionId"].as_str().context("a conversation has an id")?.to_owned();
        Ok((opened, began.elapsed()))
    }

    /// One prompt: how long from the request to its answer, which comes when the turn is over.
    ///
    /// # Errors
    /// When the turn does not end as it should.
    pub async fn turn(&mut self, prompt: &str) -> Result<Duration> {
        let params = json!({ "sessionId": self.session, "prompt": [{ "type": "text", "text": prompt }] });
        let path = self.path.clone();
        let began = Instant::now();
        let answer = self.ask(&path, "session/prompt", params).await?;
        let took = began.elapsed();
        ensure!(answer["stopReason"] == "end_turn", "sandbox-agent ended a turn with {answer}");
        Ok(took)
    }

    async fn ask(&mut self, path: &str, method: &str, params: Value) -> Result<Value> {
        self.requests += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.requests, "method": method, "params": params });
        let answer = self.connection.ask(&post(path, "", &request)).await?.expect(200)?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        ensure!(answer["error"].is_null(), "sandbox-agent refused {method}: {answer}");
        Ok(answer["result"].take())
    }
}

/// Where a conversation is posted to, and its log followed.
pub fn path(name: &str) -> String {
    format!("/v1/acp/{name}")
}

/// How many servers it has, each of which has an agent.
async fn servers(address: SocketAddr) -> Result<usize> {
    let listed = Connection::open(address).await?.ask(&get("/v1/acp", "")).await?.expect(200)?;
    let listed: Value = serde_json::from_slice(&listed)?;
    listed["servers"].as_array().map(Vec::len).context("sandbox-agent lists its servers")
}

/// The script that becomes the demo agent.
fn write_launcher(launcher: &Path) -> Result<()> {
    fs::create_dir_all(launcher.parent().context("a launcher lies in a folder")?)?;
    let program = service::program();
    fs::write(launcher, format!("#!/bin/sh\nexec '{}' {DEMO_AGENT} --acp\n", program.display()))
        .and_then(|()| fs::set_permissions(launcher, fs::Permissions::from_mode(0o755)))
        .with_context(|| launcher.display().to_string())
}
