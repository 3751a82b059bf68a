//! The ledger: who did what and what it cost. It holds no agent content.

use std::time::Duration;

use crate::agent::Usage;
use crate::id::{FileId, RequestId, RunId, SessionId, TokenId};
use crate::isolation::Isolation;
use crate::time::Timestamp;

/// One line for the ledger, before the store numbers it.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    /// When it happened.
    pub at: Timestamp,
    /// Who acted: `app`, `operator` or `service`.
    pub principal: &'static str,
    /// The app it concerns, by name.
    pub app: Option<String>,
    /// The request behind it.
    pub request: Option<RequestId>,
    /// What happened.
    pub fact: LedgerFact,
}

/// Whose token was asked for where a sign-in failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// An app's.
    App,
    /// The operator's.
    Admin,
}

impl Door {
    /// Both.
    pub const ALL: [Self; 2] = [Self::App, Self::Admin];

    /// How the ledger names what failed there.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Self::App => "wrong_app_token",
            Self::Admin => "wrong_admin_token",
        }
    }
}

/// Wrong tokens that came from one address, or one network, in short succession.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSignIns {
    /// The address, the network, or `others`.
    pub from: String,
    /// Whose token was asked for.
    pub door: Door,
    /// How many there were.
    pub count: u64,
    /// Time between the first and the last.
    pub duration: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerFact {
    /// An app token was made.
    TokenMinted(TokenId),
    /// An app token was revoked.
    TokenRevoked(TokenId),
    /// A file was uploaded.
    FileUploaded {
        /// The file.
        file: FileId,
        /// Its size in bytes.
        size: u64,
    },
    /// A file expired and was erased.
    FileErased(FileId),
    /// A run was accepted.
    RunAccepted(RunFacts),
    /// A run ended.
    RunEnded {
        /// What is known from the request.
        run: RunFacts,
        /// What it used and cost.
        usage: Usage,
        /// Characters of the answer.
        answer_chars: u64,
        /// Milliseconds it took.
        duration_ms: u64,
        /// `completed`, or the code of the failure.
        outcome: &'static str,
    },
    /// The prompt, answer and events of an old run were erased.
    RunErased(RunId),
    /// A conversation was opened, with this agent and model.
    SessionCreated(SessionId, AgentAsked),
    /// A conversation was forked from another one: the new one, with its agent and model.
    SessionForked(SessionId, AgentAsked),
    /// A turn was accepted.
    TurnAccepted(TurnFacts),
    /// A turn ended.
    TurnEnded {
        /// What is known from the request.
        turn: TurnFacts,
        /// What it used and cost.
        usage: Usage,
        /// Characters of the answer.
        answer_chars: u64,
        /// Milliseconds it took.
        duration_ms: u64,
        /// `completed`, or the code of the failure.
        outcome: &'static str,
    },
    /// An app asked for a run or a turn to be stopped; what that is, in its shown form.
    CancelAsked(String),
    /// A conversation was changed by its app.
    SessionChanged(SessionId),
    /// A conversation was closed by its app.
    SessionClosed(SessionId),
    /// A conversation that nobody had used for a while was closed.
    SessionSwept(SessionId),
    /// A conversation was erased with its turns, events and workspace.
    SessionErased {
        /// The conversation.
        session: SessionId,
        /// What its agent kept of it is gone as well. Not so where the agent was not to be had, or has no way to erase.
        agent_forgot: bool,
    },
    /// Wrong tokens came.
    SignInsFailed(FailedSignIns),
}

/// What the ledger keeps of a run's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub run: RunId,
    /// The agent.
    pub agent: String,
    /// The model asked for.
    pub model: String,
    /// How well its agent is kept apart; `None` where that is not known.
    pub isolation: Option<Isolation>,
    /// Characters of the prompt.
    pub prompt_chars: u64,
}

/// What the ledger keeps of the request for a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAsked {
    /// The agent.
    pub agent: String,
    /// The model asked for; `None` left it to the agent.
    pub model: Option<String>,
    /// How well the agent is kept apart; `None` where that is not known.
    pub isolation: Option<Isolation>,
}

/// What the ledger keeps of a turn's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnFacts {
    /// The conversation.
    pub session: SessionId,
    /// Its place there, from 1.
    pub index: u32,
    /// Whom it asks.
    pub asked: AgentAsked,
    /// Characters of the prompt.
    pub prompt_chars: u64,
}

impl LedgerFact {
    /// The stable name of this kind of line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TokenMinted(_) => "token_minted",
            Self::TokenRevoked(_) => "token_revoked",
            Self::FileUploaded { .. } => "file_uploaded",
            Self::FileErased(_) => "file_erased",
            Self::RunAccepted(_) => "run_accepted",
            Self::RunEnded { .. } => "run_ended",
            Self::RunErased(_) => "run_erased",
            Self::SessionCreated(..) => "session_created",
            Self::SessionForked(..) => "session_forked",
            Self::TurnAccepted(_) => "turn_accepted",
            Self::TurnEnded { .. } => "turn_ended",
            Self::CancelAsked(_) => "cancel_asked",
            Self::SessionChanged(_) => "session_changed",
            Self::SessionClosed(_) => "session_closed",
            Self::SessionSwept(_) => "session_swept",
            Self::SessionErased { .. } => "session_erased",
            Self::SignInsFailed(_) => "sign_ins_failed",
        }
    }
}

/// A line as it is read back, in one flat shape for lists and exports.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerLine {
    /// Its number, growing; the cursor of pages.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The stable name of its kind.
    pub kind: String,
    /// Who acted.
    pub principal: String,
    /// The app it concerns.
    pub app: Option<String>,
    /// The request behind it, in its shown form.
    pub request_id: Option<String>,
    /// What it is about (run, token, file, or an address), in its shown form.
    pub subject: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The model asked for.
    pub model_asked: Option<String>,
    /// What it used and cost; `usage.model` is the model used.
    pub usage: Usage,
    /// Characters of the prompt.
    pub prompt_chars: Option<u64>,
    /// Characters of the answer.
    pub answer_chars: Option<u64>,
    /// Size in bytes, of files.
    pub size: Option<u64>,
    /// Milliseconds it took.
    pub duration_ms: Option<u64>,
    /// `completed`, or the code of the failure.
    pub outcome: Option<String>,
    /// The level of isolation the agent ran at.
    pub isolation: Option<String>,
    /// How often it happened, of what is told of once for many times.
    pub count: Option<u64>,
}

/// What an app's runs and turns used and cost together. What an agent did not report counts as nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UsageSum {
    /// Runs that ended.
    pub runs: u64,
    /// Turns of conversations that ended.
    pub turns: u64,
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Cost in US dollars.
    pub cost_usd: f64,
}

/// Which lines of the ledger, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerQuery {
    /// Only lines that concern the app of this name.
    pub app: Option<String>,
    /// Only lines of this kind.
    pub kind: Option<String>,
    /// Newest first (a list) or oldest first (an export).
    pub order: Order,
    /// Lines beyond this number in the chosen order; `None` begins at the end or the start.
    pub cursor: Option<u64>,
    /// At most so many lines.
    pub limit: usize,
}

/// The order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Highest number first; the cursor bounds from above.
    NewestFirst,
    /// Lowest number first; the cursor bounds from below.
    OldestFirst,
}
