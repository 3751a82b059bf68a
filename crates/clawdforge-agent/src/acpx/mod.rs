//! Agents behind `acpx`, a command line that speaks the Agent Client Protocol (measured with 0.19.1).
//!
//! The second driver of conversations. What is known of acpx is known here and nowhere else:
//!
//! - Each turn is a short call of the command line ([`call`]). The agent itself hangs below an *owner*, which
//!   the first call leaves behind on purpose: the calls are errands, and the owner is their kin.
//! - What a turn came to is told from the stream ([`stream`]), never from an exit code: no result line is a
//!   failure, whatever the code says. A call exits a second after its result line; nobody waits for that.
//! - acpx begins a fresh conversation when an agent has lost the old one, and says nothing. The stream shows
//!   it, and the link ([`link`]) tells it as [`AgentSignal::ContextReset`].
//! - Ending a call never stops the turn it waits for. `cancel` does, and `sessions close` does; what is left
//!   after those is ended by its mark.
//! - A `.acpxrc.json` in the workspace is a configuration that anybody who can write there could leave. It is
//!   removed before each call, and every call says all that matters by flags, which win over it.
//! - In a sandbox, what it needs beside its agent is laid out before ([`confined`]).
//!
//! [`AgentSignal::ContextReset`]: clawdforge_core::agent::AgentSignal::ContextReset

mod call;
mod confined;
mod driver;
mod failures;
mod link;
mod records;
mod stream;
mod talk;

pub use confined::{around_calls, socket_folder};
pub use driver::{AcpxDriver, VERSION_MIN};
