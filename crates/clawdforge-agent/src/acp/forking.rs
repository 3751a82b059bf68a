//! Has an agent fork a conversation: a new one that knows what another one knows.
//!
//! The request is unstable in the protocol (schema 1.15). It is made in a process of its own, in the working directory of the
//! fork: Claude Code (adapter 0.101) and Codex (2.6) find the record of the other conversation by its key alone, and fork
//! it while another process holds it at rest.

use std::sync::Arc;

use agent_client_protocol::v1::schema::ForkSessionRequest;
use agent_client_protocol::{Error, ErrorCode};
use clawdforge_core::agent::{Failure, FailureKind};

use super::host::{AcpHost, FAILED_GRACE, tell_survivors, within};
use super::link::AcpLink;
use super::opening::{Offered, Opened};
use super::servers;
use crate::{LinkContext, NotForked, OpenSpec};

/// How Codex begins to say that there is no record: it has a code for all its failures.
const CODEX_KNOWS_NONE: &str = "no rollout found";

impl AcpHost {
    /// Forks the conversation of the specification in this process, which was started for that alone: where it cannot be
    /// forked, the process is ended.
    pub(super) async fn fork_or_close(self: Arc<Self>, spec: &OpenSpec) -> Result<AcpLink, NotForked> {
        // The inner result is the agent's answer, the outer one how the asking went.
        let forked = within(&self.name, &spec.given_up, async { Ok(self.fork(spec).await) }).await;
        let forked = forked.unwrap_or_else(|failure| Err(NotForked::Failed(failure)));
        if forked.is_err() {
            tell_survivors(&self.name, self.end(FAILED_GRACE).await.survivors);
        }
        forked
    }

    async fn fork(self: &Arc<Self>, spec: &OpenSpec) -> Result<AcpLink, NotForked> {
        if self.capabilities().session_capabilities.fork.is_none() {
            return Err(NotForked::NotOffered);
        }
        let Some(key) = spec.resume.clone() else { return Err(NotForked::Unknown) };
        let (connection, leader) = self.reached().await.map_err(NotForked::Failed)?;
        let offered = &self.capabilities().mcp_capabilities;
        servers::accept(self.name.as_str(), &spec.tool_servers, offered).map_err(NotForked::Failed)?;
        let request = ForkSessionRequest::new(key.clone(), spec.workspace.clone());
        let request = request.mcp_servers(servers::told(&spec.tool_servers)).meta(self.choices.meta_of(spec));
        let answer = connection.to_agent().send_request(request).block_task();
        let forked = match connection.wait(answer).await {
            Ok(forked) => forked,
            Err(error) if knows_none(&error) => return Err(NotForked::Unknown),
            Err(error) => return Err(NotForked::Failed(self.refused(&error).await)),
        };
        let new = forked.session_id.to_string();
        if new == key {
            // Two conversations with one record would see each other's turns.
            let message = format!("{} gave a fork the name of what it was forked from", self.name);
            return Err(NotForked::Failed(Failure::new(FailureKind::StartFailed, message)));
        }
        let peer = connection.of(&new);
        let offered = Offered::of(forked.config_options, forked.modes);
        let opened = Opened { peer, context: LinkContext::Resumed, offered };
        self.settle(opened, spec, true, leader).await.map_err(NotForked::Failed)
    }
}

/// Whether the agent says that there is nothing to fork.
fn knows_none(error: &Error) -> bool {
    let details = error.data.as_ref().and_then(|data| data["details"].as_str());
    error.code == ErrorCode::RESOURCE_NOT_FOUND || details.is_some_and(|text| text.starts_with(CODEX_KNOWS_NONE))
}
