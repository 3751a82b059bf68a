//! Agents that speak the Agent Client Protocol, version 1 (<https://agentclientprotocol.com>).
//!
//! The only place that knows the protocol. A process may hold one conversation or several
//! ([`host`]). The connection is a future that every link shares and that makes progress while somebody
//! waits for any of them: there is no task of its own, and an agent that floods is slowed down by its
//! own pipe.

mod driver;
pub(crate) mod erasing;
mod forking;
mod host;
mod info;
mod link;
mod misspoken;
mod modes;
mod opening;
mod peer;
mod permission;
mod prompt;
mod quirks;
pub(crate) mod servers;
pub(crate) mod translate;

pub(crate) use driver::system_prompt;
pub use driver::{AcpDriver, Choices};
pub use info::AgentInfo;
pub(crate) use modes::unknown_mode;
pub(crate) use permission::ACPX_ANSWERS;
pub(crate) use prompt::blocks;

/// What acpx passes on of the protocol as it is: the rest of the crate knows its messages by no other way.
pub(crate) mod wire {
    pub use agent_client_protocol::v1::schema::{PromptResponse, SessionUpdate, StopReason};
    pub use agent_client_protocol::{Error, ErrorCode};
}
