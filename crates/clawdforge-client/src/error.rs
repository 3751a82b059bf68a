//! What can go wrong with a call, split by what a caller would do next.

use std::fmt;
use std::io;
use std::time::Duration;

use clawdforge_api::legacy::{RunFailure, TurnFailure, ValidationFault};

/// Why a call gave no result. No text in it holds a token of the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing was sent: the client was built without the token this call needs.
    #[error("this call needs the {0} token")]
    TokenMissing(TokenKind),
    /// Nothing was sent: the arguments can never make a valid request.
    #[error("{0}")]
    Invalid(String),
    /// Status 401 or 403: another token, or another address to call from, is needed.
    #[error("refused ({status}): {message}")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// What the service says.
        message: String,
    },
    /// The run was made and the agent failed (status 502).
    #[error("the run failed: {}", .0.error)]
    RunFailed(Box<RunFailure>),
    /// The turn was made and the agent failed (status 502). The session goes on.
    #[error("the turn failed: {}", .0.failure.error)]
    TurnFailed(Box<TurnFailure>),
    /// The session takes no turns any more; open another.
    #[error("{message}")]
    SessionClosed {
        /// 410, or nothing when it was closed by the same [`crate::Session`]: then nothing was sent.
        status: Option<u16>,
        /// What the service says.
        message: String,
    },
    /// Status 503 or 429: the same request may be welcome later.
    #[error("the service is busy ({status}): {message}")]
    Busy {
        /// 503 or 429.
        status: u16,
        /// What the service says.
        message: String,
        /// How long it asks to wait, where it says so in seconds.
        retry_after: Option<Duration>,
    },
    /// Status 422: the request must be changed.
    #[error("the request is not valid: {message}")]
    Validation {
        /// All faults in one sentence.
        message: String,
        /// The faults one by one, where the service lists them.
        faults: Vec<ValidationFault>,
    },
    /// Any other status that is no success, and every problem of `/v1`, whose `code` says what it is.
    #[error("the service answered {status}: {message}")]
    Api {
        /// The status.
        status: u16,
        /// What the service says (of a problem its `detail`), or how its reply begins.
        message: String,
        /// The stable code of a problem, such as `not_found`; see [`clawdforge_api::problem::Code`].
        code: Option<String>,
        /// How long it asks to wait, where it does.
        retry_after: Option<Duration>,
    },
    /// A stream of events broke off, and the tries to go on with it failed. What it told of goes on.
    #[error("the stream broke off behind event {seen}, and {tries} tries to go on failed: {source}")]
    StreamLost {
        /// The number of the last event that was given.
        seen: u64,
        /// The tries.
        tries: u32,
        /// Why the last one failed.
        #[source]
        source: Box<ClientError>,
    },
    /// A connection ended before what its stream tells of did.
    #[error("the stream ended before its last event")]
    Unfinished,
    /// No reply within the deadline. A run or a turn may still be going on at the service.
    #[error("no reply from {to} within {after:?}")]
    Deadline {
        /// The base URL.
        to: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection could not be made or broke.
    #[error("no connection to {to}: {cause}")]
    Transport {
        /// The base URL.
        to: String,
        /// The innermost reason in words.
        cause: String,
        /// The whole of it.
        #[source]
        source: reqwest::Error,
    },
    /// A success whose body is not what the contract says. Its text is not repeated here.
    #[error("the service's reply cannot be read: {0}")]
    BadReply(String),
    /// A reply longer than the client is willing to hold.
    #[error("the reply is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// What was to be uploaded could not be read.
    #[error("the upload cannot be read: {0}")]
    Source(#[source] io::Error),
}

/// The two tokens a client can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Of an app: runs, sessions and uploads.
    App,
    /// Of the operator: tokens and the ledger.
    Admin,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App => "app",
            Self::Admin => "admin",
        })
    }
}

impl ClientError {
    /// The HTTP status behind it, if the service answered at all.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized { status, .. } | Self::Busy { status, .. } | Self::Api { status, .. } => Some(*status),
            Self::RunFailed(_) | Self::TurnFailed(_) => Some(502),
            Self::SessionClosed { status, .. } => *status,
            Self::Validation { .. } => Some(422),
            Self::StreamLost { source, .. } => source.status(),
            Self::TokenMissing(_)
            | Self::Invalid(_)
            | Self::Unfinished
            | Self::Deadline { .. }
            | Self::Transport { .. }
            | Self::BadReply(_)
            | Self::TooLarge { .. }
            | Self::Source(_) => None,
        }
    }

    /// The stable code of a problem of `/v1`, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { code, .. } => code.as_deref(),
            Self::StreamLost { source, .. } => source.code(),
            _ => None,
        }
    }

    /// How long the service asks to wait before the same is tried again, where it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { retry_after, .. } | Self::Busy { retry_after, .. } => *retry_after,
            Self::StreamLost { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}
