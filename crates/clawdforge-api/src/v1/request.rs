//! What is asked of `/v1` and was not of the first versions.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::legacy;

/// Body of `POST /v1/sessions`: that of `POST /sessions`, and more.
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
    /// The agent's own name for how it asks for permission; absent takes the mode for unattended work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Text for the system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// `append` (default) or `replace`: what becomes of the agent's own system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_mode: Option<String>,
    /// Tool servers for the agent, each with a name of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,
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

/// A tool server (MCP) for the agent of a session. `Debug` shows its name: the rest may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum McpServer {
    /// One that the agent connects to.
    Remote {
        /// `http`, or the older `sse`.
        #[serde(rename = "type")]
        kind: String,
        /// Its name.
        name: String,
        /// Where it is.
        url: String,
        /// What every request to it carries.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// A program that the agent starts.
    Stdio {
        /// Its name.
        name: String,
        /// The program.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Variables it gets.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Remote { name, .. } | Self::Stdio { name, .. }) = self;
        f.debug_struct("McpServer").field("name", name).finish_non_exhaustive()
    }
}

impl From<legacy::SessionRequest> for SessionRequest {
    fn from(request: legacy::SessionRequest) -> Self {
        let legacy::SessionRequest { agent, meta, model, effort, on_context_loss, driver, isolation } = request;
        Self { agent, meta, model, effort, on_context_loss, driver, isolation, ..Self::default() }
    }
}
