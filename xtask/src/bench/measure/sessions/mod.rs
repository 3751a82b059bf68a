//! Sessions: what a turn costs over the agent alone, beside acpx and sandbox-agent, what open sessions hold, how many turns
//! and events go through, and how soon a service with many sessions is back.
//!
//! The agent is the demo agent over the Agent Client Protocol, whoever drives it.

mod acpx;
mod crowd;
mod direct;
mod events;
mod held;
mod store;
mod streams;
mod turns;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Scene;
use super::http::{Connection, delete, get, post};
use super::report::{Goal, Table};

/// What every short turn asks.
const PROMPT: &str = "say: The quick brown fox jumps over the lazy dog.";

/// How often and how many.
pub struct Effort {
    /// Turns over a warm session, and as many over the agent alone.
    pub turns: usize,
    /// Sessions that are opened, and turns that find their agent gone.
    pub cold_turns: usize,
    /// Sessions of each acpx.
    pub acpx_sessions: usize,
    /// Warm prompts in each of them.
    pub acpx_prompts: usize,
    /// Sessions that are open and idle.
    pub open: usize,
    /// Starts on them, for each way to end.
    pub starts: usize,
    /// Sessions with a warm agent.
    pub warm: usize,
    /// Callers with one turn each, at once.
    pub crowd: usize,
    /// Calls of a tool in a turn that floods; each makes two events.
    pub tool_calls: usize,
    /// Such turns of each session.
    pub floods: usize,
    /// Streamed turns.
    pub streams: usize,
    /// Followers of one session.
    pub followers: usize,
    /// Turns that all of them see.
    pub fan_outs: usize,
    /// Times that a short log is read.
    pub replays: usize,
    /// Followers who read nothing.
    pub stalled: usize,
}

/// The real numbers.
pub const FULL: Effort = Effort {
    turns: 1_000,
    cold_turns: 50,
    acpx_sessions: 4,
    acpx_prompts: 3,
    open: 10_000,
    starts: 10,
    warm: 32,
    crowd: 1_000,
    tool_calls: 9_000,
    floods: 3,
    streams: 200,
    followers: 1_000,
    fan_outs: 20,
    replays: 20,
    stalled: 100,
};

/// To see that it works.
pub const QUICK: Effort = Effort {
    turns: 20,
    cold_turns: 3,
    acpx_sessions: 1,
    acpx_prompts: 1,
    open: 100,
    starts: 2,
    warm: 3,
    crowd: 100,
    tool_calls: 600,
    floods: 1,
    streams: 10,
    followers: 50,
    fan_outs: 2,
    replays: 2,
    stalled: 10,
};

/// Measures all of it; `tell` is given each table when it is there.
///
/// # Errors
/// When the service, the agent, acpx or sandbox-agent fails.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort, mut tell: impl FnMut(Table)) -> Result<Vec<Goal>> {
    let mut goals = Vec::new();
    let (tables, reached) = turns::measure(scene, client, effort)?;
    tables.into_iter().for_each(&mut tell);
    goals.extend(reached);

    tell(acpx::measure(scene, effort)?);

    tell(crowd::measure(scene, client, effort)?);

    let (table, reached) = events::measure(scene, client, effort)?;
    tell(table);
    goals.extend(reached);

    let (table, reached) = streams::measure(scene, client, effort)?;
    tell(table);
    goals.extend(reached);

    let (tables, reached) = held::measure(scene, client, effort)?;
    tables.into_iter().for_each(&mut tell);
    goals.extend(reached);
    Ok(goals)
}

/// An app with a connection that is kept.
pub struct Caller {
    connection: Connection,
    token: String,
}

impl Caller {
    pub async fn new(address: SocketAddr, token: &str) -> Result<Self> {
        Ok(Self { connection: Connection::open(address).await?, token: token.to_owned() })
    }

    /// Opens a session; its id.
    pub async fn open(&mut self) -> Result<String> {
        let request = post("/sessions", &self.token, &json!({}));
        let reply: Value = serde_json::from_slice(&self.connection.ask(&request).await?.expect(200)?)?;
        reply["session_id"].as_str().map(str::to_owned).context("a session has an id")
    }

    /// One turn: how long from the request to its answer, and the reply.
    pub async fn turn(&mut self, session: &str, prompt: &str) -> Result<(Duration, Value)> {
        let request = post(&format!("/sessions/{session}/turn"), &self.token, &json!({ "prompt": prompt }));
        let began = Instant::now();
        let reply = self.connection.ask(&request).await?;
        let took = began.elapsed();
        let reply: Value = serde_json::from_slice(&reply.expect(200)?)?;
        ensure!(reply["ok"] == true && reply["events_truncated"] != true, "a turn without its whole answer: {reply}");
        Ok((took, reply))
    }

    /// What a path of the app's answers with.
    async fn get(&mut self, path: &str) -> Result<Value> {
        let reply = self.connection.ask(&get(path, &self.token)).await?;
        Ok(serde_json::from_slice(&reply.expect(200)?)?)
    }

    /// Closes a session.
    async fn close(&mut self, session: &str) -> Result<()> {
        let request = delete(&format!("/sessions/{session}"), &self.token);
        self.connection.ask(&request).await?.expect(200).map(drop)
    }

    /// Whether the session's agent is there.
    async fn is_warm(&mut self, session: &str) -> Result<bool> {
        let request = get(&format!("/sessions/{session}"), &self.token);
        let reply: Value = serde_json::from_slice(&self.connection.ask(&request).await?.expect(200)?)?;
        reply["warm"].as_bool().context("a session is warm or not")
    }
}
