//! Agents that speak the Agent Client Protocol, version 1 (<https://agentclientprotocol.com>).
//!
//! The only place that knows the protocol. A process may hold one conversation or several
//! ([`host`]). The connection is a future that every link shares and that makes progress while somebody
//! waits for any of them: there is no task of its own, and an agent that floods is slowed down by its
//! own pipe.

mod driver;
mod host;
mod info;
mod link;
mod misspoken;
mod opening;
mod peer;
mod prompt;
mod quirks;
pub(crate) mod translate;

pub use driver::{AcpDriver, Choices};
pub use info::AgentInfo;
pub(crate) use prompt::blocks;
