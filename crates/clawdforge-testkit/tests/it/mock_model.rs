//! What the mock model answers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clawdforge_testkit::mock_model::{Block, Ending, MockModel, Reply};
use serde_json::{Value, json};

use crate::asking::{DEADLINE, ask, client, events, joined, turn, unstreamed_turn};

const HELLO_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_mock_000001","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":INPUT,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello, world"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"!"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[tokio::test]
async fn a_text_is_streamed_in_the_api_s_own_shape() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Hello, world!"));
    let body = turn("Say hello.");
    let response = ask(&model, &body).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["request-id"], "req_mock_000001");
    let input_tokens = body.to_string().len().div_ceil(4).to_string();
    assert_eq!(response.text().await?, HELLO_STREAM.replace("INPUT", &input_tokens));
    assert_eq!(model.violations(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_stream_gets_one_object() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::thinking_then_text("Hm.", "Hello, world!").stopping("max_tokens"));
    let answer: Value = ask(&model, &unstreamed_turn("Say hello.")).await?.json().await?;
    assert_eq!(answer["content"][0]["thinking"], "Hm.");
    assert_eq!(answer["content"][1], json!({ "type": "text", "text": "Hello, world!" }));
    assert_eq!(answer["stop_reason"], "max_tokens");
    assert_eq!(answer["usage"]["output_tokens"], 4);
    Ok(())
}

#[tokio::test]
async fn thinking_comes_before_the_text_and_is_signed() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::thinking_then_text("Six times seven is what was asked.", "It is 42."));
    let stream = ask(&model, &turn("What is it?")).await?.text().await?;
    assert_eq!(joined(&stream, "thinking"), "Six times seven is what was asked.");
    assert_eq!(joined(&stream, "text"), "It is 42.");
    assert!(!joined(&stream, "signature").is_empty());
    assert!(stream.find("signature_delta") < stream.find("text_delta"));
    Ok(())
}

#[tokio::test]
async fn a_tool_use_carries_its_input_in_pieces_of_json() -> Result<()> {
    let model = MockModel::start().await?;
    let input = json!({ "file_path": "/somewhere/a file with a longer name.txt" });
    model.reply_next(Reply::blocks([
        Block::Text("I look.".into()),
        Block::ToolUse { name: "Read".into(), input: input.clone() },
    ]));
    let stream = ask(&model, &turn("Read it.")).await?.text().await?;
    assert_eq!(serde_json::from_str::<Value>(&joined(&stream, "partial_json"))?, input);
    let events = events(&stream);
    let start = events.iter().find(|event| event["content_block"]["type"] == "tool_use").context("a tool use")?;
    assert_eq!(start["content_block"]["name"], "Read");
    assert_eq!(start["content_block"]["id"], "toolu_mock_000001_1");
    assert_eq!(start["content_block"]["input"], json!({}));
    assert!(events.iter().any(|event| event["delta"]["stop_reason"] == "tool_use"));
    Ok(())
}

#[tokio::test]
async fn a_long_text_in_many_scripts_arrives_whole() -> Result<()> {
    let model = MockModel::start().await?;
    let text = "naïve 日本語 🦀 ".repeat(20_000);
    model.reply_next(Reply::text(text.clone()));
    let stream = ask(&model, &turn("Write.")).await?.text().await?;
    assert_eq!(joined(&stream, "text"), text);
    assert!(events(&stream).len() < 100);
    Ok(())
}

#[tokio::test]
async fn an_error_status_has_the_api_s_error_object_and_retry_after() -> Result<()> {
    let model = MockModel::start().await?;
    let cases =
        [(401, "authentication_error"), (429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")];
    for (status, kind) in cases {
        model.reply_next(Reply::status(status).with_retry_after(7).with_message("no"));
        let response = ask(&model, &turn("Hello?")).await?;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        let body: Value = response.json().await?;
        assert_eq!(body["error"], json!({ "type": kind, "message": "no" }));
    }
    Ok(())
}

#[tokio::test]
async fn a_cut_answer_ends_in_a_broken_connection() -> Result<()> {
    let model = MockModel::start().await?;
    for body in [turn("Go on."), unstreamed_turn("Go on.")] {
        model.reply_next(Reply::cut_mid_stream());
        let mut response = ask(&model, &body).await?;
        assert_eq!(response.status(), 200);
        let mut got = Vec::new();
        let end = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                end => break end,
            }
        };
        assert!(end.is_err(), "the body must not end in good order");
        let got = String::from_utf8(got)?;
        assert!(got.contains("This answer"), "{got}");
        assert!(!got.contains("message_stop"), "{got}");
    }
    model.wait_until_idle(DEADLINE).await
}

#[tokio::test]
async fn a_stalled_answer_lasts_until_the_client_hangs_up() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::stalled());
    let mut response = ask(&model, &turn("Hello?")).await?;
    for _ in 0..3 {
        let bytes = response.chunk().await?.context("a comment")?;
        assert!(bytes.starts_with(b": ping"));
    }
    assert_eq!(model.open_replies(), 1);
    drop(response);
    model.wait_until_idle(DEADLINE).await
}

#[tokio::test]
async fn an_answer_can_stall_after_its_first_words() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Stalled));
    let mut response = ask(&model, &turn("A story.")).await?;
    let mut got = String::new();
    while !got.contains(": ping") {
        got.push_str(std::str::from_utf8(&response.chunk().await?.context("more")?)?);
    }
    assert_eq!(joined(&got, "text"), "Once upon a ");
    assert!(!got.contains("content_block_stop"));
    Ok(())
}

#[tokio::test]
async fn an_answer_can_go_on_without_an_end_until_the_client_hangs_up() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Endless));
    let mut response = ask(&model, &turn("A story.")).await?;
    let mut got = String::new();
    while got.matches("Once upon a ").count() < 1_000 {
        got.push_str(std::str::from_utf8(&response.chunk().await?.context("more")?)?);
    }
    assert!(!got.contains("nothing"));
    drop(response);
    model.wait_until_idle(DEADLINE).await
}

#[tokio::test]
async fn an_answer_can_become_garbage_after_its_first_words() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("Once upon a time, nothing happened.").ending(Ending::Garbled));
    let got = ask(&model, &turn("A story.")).await?.bytes().await?;
    let got = String::from_utf8_lossy(&got);
    assert!(got.contains("Once upon a ") && got.contains("no_such_event"), "{got}");
    assert!(got.contains(char::REPLACEMENT_CHARACTER) && !got.contains("message_stop"), "{got}");
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_pauses_before_each_delta() -> Result<()> {
    let model = MockModel::start().await?;
    let pause = Duration::from_millis(30);
    model.reply_next(Reply::text("Twelve chars".repeat(4)).slow(pause));
    let began = Instant::now();
    let stream = ask(&model, &turn("Slowly.")).await?.text().await?;
    assert_eq!(stream.matches("text_delta").count(), 4);
    assert!(began.elapsed() >= pause * 4);
    Ok(())
}

#[tokio::test]
async fn queued_replies_go_before_the_script_and_the_script_before_the_echo() -> Result<()> {
    let model = MockModel::start().await?;
    let say =
        async |prompt: &str| -> Result<String> { Ok(joined(&ask(&model, &turn(prompt)).await?.text().await?, "text")) };
    assert_eq!(say("Grüße").await?, "echo of 5 characters: Grüße");
    let mut count = 0;
    model.script(move |request| {
        count += 1;
        Reply::text(format!("{count}: {}", request.last_user_text().unwrap_or("nothing")))
    });
    model.reply_next(Reply::text("queued"));
    assert_eq!(say("a").await?, "queued");
    assert_eq!(say("b").await?, "1: b");
    assert_eq!(say("c").await?, "2: c");
    Ok(())
}

#[tokio::test]
async fn strays_are_harmless_and_recorded() -> Result<()> {
    let model = MockModel::start().await?;
    let url = model.base_url();
    assert_eq!(client().head(format!("{url}/api/hello")).send().await?.status(), 200);
    let counted: Value =
        client().post(format!("{url}/v1/messages/count_tokens")).body("x".repeat(400)).send().await?.json().await?;
    assert_eq!(counted, json!({ "input_tokens": 100 }));
    assert_eq!(model.other_requests(), ["HEAD /api/hello", "POST /v1/messages/count_tokens"]);
    assert!(model.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn dropping_the_model_breaks_off_its_open_replies() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::stalled());
    let mut response = ask(&model, &turn("Hello?")).await?;
    response.chunk().await?.context("a comment")?;
    drop(model);
    let end = tokio::time::timeout(DEADLINE, async { while let Ok(Some(_)) = response.chunk().await {} }).await;
    assert!(end.is_ok(), "the stalled reply outlived its model");
    Ok(())
}
