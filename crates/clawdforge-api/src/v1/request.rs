//! What is asked of `/v1` and was not of the first versions.

use serde::Serialize;
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

impl From<legacy::SessionRequest> for SessionRequest {
    fn from(request: legacy::SessionRequest) -> Self {
        let legacy::SessionRequest { agent, meta, model, effort, on_context_loss, driver, isolation } = request;
        Self { agent, meta, model, effort, on_context_loss, driver, isolation, ..Self::default() }
    }
}
