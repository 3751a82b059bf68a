//! Two other providers' ways of asking, read as the Messages API would have put it, so that every question a test asks
//! of a request works for all agents.
//!
//! Recognised as Codex 0.166 sends them (the Responses API) and Copilot 1.0.102 with a key of one's own (chat completions),
//! recorded on 2026-11-25.

use serde_json::{Value, json};

use super::request::REMINDER_MARKER;

/// Which of the providers' interfaces was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's chat completions.
    Chat,
}

impl Api {
    /// The body of a request in the words of the Messages API.
    pub(super) fn as_messages(self, body: &Value) -> Value {
        match self {
            Self::Messages => body.clone(),
            Self::Responses => responses(body),
            Self::Chat => chat(body),
        }
    }
}

fn responses(body: &Value) -> Value {
    let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (mut system, mut messages) = (Vec::new(), Vec::new());
    for item in items {
        let texts = || item["content"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
        match (item["type"].as_str().unwrap_or("message"), item["role"].as_str()) {
            ("message", Some("user")) => messages.push(said("user", texts().map(text).collect())),
            ("message", Some("assistant")) => messages.push(said("assistant", texts().map(text).collect())),
            ("message", _) => system.extend(texts().map(text)),
            ("function_call", _) => messages.push(said("assistant", vec![tool_use(item)])),
            ("function_call_output", _) => {
                messages.push(said("user", vec![tool_result(&item["call_id"], output_text(&item["output"]))]));
            }
            _ => {}
        }
    }
    let tools = body["tools"].as_array().into_iter().flatten().filter(|tool| tool["name"].is_string());
    let tools: Vec<Value> = tools.map(|tool| json!({ "name": tool["name"] })).collect();
    json!({
        "model": body["model"], "stream": body["stream"], "system": system, "messages": messages, "tools": tools,
        "output_config": { "effort": body["reasoning"]["effort"], "format": body["text"]["format"] },
    })
}

fn chat(body: &Value) -> Value {
    let (mut system, mut messages) = (Vec::new(), Vec::new());
    for message in body["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        match message["role"].as_str() {
            Some("user") => messages.push(said("user", user_texts(&output_text(&message["content"])))),
            Some("assistant") => {
                let mut blocks: Vec<Value> =
                    message["content"].as_str().filter(|said| !said.is_empty()).map(text).into_iter().collect();
                blocks.extend(message["tool_calls"].as_array().into_iter().flatten().map(|call| {
                    let function = &call["function"];
                    let item =
                        json!({ "call_id": call["id"], "name": function["name"], "arguments": function["arguments"] });
                    tool_use(&item)
                }));
                messages.push(said("assistant", blocks));
            }
            Some("tool") => {
                let answered = tool_result(&message["tool_call_id"], output_text(&message["content"]));
                messages.push(said("user", vec![answered]));
            }
            _ => system.push(text(&output_text(&message["content"]))),
        }
    }
    let tools = body["tools"].as_array().into_iter().flatten();
    let tools: Vec<Value> = tools.map(|tool| json!({ "name": tool["function"]["name"] })).collect();
    json!({
        "model": body["model"], "stream": body["stream"], "system": system, "messages": messages, "tools": tools,
        "output_config": { "effort": body["reasoning_effort"], "format": Value::Null },
    })
}

/// Copilot writes the time in front of what its user said; that is a note of the agent's.
fn user_texts(said: &str) -> Vec<Value> {
    let note = said.strip_prefix("<current_datetime>").and_then(|rest| rest.split_once("</current_datetime>"));
    match note {
        Some((time, words)) => vec![text(&format!("{REMINDER_MARKER}{time}")), text(words.trim_start())],
        None => vec![text(said)],
    }
}

fn said(role: &str, content: Vec<Value>) -> Value {
    json!({ "role": role, "content": content })
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn tool_use(item: &Value) -> Value {
    let input: Value = item["arguments"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    json!({ "type": "tool_use", "id": item["call_id"], "name": item["name"], "input": input })
}

fn tool_result(id: &Value, content: String) -> Value {
    json!({ "type": "tool_result", "tool_use_id": id, "content": content })
}

/// Text given as a string or in parts.
fn output_text(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
