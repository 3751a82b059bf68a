//! The mock model as OpenAI's two APIs, which stream only.

use anyhow::{Context as _, Result};
use clawdforge_testkit::mock_model::{Api, Block, Ending, MockModel, Reply, SideRequest};
use serde_json::{Value, json};

use crate::asking::{DEADLINE, client, events};

const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";

/// A request as Codex sends it.
fn codex(prompt: &str) -> Value {
    let message = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }] });
    json!({
        "model": "gpt-5.5",
        "stream": true,
        "tools": [{ "type": "function", "name": "exec_command" }, { "type": "web_search" }],
        "reasoning": { "effort": "medium", "summary": "auto" },
        "input": [message("developer", "You are Codex."), message("user", "<environment_context>x"), message("user", prompt)],
    })
}

/// A request as Copilot sends it.
fn copilot(prompt: &str) -> Value {
    let note = "<current_datetime>2026-11-25T17:18:20.770+00:00</current_datetime>\n\n";
    json!({
        "model": "mock-model",
        "stream": true,
        "stream_options": { "include_usage": true },
        "tools": [{ "type": "function", "function": { "name": "bash" } }],
        "messages": [
            { "role": "system", "content": "You are GitHub Copilot." },
            { "role": "user", "content": format!("{note}{prompt}") },
        ],
    })
}

async fn ask(model: &MockModel, path: &str, body: &Value) -> Result<reqwest::Response> {
    let request = client().post(format!("{}{path}", model.base_url())).bearer_auth("fake");
    Ok(request.header("content-type", "application/json").body(body.to_string()).send().await?)
}

#[tokio::test]
async fn a_response_is_streamed_event_by_event() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Hello, world!"));
    let body = codex("Say hello.");
    let response = ask(&model, RESPONSES, &body).await?;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let stream = response.text().await?;
    let events = events(&stream);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected = [
        "response.created",
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, expected);
    let named: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(named, expected, "each event is named as its data says");
    assert_eq!((&events[2]["delta"], &events[3]["delta"]), (&json!("Hello, world"), &json!("!")));
    assert_eq!((&events[1]["item"]["content"], &events[2]["item_id"]), (&json!([]), &events[4]["item"]["id"]));
    let whole = json!([{ "type": "output_text", "text": "Hello, world!", "annotations": [] }]);
    assert_eq!(events[4]["item"]["content"], whole);
    let last = &events[5]["response"];
    assert_eq!((&last["status"], &last["output"][0]["content"]), (&json!("completed"), &whole));
    let input = body.to_string().len().div_ceil(4);
    assert_eq!((&last["usage"]["input_tokens"], &last["usage"]["total_tokens"]), (&json!(input), &json!(input + 4)));
    assert_eq!(model.violations(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_completion_is_streamed_chunk_by_chunk_and_ends_with_its_usage() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Hello, world!"));
    let body = copilot("Say hello.");
    let stream = ask(&model, CHAT, &body).await?.text().await?;
    assert!(stream.ends_with("\n\ndata: [DONE]\n\n") && !stream.contains("event:"), "{stream}");
    let chunks = events(&stream);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let (begin, end) = (json!({ "role": "assistant", "content": "" }), json!({}));
    let (one, two) = (json!({ "content": "Hello, world" }), json!({ "content": "!" }));
    assert_eq!(deltas, [&begin, &one, &two, &end, &Value::Null]);
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    let input = body.to_string().len().div_ceil(4);
    let usage = json!({ "prompt_tokens": input, "completion_tokens": 4, "total_tokens": input + 4 });
    assert_eq!((&chunks[4]["choices"], &chunks[4]["usage"]), (&json!([]), &usage));
    assert_eq!(model.violations(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn the_wish_for_a_tool_carries_its_input_in_pieces_and_whole() -> Result<()> {
    let model = MockModel::start().await?;
    let input = json!({ "cmd": "echo one && echo two && echo three" });
    let reply = Reply::blocks([
        Block::Thinking("Hm.".into()),
        Block::Text("I run it.".into()),
        Block::ToolUse { name: "exec_command".into(), input: input.clone() },
    ]);

    model.reply_next(reply.clone());
    let events_of = events(&ask(&model, RESPONSES, &codex("Run it.")).await?.text().await?);
    let joined = |kind: &str| -> String {
        events_of.iter().filter(|event| event["type"] == kind).filter_map(|event| event["delta"].as_str()).collect()
    };
    assert_eq!(serde_json::from_str::<Value>(&joined("response.function_call_arguments.delta"))?, input);
    let done: Vec<&Value> = events_of.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    assert_eq!(done.len(), 2, "reasoning is left out");
    assert_eq!(
        (&done[1]["item"]["name"], &done[1]["item"]["call_id"]),
        (&json!("exec_command"), &json!("toolu_mock_000001_2"))
    );
    assert_eq!(serde_json::from_str::<Value>(done[1]["item"]["arguments"].as_str().context("text")?)?, input);

    model.reply_next(reply);
    let chunks = events(&ask(&model, CHAT, &copilot("Run it.")).await?.text().await?);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    assert_eq!(
        (&calls[0]["id"], &calls[0]["function"]["name"]),
        (&json!("toolu_mock_000002_2"), &json!("exec_command"))
    );
    assert!(calls.iter().all(|call| call["index"] == 0), "{calls:?}");
    let arguments: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments)?, input);
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    Ok(())
}

#[tokio::test]
async fn an_error_status_has_the_error_object_of_openai() -> Result<()> {
    let model = MockModel::start().await?;
    for (status, kind) in [(401, "authentication_error"), (429, "rate_limit_exceeded"), (500, "server_error")] {
        for (path, body) in [(RESPONSES, codex("Hello?")), (CHAT, copilot("Hello?"))] {
            model.reply_next(Reply::status(status).with_retry_after(7).with_message("no"));
            let response = ask(&model, path, &body).await?;
            assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (status, &"7".parse()?));
            let body: Value = response.json().await?;
            assert_eq!((&body["error"]["type"], &body["error"]["message"]), (&json!(kind), &json!("no")));
        }
    }
    Ok(())
}

#[tokio::test]
async fn answers_can_go_on_without_an_end_and_become_garbage() -> Result<()> {
    let model = MockModel::start().await?;
    for (path, body, end) in [(RESPONSES, codex("Go on."), "response.completed"), (CHAT, copilot("Go on."), "[DONE]")] {
        model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Endless));
        let mut response = ask(&model, path, &body).await?;
        let mut got = String::new();
        while got.matches("Once upon a ").count() < 1_000 {
            got.push_str(std::str::from_utf8(&response.chunk().await?.context("more")?)?);
        }
        drop(response);
        model.wait_until_idle(DEADLINE).await?;
        model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Garbled));
        let got = ask(&model, path, &body).await?.bytes().await?;
        let got = String::from_utf8_lossy(&got);
        assert!(got.contains("no_such_event") && !got.contains(end), "{got}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_can_stall_and_break_off() -> Result<()> {
    let model = MockModel::start().await?;
    for (path, body, end) in [(RESPONSES, codex("Go on."), "response.completed"), (CHAT, copilot("Go on."), "[DONE]")] {
        model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Stalled));
        let mut response = ask(&model, path, &body).await?;
        let mut got = String::new();
        while !got.contains(": ping") {
            got.push_str(std::str::from_utf8(&response.chunk().await?.context("more")?)?);
        }
        assert!(got.contains("Once upon a ") && !got.contains("nothing") && !got.contains(end), "{got}");
        drop(response);
        model.wait_until_idle(DEADLINE).await?;
        model.reply_next(Reply::cut_mid_stream());
        assert!(ask(&model, path, &body).await?.text().await.is_err(), "the body must not end in good order");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_can_be_asked_what_it_carries() -> Result<()> {
    let model = MockModel::start().await?;
    ask(&model, RESPONSES, &codex("Read notes.txt")).await?.text().await?;
    ask(&model, CHAT, &copilot("Read notes.txt")).await?.text().await?;
    let requests = model.turn_requests();
    let [codex, copilot] = requests.as_slice() else { anyhow::bail!("{} requests", requests.len()) };
    assert_eq!((codex.api, copilot.api), (Api::Responses, Api::Chat));
    for (request, system, tool) in
        [(codex, "You are Codex.", "exec_command"), (copilot, "You are GitHub Copilot.", "bash")]
    {
        assert_eq!(request.last_user_text(), Some("Read notes.txt"));
        assert_eq!((request.system_text().as_str(), request.tools()), (system, vec![tool]));
        assert_eq!(request.credential(), Some("fake"));
        assert!(request.wants_stream() && request.tool_answers().is_empty());
    }
    assert_eq!((codex.effort(), copilot.effort()), (Some("medium"), None));
    Ok(())
}

#[tokio::test]
async fn the_title_codex_asks_for_uses_up_nothing() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("for the turn"));
    let mut title = codex("Your task is to generate a very short title");
    title["tools"] = Value::Null;
    title["text"] = json!({ "format": { "type": "json_schema", "schema": { "type": "object", "properties": { "title": { "type": "string" } } } } });
    let titled = ask(&model, RESPONSES, &title).await?.text().await?;
    assert!(titled.contains("A session with the mock model"), "{titled}");
    let said = ask(&model, RESPONSES, &codex("Hello")).await?.text().await?;
    assert!(said.contains("for the turn"), "{said}");
    let kinds: Vec<_> = model.requests().iter().map(|request| request.side_request()).collect();
    assert_eq!(kinds, [Some(SideRequest::SessionTitle), None]);
    Ok(())
}
