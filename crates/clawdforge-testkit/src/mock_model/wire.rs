//! From a [`Reply`] to what stands on the wire: a list of steps that the server sends one after another.
//!
//! Pure: the same reply to the same request number gives the same bytes.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Block, Ending, ModelRequest};

/// Bytes of text that make one token, near enough for costs that look real.
const BYTES_PER_TOKEN: usize = 4;
/// A text is sent in pieces of at least this many characters …
const DELTA_CHARS_MIN: usize = 12;
/// … and in about this many pieces at most, so that a long text does not take a line for each word.
const DELTAS_MAX: usize = 64;

/// One thing the server does while it answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Sends bytes.
    Send(Bytes),
    /// Waits as long as the reply's pause.
    Pause,
    /// Breaks the connection; nothing follows.
    Cut,
    /// Sends comments until the client goes; nothing follows.
    Stall,
    /// Sends the same until the client goes, with the reply's pause before each time; nothing follows.
    Repeat(Bytes),
}

/// A message on its way to one request.
pub(super) struct Message<'a> {
    /// The request's number, for ids.
    pub(super) number: u64,
    pub(super) request: &'a ModelRequest,
    pub(super) blocks: &'a [Block],
    pub(super) stop_reason: &'a str,
    pub(super) ending: Ending,
}

impl Message<'_> {
    /// The message as server-sent events.
    pub(super) fn stream(&self) -> Vec<Step> {
        let mut start = self.whole();
        start["content"] = json!([]);
        start["stop_reason"] = Value::Null;
        start["usage"]["output_tokens"] = json!(1);
        let mut steps = vec![event(&json!({ "type": "message_start", "message": start }))];
        for (index, block) in self.blocks.iter().enumerate() {
            let last = index + 1 == self.blocks.len();
            if self.push_block(index, block, last, &mut steps) == Flow::Ended {
                return steps;
            }
        }
        steps.push(event(&json!({
            "type": "message_delta",
            "delta": { "stop_reason": self.stop_reason, "stop_sequence": null },
            "usage": { "output_tokens": self.output_tokens() },
        })));
        steps.push(event(&json!({ "type": "message_stop" })));
        steps
    }

    /// The message as one JSON object, in two pieces so that it can break off between them.
    pub(super) fn object(&self) -> Vec<Step> {
        let bytes = Bytes::from(self.whole().to_string());
        let middle = bytes.len() / 2;
        let rest = match self.ending {
            Ending::Whole => Step::Send(bytes.slice(middle..)),
            Ending::Cut => Step::Cut,
            Ending::Stalled | Ending::Endless => Step::Stall,
            Ending::Garbled => Step::Send(GARBAGE),
        };
        vec![Step::Pause, Step::Send(bytes.slice(..middle)), rest]
    }

    fn push_block(&self, index: usize, block: &Block, last: bool, steps: &mut Vec<Step>) -> Flow {
        steps.push(event(&json!({
            "type": "content_block_start", "index": index, "content_block": self.empty_block(index, block),
        })));
        for delta in deltas(block) {
            let delta = event_bytes(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            steps.extend([Step::Pause, Step::Send(delta.clone())]);
            if let Some(end) = self.ending.in_place_of_the_rest(delta).filter(|_| last) {
                steps.push(end);
                return Flow::Ended;
            }
        }
        steps.push(event(&json!({ "type": "content_block_stop", "index": index })));
        Flow::GoesOn
    }

    fn whole(&self) -> Value {
        let content: Vec<Value> =
            self.blocks.iter().enumerate().map(|(index, block)| self.full_block(index, block)).collect();
        json!({
            "id": format!("msg_mock_{:06}", self.number),
            "type": "message",
            "role": "assistant",
            "model": self.request.model(),
            "content": content,
            "stop_reason": self.stop_reason,
            "stop_sequence": null,
            "usage": {
                "input_tokens": tokens(self.request.body_bytes),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": self.output_tokens(),
            },
        })
    }

    fn full_block(&self, index: usize, block: &Block) -> Value {
        match block {
            Block::Thinking(thinking) => {
                json!({ "type": "thinking", "thinking": thinking, "signature": SIGNATURE })
            }
            Block::Text(text) => json!({ "type": "text", "text": text }),
            Block::ToolUse { name, input } => {
                json!({ "type": "tool_use", "id": self.tool_id(index), "name": name, "input": input })
            }
        }
    }

    fn empty_block(&self, index: usize, block: &Block) -> Value {
        match block {
            Block::Thinking(_) => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Block::Text(_) => json!({ "type": "text", "text": "" }),
            Block::ToolUse { name, .. } => {
                json!({ "type": "tool_use", "id": self.tool_id(index), "name": name, "input": {} })
            }
        }
    }

    pub(super) fn tool_id(&self, index: usize) -> String {
        format!("toolu_mock_{:06}_{index}", self.number)
    }

    pub(super) fn output_tokens(&self) -> usize {
        let bytes = self.blocks.iter().map(|block| match block {
            Block::Thinking(text) | Block::Text(text) => text.len(),
            Block::ToolUse { name, input } => name.len() + input.to_string().len(),
        });
        tokens(bytes.sum())
    }
}

impl Ending {
    /// What follows the first delta of the last block, where that is not the rest of the message.
    pub(super) fn in_place_of_the_rest(self, delta: Bytes) -> Option<Step> {
        match self {
            Self::Whole => None,
            Self::Cut => Some(Step::Cut),
            Self::Stalled => Some(Step::Stall),
            Self::Endless => Some(Step::Repeat(delta)),
            Self::Garbled => Some(Step::Send(GARBAGE)),
        }
    }
}

/// Bytes that are no text, an event of no known kind that holds half an object, and a line that is no field.
const GARBAGE: Bytes = Bytes::from_static(
    b"data: \xff\xfe\x00\n\nevent: no_such_event\ndata: {\"type\": [1, \n\n<html>502 Bad Gateway</html>\n\n",
);

/// Whether there is more to send.
#[derive(PartialEq)]
enum Flow {
    GoesOn,
    Ended,
}

/// Stands for the signature of a thinking block, which agents hand back untouched.
const SIGNATURE: &str = "bW9jay1zaWduYXR1cmU=";

/// How many tokens a text of so many bytes has; never none.
pub(super) fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(BYTES_PER_TOKEN).max(1)
}

/// The API's error object for a status.
pub(super) fn error_object(status: u16, message: &str, request_id: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": request_id })
}

fn event(data: &Value) -> Step {
    Step::Send(event_bytes(data))
}

fn event_bytes(data: &Value) -> Bytes {
    let name = data["type"].as_str().unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn deltas(block: &Block) -> Vec<Value> {
    match block {
        Block::Thinking(text) => {
            let thoughts = pieces(text).map(|piece| json!({ "type": "thinking_delta", "thinking": piece }));
            thoughts.chain([json!({ "type": "signature_delta", "signature": SIGNATURE })]).collect()
        }
        Block::Text(text) => pieces(text).map(|piece| json!({ "type": "text_delta", "text": piece })).collect(),
        Block::ToolUse { input, .. } => {
            let input = input.to_string();
            pieces(&input).map(|piece| json!({ "type": "input_json_delta", "partial_json": piece })).collect()
        }
    }
}

/// Cuts a text into pieces on character boundaries. An empty text is one empty piece.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let chars_each = (text.chars().count() / DELTAS_MAX).max(DELTA_CHARS_MIN);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let now = rest?;
        let cut = now.char_indices().nth(chars_each).map(|(at, _)| at);
        rest = cut.map(|at| &now[at..]);
        Some(cut.map_or(now, |at| &now[..at]))
    })
}
