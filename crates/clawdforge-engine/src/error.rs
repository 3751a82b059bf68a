//! What can go wrong with a call to the engine, by what the caller would do about it.

use std::time::Duration;

use clawdforge_core::agent::{AgentName, Failure};
use clawdforge_core::output::SchemaFault;
use clawdforge_store::{CommitError, ReadError};

/// A refused call. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It does not exist, or belongs to somebody else: the two look the same.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// All slots and the queue are taken.
    #[error("{reason}; try again in {} s", retry_after.as_secs())]
    Busy {
        /// Which bound was met.
        reason: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// The session was closed; it takes no turn any more.
    #[error("the session is closed; open a new one")]
    SessionClosed,
    /// A turn of the session is under way or waits.
    #[error("a turn of this session is under way or waits; try again when it has ended, or have it stopped")]
    SessionBusy,
    /// The session cannot be forked, and why.
    #[error("the session cannot be forked: {0}")]
    ForkImpossible(String),
    /// The run or turn has ended already: there is nothing to stop.
    #[error("it has ended already")]
    AlreadyEnded,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request; use a new key for each")]
    KeyReused,
    /// The schema that the answer is to fit is none.
    #[error("output_schema is no schema: at \"{}\": {}", .0.path, .0.message)]
    SchemaInvalid(SchemaFault),
    /// No agent of this name is configured for sessions.
    #[error("there is no agent `{agent}`; there are: {known}")]
    UnknownAgent {
        /// The name asked for.
        agent: AgentName,
        /// The names there are, separated by commas.
        known: String,
    },
    /// The agent's program is not there.
    #[error("{}", .0.message)]
    AgentUnavailable(Failure),
    /// Its agent would run with less isolation than is demanded.
    #[error("{}", .0.message)]
    IsolationTooWeak(Failure),
    /// The agent does not offer what is asked of it.
    #[error("{0}")]
    NotOffered(String),
    /// The app's token does not let its sessions have tool servers.
    #[error(
        "this app's sessions may have no tool servers; open one without `mcp_servers`, or have the operator mint a token that allows them"
    )]
    ToolServersForbidden,
    /// The service stopped before an accepted turn began; the next start goes on with it.
    #[error("the service is stopping; the turn is accepted and will be done after the restart, do not send it again")]
    Deferred,
    /// The service is stopping and takes no new work.
    #[error("the service is stopping; try again in a moment")]
    Stopping,
    /// The app has a live token already.
    #[error("{0} has a token already; revoke it first, then mint a new one")]
    NameTaken(String),
    /// There are as many tokens as there may be.
    #[error("there are {0} tokens already; revoke some first")]
    TooManyTokens(usize),
    /// The upload is larger than allowed.
    #[error("the upload is larger than the allowed {0} bytes")]
    UploadTooLarge(u64),
    /// The disk is full.
    #[error("the service's disk is full; the operator must make room")]
    DiskFull,
    /// The ledger or the event log could not be written or read; nothing was started.
    #[error("the service cannot write its records at the moment, so nothing was started; try again")]
    RecordsUnavailable(String),
    /// The work was done or interrupted, but its outcome could not be recorded.
    #[error("the outcome could not be recorded; the operator's log says why")]
    OutcomeUnrecorded,
    /// The service could not do its own part; the text is for the log, not for callers.
    #[error("internal error")]
    Internal(String),
}

impl EngineError {
    /// What happened, for the operator: with what callers are not told.
    #[must_use]
    pub fn for_operator(&self) -> String {
        match self {
            Self::Internal(inner) | Self::RecordsUnavailable(inner) => inner.clone(),
            other => other.to_string(),
        }
    }
}

impl From<ReadError> for EngineError {
    fn from(error: ReadError) -> Self {
        Self::RecordsUnavailable(error.to_string())
    }
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unexpected { .. } => Self::Internal(error.to_string()),
            CommitError::Unavailable(_) | CommitError::Unknown(_) => Self::RecordsUnavailable(error.to_string()),
        }
    }
}
