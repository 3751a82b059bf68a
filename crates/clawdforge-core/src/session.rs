//! Sessions.

use crate::agent::AgentName;
use crate::id::{AppId, SessionId};
use crate::time::Timestamp;

/// A conversation with one agent, owned by one app. A run is a session of kind [`SessionKind::Run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Identity.
    pub id: SessionId,
    /// The owner; for every other app the session does not exist.
    pub app: AppId,
    /// The owner's name at the time, for showing.
    pub app_name: String,
    /// The agent it talks to.
    pub agent: AgentName,
    /// Whether it is a run.
    pub kind: SessionKind,
    /// When it was opened.
    pub created_at: Timestamp,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// One turn, no memory, never resumed.
    Run,
}

impl SessionKind {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
        }
    }
}
