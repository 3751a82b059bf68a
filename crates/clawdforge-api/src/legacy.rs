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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MintRequest {
    /// The app's name.
    pub name: String,
    /// Where its requests may come from; empty for anywhere the service allows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_cidrs: Vec<String>,
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
}

/// One row of `GET /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The app's name.
    pub name: String,
    /// Where its requests may come from; may be empty.
    #[serde(default)]
    pub ip_cidrs: Vec<String>,
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
