//! What an agent says, in our words, whatever it speaks itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::output::Violation;

/// The name under which the operator configured an agent: `^[a-zA-Z0-9_-]{1,64}$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AgentName(String);

/// Why a text is no agent name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an agent name has 1 to 64 characters out of a-z, A-Z, 0-9, `_` and `-`")]
pub struct BadAgentName;

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = BadAgentName;

    fn from_str(text: &str) -> Result<Self, BadAgentName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadAgentName)
        }
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing an agent did, as a driver understood it.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentSignal {
    /// It is alive and busy, with nothing to record (a token of a longer text arrived).
    Working,
    /// A piece of the answer.
    Text(String),
    /// A piece of its reasoning.
    Thought(String),
    /// It uses a tool.
    ToolCall {
        /// The agent's own id of the call, which the result repeats.
        call: String,
        /// The tool's name.
        name: String,
        /// What the tool was given.
        args: Value,
    },
    /// A tool answered.
    ToolResult {
        /// The id of the call.
        call: String,
        /// What it gave back.
        result: Value,
        /// Whether the tool failed.
        failed: bool,
    },
    /// It tries its model again after a failure.
    Retrying {
        /// Number of the coming try, counted by the agent.
        attempt: u64,
        /// HTTP status of the failure, where there was one.
        status: Option<u16>,
        /// The agent's word for the failure.
        reason: String,
    },
    /// It has forgotten the turns before and goes on with this one all the same, behind our back.
    ContextReset,
    /// It wrote something no driver understands; kept and shown, never fatal.
    Unrecognised {
        /// The beginning of what it wrote.
        raw: String,
    },
    /// The turn is over, by the agent's own word.
    TurnEnded(TurnEnd),
    /// The process is gone.
    Exited(Exit),
}

/// How a turn ended, by the agent's own word or by ours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TurnEnd {
    /// The answer, whole. Absent where the agent gave none.
    pub answer: Option<String>,
    /// The agent's word for why it stopped (`end_turn`, `refusal`, …).
    pub stop_reason: Option<String>,
    /// The answer as data: as the agent gave it beside the text, and at the end of a turn that asked for some, as it was found
    /// to fit.
    pub output: Option<Box<Value>>,
    /// What went wrong; `None` means the answer is good.
    pub failure: Option<Failure>,
    /// What it used and cost, as far as the agent said.
    pub usage: Usage,
    /// The end of the agent's error stream, where it helps to understand a failure.
    pub stderr: String,
}

/// What a turn used, as the agent reported it. Every number may be missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The model that answered, by its full name.
    pub model: Option<String>,
    /// Tokens read, without those from a cache.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// Tokens read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Cost in US dollars.
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// Adds what was used after it. What was not reported either time stays unknown; the model is the later one.
    pub fn add(&mut self, later: Self) {
        let sum = |one: &mut Option<u64>, two: Option<u64>| {
            *one = one.map_or(two, |one| Some(one.saturating_add(two.unwrap_or(0))));
        };
        sum(&mut self.input_tokens, later.input_tokens);
        sum(&mut self.output_tokens, later.output_tokens);
        sum(&mut self.cache_read_tokens, later.cache_read_tokens);
        sum(&mut self.cache_write_tokens, later.cache_write_tokens);
        self.cost_usd = self.cost_usd.map_or(later.cost_usd, |cost| Some(cost + later.cost_usd.unwrap_or(0.0)));
        self.model = later.model.or(self.model.take());
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The end of its error stream.
    pub stderr: String,
}

/// What went wrong with a turn, for the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What a program would act on.
    pub kind: FailureKind,
    /// What a person reads: what happened and what to do. Safe for the caller.
    pub message: String,
    /// Of an answer that does not fit its schema: where, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
}

impl Failure {
    /// A failure of a kind, with its sentence.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), violations: Vec::new() }
    }
}

macro_rules! failure_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// The kinds of failure a turn can end with. Codes are stable: never reused or renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FailureKind { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl FailureKind {
            /// Every kind, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

failure_kinds! {
    /// The agent's program is not on this machine.
    NotInstalled = "agent_not_installed",
    /// The program is there but could not be started.
    StartFailed = "agent_start_failed",
    /// Nobody is signed in with the agent's provider.
    NotSignedIn = "agent_not_signed_in",
    /// The provider refused the credentials (401).
    Unauthorized = "agent_unauthorized",
    /// The provider forbade the request (403).
    Forbidden = "agent_forbidden",
    /// The provider does not know the model (404).
    UnknownModel = "agent_unknown_model",
    /// The agent does not have the mode that the session asks for.
    UnknownMode = "agent_unknown_mode",
    /// The agent does not take a tool server that the session gives it.
    ToolServerRefused = "agent_tool_server_refused",
    /// The request was larger than the provider takes (413, or a context limit).
    RequestTooLarge = "agent_request_too_large",
    /// The provider's rate or usage limit is reached (429).
    RateLimited = "agent_rate_limited",
    /// The provider is overloaded (529).
    Overloaded = "agent_overloaded",
    /// The provider failed (any other 5xx).
    ProviderError = "agent_provider_error",
    /// The provider could not be reached or broke off.
    ConnectionFailed = "agent_connection_failed",
    /// The provider refused the request for another reason (other 4xx).
    RequestRejected = "agent_request_rejected",
    /// The model refused to answer.
    Refused = "agent_refused",
    /// A limit on turns, output or budget was reached before an answer.
    LimitReached = "agent_limit_reached",
    /// The agent ended without an answer.
    Crashed = "agent_crashed",
    /// The agent ended in good order but what it wrote is no answer.
    BadOutput = "agent_bad_output",
    /// The answer does not fit the schema that was asked for.
    OutputInvalid = "output_invalid",
    /// The answer is larger than can be returned.
    AnswerTooLarge = "answer_too_large",
    /// The time limit passed.
    TimedOut = "timed_out",
    /// The agent was silent for too long.
    Silent = "silent",
    /// No slot became free in time; the agent never started.
    QueueExpired = "queue_expired",
    /// The service stopped or restarted before the end.
    Interrupted = "interrupted",
    /// Its app had it stopped.
    Cancelled = "cancelled",
    /// The session was closed before the end.
    SessionClosed = "session_closed",
    /// The agent has forgotten the turns before, and the session is not to go on without them.
    ContextLost = "context_lost",
    /// The agent would run with less isolation than was demanded.
    IsolationTooWeak = "isolation_too_weak",
    /// The workspace holds more than it may.
    WorkspaceFull = "workspace_full",
    /// An attached file was gone when the work began.
    AttachmentGone = "attachment_gone",
    /// The service could not do its own part.
    Internal = "internal",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_kind_is_stored_under_its_own_code() {
        let mut seen = std::collections::HashSet::new();
        for kind in FailureKind::ALL {
            assert!(seen.insert(kind.code()), "{} twice", kind.code());
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.code());
        }
    }
}
