//! Agents that speak the Agent Client Protocol, version 1 (<https://agentclientprotocol.com>).
//!
//! The only place that knows the protocol. The connection is a future that lives in the link and makes
//! progress while somebody waits for the link: there is no task of its own, and an agent that floods
//! is slowed down by its own pipe.

mod driver;
mod link;
mod peer;
mod prompt;
pub(crate) mod translate;

pub use driver::AcpDriver;
pub(crate) use prompt::blocks;
