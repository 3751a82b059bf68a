//! Events: the durable record of what happened in a session, numbered without gaps.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{Failure, Usage};
use crate::id::{FileId, SessionId, TurnId};
use crate::output::Violation;
use crate::run::{Effort, SystemMode};
use crate::time::Timestamp;

/// The number of an event in its session: 1, 2, 3 …
pub type EventSeq = u64;

/// One thing that happened in a session; immutable once recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The session.
    pub session: SessionId,
    /// Its number there.
    pub seq: EventSeq,
    /// The turn it belongs to.
    pub turn: TurnId,
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// What happened. This is a durable format: variants and fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// The caller asked.
    Prompt {
        /// What was asked.
        text: String,
        /// The model asked for.
        model: String,
        /// System text, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
        /// What became of the agent's own system prompt.
        #[serde(default)]
        system_mode: SystemMode,
        /// Effort asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effort: Option<Effort>,
        /// Attached uploads.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileId>,
        /// The schema that the answer is to fit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_schema: Option<Value>,
        /// What the service put behind the text, where the agent has to be told of the schema in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instruction: Option<String>,
    },
    /// An agent was set to work on the turn.
    Started,
    /// What the agent knows of the turns before; of conversations only. Once in a turn, and once more where it
    /// turns out to be [`ContextSource::Reset`].
    Context {
        /// Where it has it from.
        source: ContextSource,
    },
    /// A piece of the answer.
    Text {
        /// The text.
        content: String,
    },
    /// A piece of the agent's reasoning.
    Thinking {
        /// The text.
        content: String,
    },
    /// The agent used a tool.
    ToolCall {
        /// The agent's id of the call.
        call: String,
        /// The tool.
        name: String,
        /// What it was given.
        args: Value,
    },
    /// A tool answered.
    ToolResult {
        /// The id of the call.
        call: String,
        /// What it gave back.
        result: Value,
        /// Whether it failed.
        #[serde(default)]
        failed: bool,
    },
    /// The agent tries its model again.
    Retry {
        /// Number of the coming try.
        attempt: u64,
        /// HTTP status of the failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The agent's word for it.
        reason: String,
    },
    /// The answer did not fit the schema, so the agent was asked again, in the same conversation.
    AskedAgain {
        /// Which time: 1, 2 …
        attempt: u64,
        /// What was wrong with the answer.
        violations: Vec<Violation>,
        /// What it was told.
        text: String,
    },
    /// Output nobody understood, cut.
    Unrecognised {
        /// The beginning of it.
        raw: String,
    },
    /// The turn is over; nothing follows it in the turn.
    Ended(TurnOutcome),
}

impl EventBody {
    /// Whether an event of the same kind can go on with it.
    #[must_use]
    pub fn joins(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Thinking { .. })
    }

    /// Takes in the next event, where it goes on with this one and both are no more than `bytes_max`;
    /// otherwise it comes back.
    #[must_use]
    pub fn join(&mut self, next: Self, bytes_max: usize) -> Option<Self> {
        match (self, next) {
            (Self::Text { content }, Self::Text { content: next })
            | (Self::Thinking { content }, Self::Thinking { content: next })
                if content.len() + next.len() <= bytes_max =>
            {
                content.push_str(&next);
                None
            }
            (_, next) => Some(next),
        }
    }

    /// Bytes it takes in memory, near enough to bound how much is gathered.
    #[must_use]
    pub fn weight(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Self::Prompt { text, model, system, output_schema, instruction, .. } => {
                let texts = [system.as_ref(), instruction.as_ref()].into_iter().flatten().map(String::len);
                text.len() + model.len() + texts.sum::<usize>() + output_schema.as_ref().map_or(0, value_weight)
            }
            Self::Started | Self::Context { .. } => 0,
            Self::Text { content } | Self::Thinking { content } => content.len(),
            Self::ToolCall { call, name, args } => call.len() + name.len() + value_weight(args),
            Self::ToolResult { call, result, .. } => call.len() + value_weight(result),
            Self::Retry { reason, .. } => reason.len(),
            // The violations stand in the text.
            Self::AskedAgain { text, .. } => 2 * text.len(),
            Self::Unrecognised { raw } => raw.len(),
            Self::Ended(outcome) => {
                let texts = outcome.answer.as_ref().map_or(0, String::len) + outcome.stderr.len();
                texts + outcome.output.as_ref().map_or(0, value_weight)
            }
        }
    }
}

fn value_weight(value: &Value) -> usize {
    let within = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_weight).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| size_of::<String>() + key.len() + value_weight(value)).sum()
        }
    };
    size_of::<Value>() + within
}

/// Where an agent has the turns before from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextSource {
    /// There are none: it is the first turn.
    New,
    /// The same process went on.
    Warm,
    /// The agent took up its own record of the conversation.
    Resumed,
    /// The agent had forgotten them and was given the transcript from our log.
    Rebuilt,
    /// The agent had forgotten them, and that was noticed when it already had the prompt.
    Reset,
}

impl ContextSource {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Warm => "warm",
            Self::Resumed => "resumed",
            Self::Rebuilt => "rebuilt",
            Self::Reset => "reset",
        }
    }
}

/// The recorded outcome of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnOutcome {
    /// The answer; absent on most failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The answer as data, where a schema was asked for and it fits.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub output: Option<Value>,
    /// The agent's word for why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    /// What went wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The end of the agent's error stream, on failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Milliseconds from the start of the agent (or from acceptance, if none started) to the end.
    pub duration_ms: u64,
    /// What it used and cost.
    #[serde(default)]
    pub usage: Usage,
    /// Events beyond the limit that were counted but not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A null that is there is an output like any other.
fn present<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(field).map(Some)
}

impl TurnOutcome {
    /// `completed`, or the code of the failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.failure.as_ref().map_or("completed", |failure| failure.kind.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::FailureKind;

    #[test]
    fn the_durable_form_of_an_end_stays_readable() {
        let body = EventBody::Ended(TurnOutcome {
            answer: None,
            output: Some(Value::Null),
            stop_reason: None,
            failure: Some(Failure::new(FailureKind::TimedOut, "timed out after 5 s")),
            stderr: String::new(),
            duration_ms: 5001,
            usage: Usage::default(),
            events_dropped: 0,
        });
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(json["type"], "ended");
        assert_eq!(json["failure"]["kind"], "timed_out");
        assert_eq!(json["output"], Value::Null);
        assert!(json.as_object().unwrap().contains_key("output"));
        assert_eq!(serde_json::from_value::<EventBody>(json).unwrap(), body);
    }
}
