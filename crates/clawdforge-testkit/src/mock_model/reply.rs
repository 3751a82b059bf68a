//! What the model answers, as a test says it.

use std::time::Duration;

use serde_json::Value;

use super::ModelRequest;

/// How many characters of the prompt an echo repeats.
const ECHO_CHARS_MAX: usize = 200;

/// One answer of the model.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) outcome: Outcome,
    pub(super) pause: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// A message, whole or broken off.
    Message { blocks: Vec<Block>, stop_reason: String, ending: Ending },
    /// An error status with the API's error object.
    Status { status: u16, message: String, retry_after_secs: Option<u64> },
    /// Headers, then only comments for as long as the client stays.
    Stalled,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Reasoning, before the answer.
    Thinking(String),
    /// The answer, or a piece of it.
    Text(String),
    /// The wish to use a tool.
    ToolUse {
        /// The tool's name.
        name: String,
        /// The tool's input, an object.
        input: Value,
    },
}

/// How the sending of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is sent whole.
    Whole,
    /// After the first delta of the last block the connection breaks.
    Cut,
    /// After the first delta of the last block nothing comes but comments.
    Stalled,
    /// The first delta of the last block comes again and again, for as long as the client stays; where it does not stream,
    /// nothing does.
    Endless,
    /// After the first delta of the last block comes what is no event, no JSON and no text, and the reply ends.
    Garbled,
}

impl Reply {
    /// A message of any blocks. Its stop reason is `tool_use` when it uses a tool, else `end_turn`.
    #[must_use]
    pub fn blocks(blocks: impl Into<Vec<Block>>) -> Self {
        let blocks = blocks.into();
        let uses_tool = blocks.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        let stop_reason = if uses_tool { "tool_use" } else { "end_turn" }.to_owned();
        Self::from(Outcome::Message { blocks, stop_reason, ending: Ending::Whole })
    }

    /// A plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::blocks([Block::Text(text.into())])
    }

    /// Reasoning, then a text.
    #[must_use]
    pub fn thinking_then_text(thinking: impl Into<String>, text: impl Into<String>) -> Self {
        Self::blocks([Block::Thinking(thinking.into()), Block::Text(text.into())])
    }

    /// The wish to use one tool.
    #[must_use]
    pub fn tool_use(name: impl Into<String>, input: Value) -> Self {
        Self::blocks([Block::ToolUse { name: name.into(), input }])
    }

    /// A text that depends on nothing but the last thing the user said.
    #[must_use]
    pub fn echo(request: &ModelRequest) -> Self {
        let said = request.last_user_text().unwrap_or_default();
        let start: String = said.chars().take(ECHO_CHARS_MAX).collect();
        Self::text(format!("echo of {} characters: {start}", said.chars().count()))
    }

    /// An HTTP error with the API's own error object for that status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let message = match status {
            401 => "invalid x-api-key",
            403 => "Your API key does not have permission to use the specified resource",
            404 => "model: not found",
            413 => "Request exceeds the maximum size",
            429 => "Number of requests has exceeded your rate limit",
            529 => "Overloaded",
            500.. => "Internal server error",
            _ => "Invalid request",
        };
        Self::from(Outcome::Status { status, message: message.to_owned(), retry_after_secs: None })
    }

    /// Headers, then comments only, until the client hangs up.
    #[must_use]
    pub fn stalled() -> Self {
        Self::from(Outcome::Stalled)
    }

    /// A message whose connection breaks after its first words.
    #[must_use]
    pub fn cut_mid_stream() -> Self {
        Self::text("This answer breaks off in the middle of a sentence, and nobody will").ending(Ending::Cut)
    }

    /// With a `Retry-After` header. Only an error status carries it.
    #[must_use]
    pub fn with_retry_after(mut self, secs: u64) -> Self {
        if let Outcome::Status { retry_after_secs, .. } = &mut self.outcome {
            *retry_after_secs = Some(secs);
        }
        self
    }

    /// With another error message. Only an error status carries it.
    #[must_use]
    pub fn with_message(mut self, text: impl Into<String>) -> Self {
        if let Outcome::Status { message, .. } = &mut self.outcome {
            *message = text.into();
        }
        self
    }

    /// With a pause before each delta (before the whole answer, where the client does not stream).
    #[must_use]
    pub fn slow(mut self, per_delta: Duration) -> Self {
        self.pause = per_delta;
        self
    }

    /// With another stop reason: `max_tokens`, `refusal`, … Only a message has one.
    #[must_use]
    pub fn stopping(mut self, reason: impl Into<String>) -> Self {
        if let Outcome::Message { stop_reason, .. } = &mut self.outcome {
            *stop_reason = reason.into();
        }
        self
    }

    /// Sent whole or not. Only a message has an ending.
    #[must_use]
    pub fn ending(mut self, wanted: Ending) -> Self {
        if let Outcome::Message { ending, .. } = &mut self.outcome {
            *ending = wanted;
        }
        self
    }
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, pause: Duration::ZERO }
    }
}
