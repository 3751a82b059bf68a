//! What the mock model says about the requests it got.

use anyhow::{Context as _, Result};
use clawdforge_testkit::mock_model::{MockModel, Reply, SideRequest};
use serde_json::{Value, json};

use crate::asking::{DEADLINE, ask, joined, request, turn};

#[tokio::test]
async fn a_request_can_be_asked_what_it_carries() -> Result<()> {
    let model = MockModel::start().await?;
    let mut body = turn("Read notes.txt");
    body["system"] = json!([{ "type": "text", "text": "one" }, { "type": "text", "text": "two" }]);
    ask(&model, &body).await?.text().await?;
    let requests = model.requests();
    let request = requests.first().context("one request")?;
    assert_eq!(request.path, "/v1/messages?beta=true");
    assert_eq!(request.model(), "claude-sonnet-5-5");
    assert_eq!(request.system_text(), "one\ntwo");
    assert_eq!(request.last_user_text(), Some("Read notes.txt"));
    assert_eq!(request.effort(), Some("medium"));
    assert_eq!(request.tools(), ["Read", "Bash"]);
    assert_eq!(request.credential(), Some("sk-ant-fake"));
    assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(request.body_bytes, body.to_string().len());
    assert!(request.wants_stream());
    assert!(request.tool_answers().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_tool_s_answer_is_told_from_the_user_s_words() -> Result<()> {
    let model = MockModel::start().await?;
    model.script(|request| match request.tool_answers().first() {
        None => Reply::tool_use("Read", json!({ "file_path": "notes.txt" })),
        Some(answer) => Reply::text(format!("it says {}", answer.text)),
    });
    let mut body = turn("Read it.");
    let first = ask(&model, &body).await?.text().await?;
    assert!(first.contains("\"stop_reason\":\"tool_use\""));
    push(
        &mut body,
        json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "Read", "input": {} }] }),
    )?;
    push(
        &mut body,
        json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "plum" }] }),
    )?;
    let second = ask(&model, &body).await?.text().await?;
    assert_eq!(joined(&second, "text"), "it says plum");
    assert_eq!(model.requests().last().and_then(|request| request.last_user_text()), Some("Read it."));
    assert_eq!(model.violations(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn side_requests_are_answered_apart_and_use_up_nothing() -> Result<()> {
    let model = MockModel::start().await?;
    model.reply_next(Reply::text("for the turn"));

    let mut title = turn("<session>\nHello\n</session>");
    title["tools"] = json!([]);
    title["output_config"] = json!({ "format": { "type": "json_schema", "schema": {
        "type": "object", "properties": { "title": { "type": "string" } }, "required": ["title"],
    } } });
    let suggestion = turn("[SUGGESTION MODE: Suggest what the user might naturally type next into Claude Code.]");
    let mut classifier = turn("touch a");
    classifier["tools"] = json!([]);
    classifier["system"] = json!("Answer <block>yes</block> or <block>no</block>.");

    let titled = joined(&ask(&model, &title).await?.text().await?, "text");
    assert!(serde_json::from_str::<Value>(&titled)?["title"].is_string());
    assert_eq!(joined(&ask(&model, &suggestion).await?.text().await?, "text"), "go on");
    assert_eq!(joined(&ask(&model, &classifier).await?.text().await?, "text"), "<block>no</block>");
    assert_eq!(joined(&ask(&model, &turn("Hello")).await?.text().await?, "text"), "for the turn");

    let kinds: Vec<_> = model.requests().iter().map(|request| request.side_request()).collect();
    let expected = [SideRequest::SessionTitle, SideRequest::PromptSuggestion, SideRequest::PermissionClassifier];
    assert_eq!(kinds, [Some(expected[0]), Some(expected[1]), Some(expected[2]), None]);
    assert_eq!(model.turn_requests().len(), 1);
    model.wait_for_requests(1, DEADLINE).await
}

#[tokio::test]
async fn waiting_for_requests_sees_those_that_come_later_and_gives_up_in_words() -> Result<()> {
    let model = MockModel::start().await?;
    let (waited, asked) = tokio::join!(model.wait_for_requests(1, DEADLINE), async {
        anyhow::Ok(ask(&model, &turn("Hello")).await?.text().await?)
    });
    waited?;
    asked?;
    let missing = model.wait_for_requests(2, std::time::Duration::from_millis(20)).await;
    let words = missing.err().context("only one request came")?.to_string();
    assert!(words.contains("for 2 model requests; 1 arrived"), "{words}");
    Ok(())
}

#[tokio::test]
async fn forgotten_requests_are_gone_but_still_counted() -> Result<()> {
    let model = MockModel::start().await?;
    ask(&model, &turn("Hello")).await?.text().await?;
    model.forget_requests();
    assert!(model.requests().is_empty());
    model.wait_for_requests(1, DEADLINE).await
}

#[tokio::test]
async fn a_request_without_its_headers_is_a_violation() -> Result<()> {
    let model = MockModel::start().await?;
    request(&model, &turn("Hello")).send().await?.text().await?;
    let violations = model.violations();
    assert_eq!(
        violations,
        [
            "request 1: neither x-api-key nor a bearer token",
            "request 1: no anthropic-version header",
            "request 1: the content type is \"\", not application/json",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_json_is_a_violation() -> Result<()> {
    let model = MockModel::start().await?;
    ask(&model, &Value::Null).await?.text().await?;
    assert_eq!(model.violations(), ["request 1: the body is no JSON object"]);
    Ok(())
}

#[tokio::test]
async fn messages_out_of_order_are_violations() -> Result<()> {
    let use_tool =
        json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "Read", "input": {} }] });
    let answer = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "x" }] });
    let word = json!({ "role": "assistant", "content": "word" });
    let cases = [
        (vec![word.clone()], "the last message is the assistant's"),
        (vec![word.clone(), word, answer.clone()], "two messages of the assistant in a row"),
        (vec![use_tool.clone(), json!({ "role": "user", "content": "go on" })], "the tool use t1 is not answered"),
        (vec![answer], "a tool_result answers t1"),
        (vec![json!({ "role": "tool", "content": "x" })], "message 1 has the role"),
        (vec![json!({ "role": "user", "content": [{ "type": "text", "text": "" }] })], "message 1 has no content"),
    ];
    for (messages, expected) in cases {
        let model = MockModel::start().await?;
        let mut body = turn("Hello");
        for message in messages {
            push(&mut body, message)?;
        }
        ask(&model, &body).await?.text().await?;
        let violations = model.violations();
        assert!(violations.iter().any(|line| line.contains(expected)), "{expected}: {violations:?}");
    }
    Ok(())
}

fn push(body: &mut Value, message: Value) -> Result<()> {
    body["messages"].as_array_mut().context("messages are an array")?.push(message);
    Ok(())
}
