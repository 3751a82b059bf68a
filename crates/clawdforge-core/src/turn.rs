//! Turns.

use std::time::Duration;

use crate::id::{RequestId, SessionId, TurnId};
use crate::time::Timestamp;

/// One prompt in a session and everything the agent does until it stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Identity.
    pub id: TurnId,
    /// The session it belongs to.
    pub session: SessionId,
    /// Its place in the session, from 1.
    pub index: u32,
    /// Where it stands.
    pub state: TurnState,
    /// The request that brought it.
    pub request: RequestId,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// Longest time from the start of the agent to its end.
    pub timeout: Duration,
}

/// A turn as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRecord {
    /// The turn.
    pub turn: Turn,
    /// When its agent was set to work.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// `completed`, or the code of its failure, once it has ended. The whole outcome is its last event.
    pub outcome: Option<String>,
    /// When somebody asked for it to be stopped.
    pub cancel_asked_at: Option<Timestamp>,
}

/// Where a turn stands. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnState {
    /// Accepted, no agent yet.
    Queued,
    /// An agent is or was at work.
    Running,
    /// It has an outcome.
    Ended,
}

impl TurnState {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}
