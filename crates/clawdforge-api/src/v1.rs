//! The shapes of `/v1`.
//!
//! Ids have prefixes, times are RFC 3339 in UTC with milliseconds, durations end in `_ms` or `_secs`. Adding fields is
//! free; readers pass over what they do not know. What is absent is null or left out.

mod request;

use std::fmt;

use clawdforge_core::event::{EventBody, EventSeq};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use request::{McpServer, SessionRequest};

/// The media type of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The name of the event that ends the stream of a session: it was closed, and its turns have ended.
pub const CLOSED: &str = "closed";

/// The name of the event that says what is not kept any more.
pub const GAP: &str = "gap";

/// The name of the event that says why a stream broke off; it carries a problem.
pub const ERROR: &str = "error";

/// A page of things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The things.
    pub data: Vec<T>,
    /// To be handed back as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// `ses_…`.
    pub id: String,
    /// `open` or `closed`.
    pub state: String,
    /// The agent.
    pub agent: String,
    /// How the agent is spoken to: `acp` or `acpx`.
    pub driver: Option<String>,
    /// The model by the agent's own name for it; null leaves it to the agent.
    pub model: Option<String>,
    /// How hard the model should think; null leaves it to the agent.
    pub effort: Option<String>,
    /// The agent's own name for how it asks for permission; null takes the mode for unattended work.
    #[serde(default)]
    pub mode: Option<String>,
    /// What becomes of the agent's own system prompt: `append` or `replace`; null where the session has no text for it. The
    /// text is not told again.
    #[serde(default)]
    pub system_mode: Option<String>,
    /// The names of its tool servers. What else was said of them is not told again.
    #[serde(default)]
    pub mcp_servers: Vec<String>,
    /// The caller's own notes.
    pub meta: Option<Value>,
    /// What happens when the agent has forgotten the turns before: `rebuild` or `fail`.
    pub on_context_loss: Option<String>,
    /// How well its agent is kept apart.
    pub isolation: Option<String>,
    /// Whether its agent's process is there.
    pub warm: bool,
    /// Turns accepted so far.
    pub turns: u32,
    /// When it was opened.
    pub created_at: String,
    /// When the last turn was accepted.
    pub last_turn_at: Option<String>,
    /// When it was closed.
    pub closed_at: Option<String>,
    /// Where it began, if it is a fork.
    pub forked_from: Option<ForkPoint>,
}

/// Where a session left another one, all of which until then it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkPoint {
    /// The other one, `ses_…`, which may be erased by now.
    pub session_id: String,
    /// The place of its last turn then.
    pub turn_index: u32,
}

/// What is to be different in a session, or in a fork of it: what is absent stays as it is, an explicit null takes it away.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SessionChanges {
    /// The model by the agent's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Option<String>>,
    /// How hard the model should think.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<Option<String>>,
    /// The agent's name for how it asks for permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Option<String>>,
    /// The caller's own notes, a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Option<Value>>,
}

/// A turn of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// `trn_…`.
    pub id: String,
    /// The session.
    pub session_id: String,
    /// Its place in the session, from 1.
    pub index: u32,
    /// How it stands.
    #[serde(flatten)]
    pub progress: Progress,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `run_…`.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// How well its agent is kept apart.
    pub isolation: Option<String>,
    /// How it stands.
    #[serde(flatten)]
    pub progress: Progress,
}

/// How a turn or a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `queued`, `running` or `ended`.
    pub state: String,
    /// `completed`, or the code of the failure; null until it has ended.
    pub outcome: Option<String>,
    /// When it was accepted.
    pub queued_at: String,
    /// When its agent was set to work.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// When its app asked for it to be stopped.
    pub cancel_asked_at: Option<String>,
    /// What came of it: once it has ended, and where one turn or run is asked for and not a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
}

/// What came of a turn or a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The agent's answer; null on most failures.
    pub answer: Option<String>,
    /// The answer as data, where an `output_schema` was asked for and it fits.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub output: Option<Value>,
    /// The agent's word for why it stopped.
    pub stop_reason: Option<String>,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
    /// Milliseconds from the start of the agent, or from acceptance if none started, to the end.
    pub duration_ms: u64,
    /// What it used and cost.
    pub usage: Usage,
}

/// What went wrong with a turn or a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable code.
    pub code: String,
    /// What happened, and what to do.
    pub message: String,
    /// Of `output_invalid`: where the answer does not fit, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// The end of the agent's error stream.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

/// One way in which an answer does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The place in the answer as a JSON pointer; empty for all of it.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// A null that is there is an output like any other.
fn present<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(field).map(Some)
}

/// What a turn or a run used and cost, as the agent reported it; null where it did not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens read, without those from a cache.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// Tokens read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Cost in US dollars.
    pub cost_usd: Option<f64>,
}

/// One event of a session, turn or run. In a stream, `seq` is the event's id and `type` its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in its session: 1, 2, 3 …
    pub seq: EventSeq,
    /// When it was recorded.
    pub at: String,
    /// The turn it belongs to.
    pub turn_id: String,
    /// What happened: `type`, and what belongs to it.
    #[serde(flatten)]
    pub body: EventBody,
}

/// Events that are not kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The number of the first of them.
    pub from: EventSeq,
    /// The number of the last of them.
    pub to: EventSeq,
}

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// `ff_…`, by which it is attached.
    pub id: String,
    /// The name it was sent with, without folders.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was uploaded.
    pub created_at: String,
    /// When it is erased.
    pub expires_at: String,
}

/// An agent that sessions can be opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name, as `agent` of a new session.
    pub name: String,
    /// Whether it is the one that sessions get which name none.
    pub is_default: bool,
    /// Whether its program was found.
    pub is_present: bool,
    /// Its version, once known.
    pub version: Option<String>,
    /// How it can be spoken to, the preferred way first.
    pub drivers: Vec<String>,
    /// Whether sessions can be given text for its system prompt.
    #[serde(default)]
    pub takes_system_prompt: bool,
}

/// The token of an app, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The app's name; an app has one token.
    pub name: String,
    /// From where it is good; empty is from everywhere.
    pub ip_cidrs: Vec<String>,
    /// What the app's agents may reach: `open`, `none`, or a list of hosts with ports; null leaves it to their profile.
    pub network: Option<Value>,
    /// Whether the app's sessions may be given tool servers: `any` or `none`.
    #[serde(default = "any")]
    pub mcp_servers: String,
    /// When it was minted.
    pub created_at: String,
}

fn any() -> String {
    "any".to_owned()
}

/// A token that was just minted: the only time its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintedToken {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub token: Token,
    /// The bearer, `cf_…`; only its hash is kept.
    pub secret: String,
}

impl fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// What an app's runs and turns used and cost, of those that ended in a span of time. What an agent did not report counts
/// as nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageSum {
    /// From this time on; null is from the beginning of the ledger.
    pub from: Option<String>,
    /// Before this time; null is until now.
    pub to: Option<String>,
    /// Runs that ended.
    pub runs: u64,
    /// Turns of sessions that ended.
    pub turns: u64,
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Cost in US dollars.
    pub cost_usd: f64,
}
