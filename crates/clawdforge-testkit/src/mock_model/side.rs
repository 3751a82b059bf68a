//! Requests an agent makes on its own account, and the answers that keep it content.
//!
//! Recognised as Claude Code 2.1.330 and its ACP adapter 0.101.0 send them (2026-11-22), by shape rather than by words
//! a prompt is likely to contain: a title wants a schema with nothing but `title`, a suggestion begins with its marker,
//! a classifier has no tools and a system text that asks for a `<block>`. Titles and suggestions were recorded from
//! these programs; the classifier is taken from the answer the program parses, as it never asked a loopback model.

use serde_json::{Value, json};

use super::{ModelRequest, Reply};

/// The first words of the message that asks for a prompt suggestion.
const SUGGESTION_MARKER: &str = "[SUGGESTION MODE:";

/// What a side request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideRequest {
    /// A name for the session, for lists.
    SessionTitle,
    /// What the user might say next.
    PromptSuggestion,
    /// Whether a tool call is harmless, in modes that do not ask a person.
    PermissionClassifier,
}

impl SideRequest {
    /// What the request is for, or `None` for a request of a turn.
    pub(super) fn recognise(request: &ModelRequest) -> Option<Self> {
        let no_tools = request.tools().is_empty();
        if no_tools && wants_only_a_title(&request.body) {
            return Some(Self::SessionTitle);
        }
        if request.last_user_text().is_some_and(|text| text.starts_with(SUGGESTION_MARKER)) {
            return Some(Self::PromptSuggestion);
        }
        (no_tools && request.system_text().contains("<block>")).then_some(Self::PermissionClassifier)
    }

    /// The answer that lets the agent go on: a title, no suggestion, no objection.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::SessionTitle => Reply::text(json!({ "title": "A session with the mock model" }).to_string()),
            Self::PromptSuggestion => Reply::text("go on"),
            Self::PermissionClassifier => Reply::text("<block>no</block>"),
        }
    }
}

fn wants_only_a_title(body: &Value) -> bool {
    let properties = body.pointer("/output_config/format/schema/properties").and_then(Value::as_object);
    properties.is_some_and(|properties| properties.len() == 1 && properties.contains_key("title"))
}
