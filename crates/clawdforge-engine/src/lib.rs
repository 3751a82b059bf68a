//! Runs and conversations in motion: admission, slots, owners, the live hub, sweep, recovery, drain.
//!
//! The engine knows nothing of HTTP, SQL or any agent's protocol. Callers submit work and follow it;
//! what they do afterwards changes nothing about the work (I9). Everything accepted is on disk before
//! an agent sees it, and ends with a recorded outcome.

mod asking;
mod cancels;
mod conversation;
mod copying;
mod drain;
mod engine;
mod erasing;
mod error;
mod files;
mod follow;
mod homes;
mod hosts;
mod hub;
mod ids;
mod keys;
mod options;
mod output;
mod owner;
mod quota;
mod record;
mod recovery;
mod runs;
mod slots;
mod sweep;
mod tasks;
mod tokens;
mod workspace;

pub use asking::{AgentView, EventsPage, RunView, TurnView};
pub use conversation::{SessionChange, SessionView, SessionWish, TurnRequest, TurnTicket};
pub use drain::DrainReport;
pub use engine::{Engine, Health, Parts};
pub use error::EngineError;
pub use files::{Upload, UploadWish};
pub use follow::{EventStream, Followed};
pub use hub::{Ended, Recorded};
pub use ids::Ids;
pub use keys::Submitted;
pub use options::{AgentHome, EVENT_GATHER, EngineOptions};
pub use recovery::RecoveryReport;
pub use runs::RunTicket;
pub use sweep::SweepReport;
pub use tasks::{OnError, TaskKind, Tasks};
pub use tokens::{Minted, TokenWish};
