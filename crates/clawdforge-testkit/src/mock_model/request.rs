//! A request as it arrived, with the questions tests ask of it.

use serde_json::Value;

use super::{Api, SideRequest};

/// How the notes begin that an agent adds to the user's words.
pub(super) const REMINDER_MARKER: &str = "<system-reminder>";

/// One request to a model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Headers in the order they came, names in lower case; a value that is no UTF-8 is shown lossily.
    pub headers: Vec<(String, String)>,
    /// Which interface was asked.
    pub api: Api,
    /// The body; `Null` where it was no JSON. Whatever the interface, in the words of the Messages API.
    pub body: Value,
    /// Size of the body as it was sent, in bytes.
    pub body_bytes: usize,
}

/// The result of a tool, as the agent hands it to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolAnswer {
    /// The id of the `tool_use` it answers.
    pub tool_use_id: String,
    /// Its text, all blocks joined by line breaks; other blocks as `[image]` and the like.
    pub text: String,
    /// Whether the agent calls it an error.
    pub is_error: bool,
}

impl ModelRequest {
    /// A header's value; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The key or token the agent signed in with, from `x-api-key` or `authorization: Bearer`.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        let bearer = || self.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        self.header("x-api-key").or_else(bearer).filter(|value| !value.is_empty())
    }

    /// The model asked for; empty where none was named.
    #[must_use]
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Whether the answer is wanted as a stream.
    #[must_use]
    pub fn wants_stream(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or(false)
    }

    /// The whole system prompt, its blocks joined by line breaks.
    #[must_use]
    pub fn system_text(&self) -> String {
        text_of(&self.body["system"])
    }

    /// The last thing the user said, without the notes an agent adds and without tool results.
    #[must_use]
    pub fn last_user_text(&self) -> Option<&str> {
        let users = self.messages().iter().rev().filter(|message| message["role"] == "user");
        users.flat_map(texts_backwards).find(|text| !text.starts_with(REMINDER_MARKER))
    }

    /// The reasoning effort asked for.
    #[must_use]
    pub fn effort(&self) -> Option<&str> {
        self.body.pointer("/output_config/effort").and_then(Value::as_str)
    }

    /// The names of the tools the model may use.
    #[must_use]
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
    }

    /// The tool results in the newest user message: empty unless the agent has just used a tool.
    #[must_use]
    pub fn tool_answers(&self) -> Vec<ToolAnswer> {
        let newest = self.messages().iter().rev().find(|message| message["role"] == "user");
        let blocks = newest.and_then(|message| message["content"].as_array()).map(Vec::as_slice).unwrap_or_default();
        let results = blocks.iter().filter(|block| block["type"] == "tool_result");
        results
            .map(|block| ToolAnswer {
                tool_use_id: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
                text: text_of(&block["content"]),
                is_error: block["is_error"].as_bool().unwrap_or(false),
            })
            .collect()
    }

    /// What the request is for, when it is not for a turn.
    #[must_use]
    pub fn side_request(&self) -> Option<SideRequest> {
        SideRequest::recognise(self)
    }

    /// Whether the agent asks on its own account.
    #[must_use]
    pub fn is_side_request(&self) -> bool {
        self.side_request().is_some()
    }

    /// The messages, oldest first; empty where there are none.
    #[must_use]
    pub fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// The texts of a message, last first.
fn texts_backwards(message: &Value) -> Vec<&str> {
    match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().rev().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Text given as a string or as blocks.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().map(|block| match block["text"].as_str() {
                Some(text) => text.to_owned(),
                None => format!("[{}]", block["type"].as_str().unwrap_or("unknown")),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
