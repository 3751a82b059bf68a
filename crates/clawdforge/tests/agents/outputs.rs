//! `output_schema` with the real agents: Claude's own option in runs, and answers asked for again in conversations.

use clawdforge_testkit::app::Answer;
use clawdforge_testkit::mock_model::{ModelRequest, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::battery::agent::Agent;
use crate::bench::Bench;
use crate::dialects::Stage;

/// The tool that Claude Code makes of a schema.
const TOOL: &str = "StructuredOutput";

fn wanted() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["n"],
        "properties": {"n": {"type": "integer", "minimum": 1}}, "additionalProperties": false,
    })
}

async fn run(bench: &Bench, prompt: &str) -> anyhow::Result<Value> {
    let body = json!({ "prompt": prompt, "output_schema": wanted() });
    let answer = bench.app.call(Method::POST, "/v1/runs", &bench.token, body).await?;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    Ok(answer.json())
}

fn is_offered(request: &ModelRequest) -> bool {
    let tools = request.body["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().any(|tool| tool["name"] == TOOL && tool["input_schema"]["properties"] == wanted()["properties"])
}

#[tokio::test]
async fn a_run_of_claude_gives_data_by_its_own_option() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(|request| match request.tool_answers().is_empty() {
        true => Reply::tool_use(TOOL, json!({ "n": 7 })),
        false => Reply::text("I have given it."),
    });
    let run = run(&bench, "Which number?").await?;
    assert_eq!((&run["outcome"], &run["result"]["output"]), (&json!("completed"), &json!({ "n": 7 })), "{run}");
    let asked = bench.model.turn_requests();
    assert!(is_offered(&asked[0]), "{}", asked[0].body["tools"]);
    assert!(!asked[0].body["messages"].to_string().contains("JSON Schema"), "it is not told in words as well");
    bench.finish().await
}

#[tokio::test]
async fn a_run_of_claude_whose_model_does_not_obey_is_invalid_and_says_so() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(|_| Reply::text("Seven, I would say."));
    let run = run(&bench, "Which number?").await?;
    assert_eq!((&run["outcome"], run["result"].get("output")), (&json!("output_invalid"), None), "{run}");
    assert!(run["result"]["failure"]["violations"][0]["message"].is_string(), "{run}");
    bench.finish().await
}

/// A turn that is answered in words, then in JSON that does not fit, then as it should be.
async fn is_asked_again(agent: Agent) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(agent, &[]).await? else { return Ok(()) };
    let call = async |method, path: String, body: Value| -> anyhow::Result<Answer> {
        stage.bench.app.call(method, &path, &stage.bench.token, body).await
    };
    let opened = call(Method::POST, "/v1/sessions".to_owned(), json!({ "agent": agent.name() })).await?;
    assert_eq!(opened.status, StatusCode::CREATED, "{opened:?}");
    let session = opened.headers["location"].to_str()?.to_owned();
    for reply in ["Seven, I would say.", "{\"n\": 0}", "```json\n{\"n\": 7}\n```"] {
        stage.bench.model.reply_next(Reply::text(reply));
    }
    let body = json!({ "prompt": "Which number?", "output_schema": wanted() });
    let turn = call(Method::POST, format!("{session}/turns"), body).await?.json();
    assert_eq!((&turn["outcome"], &turn["result"]["output"]), (&json!("completed"), &json!({ "n": 7 })), "{turn}");
    let asked = stage.bench.model.turn_requests();
    assert_eq!(asked.len(), 3, "each answer was asked for once");
    let first = asked[0].body.to_string();
    assert!(first.contains("Which number?") && first.contains("JSON Schema"), "{first}");
    let last = asked[2].body.to_string();
    for part in ["Which number?", "Seven, I would say.", "Your answer is not valid", "/n"] {
        assert!(last.contains(part), "{part} is not in the third request: {last}");
    }
    let path = format!("{session}/events?limit=500");
    let events = call(Method::GET, path, Value::Null).await?.json()["data"].as_array().cloned().unwrap_or_default();
    let again: Vec<_> = events.iter().filter(|event| event["type"] == "asked_again").collect();
    assert_eq!(again.len(), 2, "{events:#?}");
    assert_eq!(again[1]["violations"][0]["path"], "/n");
    call(Method::DELETE, session, Value::Null).await?;
    stage.bench.finish().await
}

#[tokio::test]
async fn claude_is_asked_again_until_its_answer_fits() -> anyhow::Result<()> {
    is_asked_again(Agent::Claude).await
}

#[tokio::test]
async fn codex_is_asked_again_until_its_answer_fits() -> anyhow::Result<()> {
    is_asked_again(Agent::Codex).await
}
