//! The shapes of the first versions, frozen. Golden files hold every one of them.
//!
//! Requests are written by clients and read leniently by the server (which validates field by field
//! to answer in the old 422 shape), so request types here only serialise.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The process answers.
    pub ok: bool,
    /// The `claude` program was found.
    pub claude_present: bool,
    /// What it says its version is; null when absent or not yet known.
    pub claude_version: Option<String>,
    /// The `acpx` program was found. Sessions do not need it.
    #[serde(default)]
    pub acpx_present: bool,
    /// What it says its version is; null when absent or not yet known.
    #[serde(default)]
    pub acpx_version: Option<String>,
    /// Sessions of all apps that are open.
    #[serde(default)]
    pub open_sessions: u64,
}

/// Body of `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SessionRequest {
    /// The agent; absent for the service's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The caller's own notes, a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
    /// The model by the agent's own name for it; absent leaves it to the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `low`, `medium`, `high`, `xhigh` or `max`; absent leaves it to the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// `rebuild` (default) or `fail`: what happens when the agent has forgotten the turns before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_context_loss: Option<String>,
    /// `acp` or `acpx`: how the agent is spoken to; absent leaves it to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The weakest isolation its agents may run at: `landlock`, `uid` or `namespaces`; absent takes what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// Success of `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReply {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The session, a UUID.
    pub session_id: String,
    /// The agent.
    pub agent: String,
    /// When it was opened, in Unix seconds.
    pub created_at: i64,
    /// The model asked for; null leaves it to the agent.
    #[serde(default)]
    pub model: Option<String>,
    /// How the agent is spoken to. Added to the old shape, whose readers ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How well its agents are kept apart: `off`, `landlock` or `uid`. Added as `driver` was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// Body of `POST /sessions/{id}/turn`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TurnRequest {
    /// What the agent is asked.
    pub prompt: String,
    /// `ff_…` tokens of uploads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Longest time for the turn, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
    /// The JSON Schema that the answer is to fit. Only `/v1` knows it; the first versions pass over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// Success of `POST /sessions/{id}/turn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnReply {
    /// Always true.
    pub ok: bool,
    /// The session.
    pub session_id: String,
    /// The turn's place in the session, from 1.
    pub turn_index: u32,
    /// What the agent did, in order.
    pub events: Vec<TurnEvent>,
    /// The agent's word for why it stopped.
    pub stop_reason: String,
    /// Milliseconds the turn took.
    pub duration_ms: u64,
    /// Where the agent had the turns before from: `new`, `warm`, `resumed`, `rebuilt` or `reset`. Added to the
    /// old shape, as everything below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What it used, as far as the agent said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TurnUsage>,
    /// What it cost in US dollars, as far as the agent said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// There was more than fits into a reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub events_truncated: bool,
}

impl TurnReply {
    /// The agent's answer: what its `text` events say, one after the other with nothing in between.
    #[must_use]
    pub fn text(&self) -> String {
        self.events.iter().filter_map(TurnEvent::text).collect()
    }
}

/// One thing an agent did in a turn. Fields that do not apply are absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TurnEvent {
    /// `text`, `thinking` or `tool_call`; there may be more some day.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, of `text` and `thinking`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The tool, of `tool_call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the tool was given, an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// What it gave back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl TurnEvent {
    /// Its part of the answer, if it is a `text` event.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.content.as_deref().filter(|_| self.kind == "text")
    }
}

/// Tokens of one turn, as far as the agent said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TurnUsage {
    /// Read, without those from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
}

/// Failure of a turn (status 502).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnFailure {
    /// What every failed prompt tells.
    #[serde(flatten)]
    pub failure: RunFailure,
    /// The session.
    #[serde(default)]
    pub session_id: String,
    /// The turn's place in the session, from 1.
    #[serde(default)]
    pub turn_index: u32,
    /// As in [`TurnReply`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// A session as its app sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The session, a UUID.
    pub session_id: String,
    /// The agent.
    pub agent: String,
    /// When it was opened, in Unix seconds.
    pub created_at: i64,
    /// When its last turn was accepted; null before the first.
    #[serde(default)]
    pub last_turn_at: Option<i64>,
    /// Turns accepted so far.
    #[serde(default)]
    pub turn_count: u32,
    /// When it was closed; null while it takes turns.
    #[serde(default)]
    pub closed_at: Option<i64>,
    /// Whether it takes turns.
    #[serde(default)]
    pub live: bool,
    /// The caller's own notes.
    #[serde(default)]
    pub meta: Option<Value>,
    /// The model asked for; null leaves it to the agent.
    #[serde(default)]
    pub model: Option<String>,
    /// The app it belongs to.
    #[serde(default)]
    pub app_name: String,
    /// How the agent is spoken to. Added to the old shape, as everything below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// `rebuild` or `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_context_loss: Option<String>,
    /// How hard the model should think; absent leaves it to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// Whether its agent's process is there.
    #[serde(default)]
    pub warm: bool,
    /// How well its agents were kept apart when it was opened: `off`, `landlock` or `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// `GET /sessions/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStateReply {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The session.
    #[serde(flatten)]
    pub session: SessionState,
}

/// `GET /sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionList {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The app's sessions, newest first.
    pub sessions: Vec<SessionState>,
}

/// `DELETE /sessions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClosed {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The session.
    pub session_id: String,
    /// It was closed before.
    #[serde(default)]
    pub already_closed: bool,
}

/// Body of `POST /run`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RunRequest {
    /// What the agent is asked.
    pub prompt: String,
    /// The model; absent for the service's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// System text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// `append` (default) or `replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_mode: Option<String>,
    /// `low`, `medium`, `high`, `xhigh` or `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// `ff_…` tokens of uploads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Longest time for the agent, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
    /// The weakest isolation it may run at: `landlock`, `uid` or `namespaces`; absent takes what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// The JSON Schema that the answer is to fit. Only `/v1` knows it; the first versions pass over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// Success of `POST /run`: exactly these four keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReply<R = Value> {
    /// Always true.
    pub ok: bool,
    /// The answer: any JSON value, a string where it is not JSON.
    pub result: R,
    /// Milliseconds the agent took.
    pub duration_ms: u64,
    /// The agent's word for why it stopped.
    pub stop_reason: Option<String>,
}

/// Failure of a run (status 502).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailure {
    /// Always false.
    pub ok: bool,
    /// What happened and what to do.
    pub error: String,
    /// The stable code of the failure. Added to the old shape, whose readers ignore it.
    #[serde(default)]
    pub code: String,
    /// The end of the agent's error stream.
    #[serde(default)]
    pub stderr: String,
    /// Milliseconds the agent took.
    #[serde(default)]
    pub duration_ms: u64,
    /// The agent's word for why it stopped.
    #[serde(default)]
    pub stop_reason: Option<String>,
}

/// Success of `POST /files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReply {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The `ff_…` token to name the upload by.
    pub file_token: String,
    /// How long it lives, in seconds, after clamping.
    pub ttl_secs: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Body of `POST /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MintRequest {
    /// The app's name.
    pub name: String,
    /// Where its requests may come from; empty for anywhere the service allows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_cidrs: Vec<String>,
    /// What the app's agents may reach: `"open"`, `"none"`, or a list of hosts with ports; nothing for what the
    /// agents' own rules let them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    /// Whether the app's sessions may be given tool servers: `any` or `none`; nothing is `any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<String>,
}

/// Success of `POST /admin/tokens`: the only time the token is shown. No `Debug`: it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct MintReply {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// The app's name.
    pub name: String,
    /// The token.
    pub token: String,
    /// Where its requests may come from.
    #[serde(default)]
    pub ip_cidrs: Vec<String>,
    /// What the app's agents may reach, where the token says it: `"open"`, `"none"`, or a list of hosts with ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    /// `none` where the app's sessions may be given no tool servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<String>,
}

/// One row of `GET /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The app's name.
    pub name: String,
    /// Where its requests may come from; may be empty.
    #[serde(default)]
    pub ip_cidrs: Vec<String>,
    /// What the app's agents may reach, where the token says it: `"open"`, `"none"`, or a list of hosts with ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    /// `none` where the app's sessions may be given no tool servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<String>,
    /// When it was minted, in Unix seconds.
    pub created_at: i64,
}

/// `GET /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// Always true.
    #[serde(default)]
    pub ok: bool,
    /// Live tokens by name.
    pub tokens: Vec<TokenRow>,
}

/// A bare success, such as of `DELETE /admin/tokens/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub ok: bool,
}

/// Any other error: a text under `detail`, and the same under `error` for clients that read that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What is wrong and what to do.
    pub detail: String,
    /// The same.
    pub error: String,
    /// The stable code, where there is one to act on. Added to the old shape, whose readers ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// A refused request body (status 422), in the shape of the first implementation's framework.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationReply {
    /// Every fault found.
    pub detail: Vec<ValidationFault>,
    /// All of them in one sentence, for clients that read `error`.
    pub error: String,
}

/// One fault of a request body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationFault {
    /// Stable name of the kind of fault (`missing`, `string_type`, …).
    #[serde(rename = "type")]
    pub kind: String,
    /// Where: `["body", "timeout_secs"]`.
    pub loc: Vec<Value>,
    /// What is wrong.
    pub msg: String,
    /// What was sent.
    pub input: Value,
    /// The bounds that were broken, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}
