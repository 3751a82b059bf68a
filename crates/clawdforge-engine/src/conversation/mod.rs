//! Conversations: sessions with many turns.
//!
//! A conversation is a row; warmth is a cache. While it is warm or has turns, one task owns it
//! ([`owner`]), found by the [`registry`] and spoken to through its [`mailbox`]; a cold one has no task.
//! Calls ([`calls`]) record what they accept themselves and then tell the owner.

mod beginning;
pub(crate) mod calls;
mod changing;
mod forking;
pub(crate) mod mailbox;
mod opening;
pub(crate) mod owner;
pub(crate) mod registry;
mod transcript;

pub use calls::{SessionView, SessionWish, TurnRequest, TurnTicket};
pub use changing::SessionChange;
