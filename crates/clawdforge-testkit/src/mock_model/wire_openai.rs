//! A [`Message`] as the Responses API and chat completions send it. Reasoning is left out: the agents show none of it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Block;
use super::wire::{Message, Step, pieces, tokens};

/// As server-sent events of the Responses API.
pub(super) fn responses(message: &Message<'_>) -> Vec<Step> {
    let response = |status: &str, output: &[Value]| {
        json!({
            "id": format!("resp_mock_{:06}", message.number), "object": "response", "status": status,
            "model": message.request.model(), "output": output, "usage": responses_usage(message),
        })
    };
    let mut steps = vec![event("response.created", json!({ "response": response("in_progress", &[]) }))];
    let blocks = shown(message);
    let mut output = Vec::new();
    for (place, (index, block)) in blocks.iter().enumerate() {
        let item = responses_item(message, *index, block);
        let mut begun = item.clone();
        for key in ["content", "arguments"] {
            if begun.get(key).is_some() {
                begun[key] = if key == "content" { json!([]) } else { json!("") };
            }
        }
        steps.push(event("response.output_item.added", json!({ "output_index": place, "item": begun })));
        let (name, words) = match block {
            Block::ToolUse { input, .. } => ("response.function_call_arguments.delta", input.to_string()),
            Block::Text(words) | Block::Thinking(words) => ("response.output_text.delta", words.clone()),
        };
        for piece in pieces(&words) {
            let delta = json!({ "item_id": item["id"], "output_index": place, "content_index": 0, "delta": piece });
            let delta = event_bytes(name, delta);
            steps.extend([Step::Pause, Step::Send(delta.clone())]);
            let is_last = place + 1 == blocks.len();
            if let Some(end) = message.ending.in_place_of_the_rest(delta).filter(|_| is_last) {
                steps.push(end);
                return steps;
            }
        }
        steps.push(event("response.output_item.done", json!({ "output_index": place, "item": item })));
        output.push(item);
    }
    steps.push(event("response.completed", json!({ "response": response("completed", &output) })));
    steps
}

/// As server-sent events of chat completions.
pub(super) fn chat(message: &Message<'_>) -> Vec<Step> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": format!("chatcmpl-mock-{:06}", message.number), "object": "chat.completion.chunk", "created": 1,
            "model": message.request.model(), "choices": choices, "usage": usage,
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value| chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Value::Null);
    let mut steps = vec![Step::Send(delta(json!({ "role": "assistant", "content": "" })))];
    let blocks = shown(message);
    let mut calls = 0;
    for (place, (index, block)) in blocks.iter().enumerate() {
        let (head, words) = match block {
            Block::ToolUse { name, input } => {
                let function = json!({ "name": name, "arguments": "" });
                let call =
                    json!({ "index": calls, "id": message.tool_id(*index), "type": "function", "function": function });
                (Some(delta(json!({ "tool_calls": [call] }))), input.to_string())
            }
            Block::Text(words) | Block::Thinking(words) => (None, words.clone()),
        };
        let is_call = head.is_some();
        steps.extend(head.map(Step::Send));
        for piece in pieces(&words) {
            let said = if is_call {
                json!({ "tool_calls": [{ "index": calls, "function": { "arguments": piece } }] })
            } else {
                json!({ "content": piece })
            };
            let delta = delta(said);
            steps.extend([Step::Pause, Step::Send(delta.clone())]);
            let is_last = place + 1 == blocks.len();
            if let Some(end) = message.ending.in_place_of_the_rest(delta).filter(|_| is_last) {
                steps.push(end);
                return steps;
            }
        }
        calls += usize::from(is_call);
    }
    let finish = if calls > 0 { "tool_calls" } else { "stop" };
    steps.push(Step::Send(chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), Value::Null)));
    let (input, output) = (tokens(message.request.body_bytes), message.output_tokens());
    let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
    steps.push(Step::Send(chunk(json!([]), usage)));
    steps.push(Step::Send(Bytes::from_static(b"data: [DONE]\n\n")));
    steps
}

/// The error object of both.
pub(super) fn error_object(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_exceeded",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": { "message": message, "type": kind, "code": kind, "param": null } })
}

fn shown<'a>(message: &Message<'a>) -> Vec<(usize, &'a Block)> {
    message.blocks.iter().enumerate().filter(|(_, block)| !matches!(block, Block::Thinking(_))).collect()
}

fn responses_item(message: &Message<'_>, index: usize, block: &Block) -> Value {
    match block {
        Block::ToolUse { name, input } => json!({
            "type": "function_call", "id": format!("fc_{:06}_{index}", message.number), "call_id": message.tool_id(index),
            "name": name, "arguments": input.to_string(), "status": "completed",
        }),
        Block::Text(words) | Block::Thinking(words) => json!({
            "type": "message", "id": format!("msg_{:06}_{index}", message.number), "role": "assistant",
            "status": "completed", "content": [{ "type": "output_text", "text": words, "annotations": [] }],
        }),
    }
}

fn responses_usage(message: &Message<'_>) -> Value {
    let (input, output) = (tokens(message.request.body_bytes), message.output_tokens());
    json!({
        "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output,
    })
}

fn event(name: &str, data: Value) -> Step {
    Step::Send(event_bytes(name, data))
}

fn event_bytes(name: &str, mut data: Value) -> Bytes {
    data["type"] = json!(name);
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
