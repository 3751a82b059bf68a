//! Has an agent erase its own records of conversations.

use std::collections::BTreeSet;

use agent_client_protocol::ErrorCode;
use agent_client_protocol::v1::schema::DeleteSessionRequest;
use clawdforge_core::agent::AgentName;
use tokio_util::sync::CancellationToken;

use super::host::AcpHost;

/// What came of having an agent erase its records of conversations, by its own ids of them. What is in neither set is
/// erased.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    /// It may still have these: asking again may help.
    pub(crate) left: BTreeSet<String>,
    /// It has no way to erase these.
    pub(crate) kept: BTreeSet<String>,
    /// Its processes that were still there at the end.
    pub(crate) survivors: usize,
}

impl Erased {
    /// These are left.
    pub(super) fn none_of(left: BTreeSet<String>) -> Self {
        Self { left, ..Self::default() }
    }
}

/// Asks for one after the other, by the agent's own ids of them. An agent that declares no way to erase keeps them where its
/// own settings say.
pub(super) async fn erase(
    name: &AgentName,
    host: &AcpHost,
    mut keys: BTreeSet<String>,
    given_up: &CancellationToken,
) -> Erased {
    if host.capabilities().session_capabilities.delete.is_none() {
        return Erased { kept: keys, ..Erased::default() };
    }
    let Some(connection) = host.connection() else { return Erased::none_of(keys) };
    for key in keys.clone() {
        let request = DeleteSessionRequest::new(key.clone());
        let answer = connection.to_agent().send_request(request).block_task();
        let answered = tokio::select! {
            answered = connection.wait(answer) => answered,
            () = given_up.cancelled() => break,
        };
        match answered {
            // What it does not know it does not have.
            Err(error) if error.code != ErrorCode::RESOURCE_NOT_FOUND => {
                tracing::warn!(agent.name = %name, %error, "an agent did not erase its record of a conversation");
            }
            _ => drop(keys.remove(&key)),
        }
    }
    Erased::none_of(keys)
}
