//! Sessions.

use crate::agent::AgentName;
use crate::id::{AppId, SessionId};
use crate::isolation::Isolation;
use crate::run::{Effort, SystemMode};
use crate::time::Timestamp;
use crate::tools::ToolServer;

/// Turns with one agent in one workspace, owned by one app. A run is a session without a
/// [`Conversation`]: it has exactly one turn and is never resumed.
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
    /// When it was opened.
    pub created_at: Timestamp,
    /// How well agents were kept apart when it was opened; `None` before there were levels.
    pub isolation: Option<Isolation>,
    /// What its caller chose, where it is a conversation and no run.
    pub conversation: Option<Conversation>,
}

/// What the caller of a conversation chose when it was opened. It holds for all its turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The model by the agent's own name for it; `None` leaves it to the agent.
    pub model: Option<String>,
    /// How hard the model should think; `None` leaves it to the agent.
    pub effort: Option<Effort>,
    /// The agent's own name for how it asks for permission; `None` takes the one for unattended work.
    pub mode: Option<String>,
    /// What becomes of the agent's own system prompt, where the caller gave text for it: that is in the [`Equipment`].
    pub system_mode: Option<SystemMode>,
    /// The names of the tool servers that the caller gave the agent: these are in the [`Equipment`].
    pub tool_servers: Vec<String>,
    /// The caller's own notes, a JSON object as text.
    pub meta: Option<String>,
    /// How the agent is spoken to.
    pub driver: DriverName,
    /// What happens when the agent has forgotten the turns before.
    pub on_context_loss: OnContextLoss,
    /// The weakest isolation its agents may run at; `None` takes what there is.
    pub isolation_min: Option<Isolation>,
}

/// What the agent of a conversation is given whenever it begins the conversation or takes it up. Apart from the rest,
/// because it is large, and nobody but the agent is told it again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Equipment {
    /// Text for the system prompt; what becomes of it is the conversation's `system_mode`.
    pub system: Option<String>,
    /// Tool servers, each with a name of its own.
    pub tool_servers: Vec<ToolServer>,
}

impl Session {
    /// The stored name of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.conversation.is_some() { Self::CONVERSATION } else { Self::RUN }
    }

    /// The kind of a session with one turn.
    pub const RUN: &'static str = "run";
    /// The kind of a session with many.
    pub const CONVERSATION: &'static str = "conversation";
}

/// A conversation as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session; its `conversation` is there.
    pub session: Session,
    /// When it was closed; `None` while turns are taken.
    pub closed_at: Option<Timestamp>,
    /// The agent's own id of the conversation, once there is one to go on with.
    pub resume_key: Option<String>,
    /// Turns accepted so far.
    pub turns: u32,
    /// When the last of them was accepted.
    pub last_turn_at: Option<Timestamp>,
    /// Where it began, if it is a fork.
    pub forked_from: Option<ForkPoint>,
}

/// Where a conversation left another one. What that one knew then, it knows as well; from then on neither sees what the
/// other does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkPoint {
    /// The other one, which may be erased by now.
    pub session: SessionId,
    /// The place of its last turn then.
    pub turn_index: u32,
}

/// How a conversation's agent is spoken to. It holds for all its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriverName {
    /// The Agent Client Protocol, spoken by the service itself.
    Acp,
    /// The command line `acpx`, which speaks the protocol.
    Acpx,
}

impl DriverName {
    /// Every driver with its name on the wire and in the store.
    pub const ALL: [(&'static str, Self); 2] = [("acp", Self::Acp), ("acpx", Self::Acpx)];

    /// The driver's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acp => "acp",
            Self::Acpx => "acpx",
        }
    }
}

/// What happens to a turn whose agent cannot go on where the last turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnContextLoss {
    /// A fresh agent is given the transcript of the turns before.
    #[default]
    Rebuild,
    /// The turn fails, and the session stays open.
    Fail,
}

impl OnContextLoss {
    /// Every choice with its name on the wire and in the store.
    pub const ALL: [(&'static str, Self); 2] = [("rebuild", Self::Rebuild), ("fail", Self::Fail)];

    /// The choice's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Fail => "fail",
        }
    }
}
