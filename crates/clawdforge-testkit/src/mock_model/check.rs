//! The rules of the Messages API that every request must keep.
//!
//! They are the real API's own: it answers 400 or 401 to what is reported here. A rule lives here only if an agent
//! (or our handling of one) could plausibly break it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Api, ModelRequest};

/// The rules a request breaks, one sentence each.
pub(super) fn violations(request: &ModelRequest) -> Vec<String> {
    let mut found = Vec::new();
    if request.api != Api::Messages {
        if request.credential().is_none() {
            found.push("no bearer token".to_owned());
        }
        if request.model().is_empty() || request.messages().is_empty() {
            found.push("no model is named, or nothing is asked of it".to_owned());
        }
        return found;
    }
    check_head(request, &mut found);
    if !request.body.is_object() {
        found.push("the body is no JSON object".to_owned());
        return found;
    }
    if request.model().is_empty() {
        found.push("no model is named".to_owned());
    }
    if request.body["max_tokens"].as_u64().is_none_or(|tokens| tokens == 0) {
        found.push("max_tokens is no positive integer".to_owned());
    }
    check_roles(request.messages(), &mut found);
    check_tools(request.messages(), &mut found);
    found
}

fn check_head(request: &ModelRequest, found: &mut Vec<String>) {
    if request.credential().is_none() {
        found.push("neither x-api-key nor a bearer token".to_owned());
    }
    if request.header("anthropic-version").is_none() {
        found.push("no anthropic-version header".to_owned());
    }
    let content_type = request.header("content-type").unwrap_or_default();
    if !content_type.starts_with("application/json") {
        found.push(format!("the content type is {content_type:?}, not application/json"));
    }
}

fn check_roles(messages: &[Value], found: &mut Vec<String>) {
    let mut spoken = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match message["role"].as_str() {
            Some("system") => {}
            Some(role @ ("user" | "assistant")) => spoken.push(role),
            other => found.push(format!("message {index} has the role {other:?}")),
        }
        let empty = match &message["content"] {
            Value::String(text) => text.is_empty(),
            Value::Array(blocks) => {
                blocks.is_empty() || blocks.iter().any(|block| block["type"] == "text" && block["text"] == "")
            }
            _ => true,
        };
        if empty {
            found.push(format!("message {index} has no content or an empty text"));
        }
    }
    if spoken.first() != Some(&"user") {
        found.push("the first message is not the user's".to_owned());
    }
    if spoken.last() == Some(&"assistant") {
        found.push("the last message is the assistant's".to_owned());
    }
    if spoken.windows(2).any(|pair| pair == ["assistant", "assistant"]) {
        found.push("two messages of the assistant in a row".to_owned());
    }
}

/// Each tool use is answered by the message after it, and nothing else is answered.
fn check_tools(messages: &[Value], found: &mut Vec<String>) {
    let spoken = messages.iter().filter(|message| message["role"] != "system");
    let mut open = BTreeSet::new();
    for message in spoken {
        let answered = ids(message, "tool_result", "tool_use_id");
        for id in answered.difference(&open) {
            found.push(format!("a tool_result answers {id}, which the message before it did not use"));
        }
        for id in open.difference(&answered) {
            found.push(format!("the tool use {id} is not answered by the next message"));
        }
        open = ids(message, "tool_use", "id");
    }
}

fn ids<'a>(message: &'a Value, kind: &str, key: &str) -> BTreeSet<&'a str> {
    let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter(|block| block["type"] == kind).filter_map(|block| block[key].as_str()).collect()
}
