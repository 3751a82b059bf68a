//! The system prompt of a session: told to its agent again after everything that ends it, and to nobody else.

use anyhow::ensure;
use clawdforge_testkit::app::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;

async fn call(app: &TestApp, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
    let answer = app.call(method, path, &app.demo_token()?, body).await?;
    ensure!(answer.status.is_success(), "{answer:?}");
    Ok(answer.json())
}

/// What is said in a turn, and what the agent knew of the turns before.
async fn turn(app: &TestApp, session: &str, prompt: &str) -> anyhow::Result<(String, String)> {
    let turn = call(app, Method::POST, &format!("{session}/turns"), json!({ "prompt": prompt })).await?;
    let answer = turn["result"]["answer"].as_str().unwrap_or_default().to_owned();
    let events = call(app, Method::GET, &format!("{session}/events?limit=1000"), Value::Null).await?;
    let mut contexts = events["data"].as_array().into_iter().flatten().filter(|event| event["type"] == "context");
    let context = contexts.next_back().and_then(|event| event["source"].as_str()).unwrap_or_default().to_owned();
    Ok((answer, context))
}

async fn open(app: &TestApp, body: Value) -> anyhow::Result<(String, Value)> {
    let opened = call(app, Method::POST, "/v1/sessions", body).await?;
    Ok((format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default()), opened))
}

fn of(answer: &str, context: &str) -> (String, String) {
    (answer.to_owned(), context.to_owned())
}

#[tokio::test]
async fn a_system_prompt_is_kept_over_a_restart_and_where_the_memory_is_rebuilt() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (session, opened) = open(&app, json!({ "system": "canary: be brief", "system_mode": "replace" })).await?;
    assert_eq!(opened["system_mode"], "replace");
    assert_eq!(turn(&app, &session, "system").await?, of("replace: canary: be brief", "new"));
    let app = app.restart().await?;
    assert_eq!(turn(&app, &session, "system").await?, of("replace: canary: be brief", "resumed"));
    turn(&app, &session, "forget").await?;
    let app = app.restart().await?;
    assert_eq!(turn(&app, &session, "system").await?, of("replace: canary: be brief", "rebuilt"));
    // Another mode has the agent started anew.
    call(&app, Method::PATCH, &session, json!({ "mode": "plan" })).await?;
    assert_eq!(turn(&app, &session, "system").await?.0, "replace: canary: be brief");
    let shown = app.call(Method::GET, &session, &app.demo_token()?, Value::Null).await?;
    assert!(!shown.text.contains("canary") && shown.json()["system_mode"] == "replace", "{shown:?}");
    assert!(!app.log()?.contains("canary: be brief"), "it is in the log");
    let (plain, opened) = open(&app, json!({ "system": "", "system_mode": "replace" })).await?;
    assert_eq!(opened["system_mode"], Value::Null, "there is no text for it");
    assert_eq!(turn(&app, &plain, "system").await?.0, "none");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_takes_no_system_prompt_is_told_before_anything_is_opened() -> anyhow::Result<()> {
    let app = setup().config("[agents.deaf]\ndialect = \"demo\"\ntakes_system_prompt = false\n").demo().start().await?;
    let agents = call(&app, Method::GET, "/v1/agents", Value::Null).await?;
    let takes = |name: &str| {
        let all = agents["data"].as_array().into_iter().flatten();
        all.filter(|agent| agent["name"] == name).map(|agent| agent["takes_system_prompt"].clone()).collect::<Vec<_>>()
    };
    let told = ["demo", "claude", "codex", "deaf"].map(takes);
    assert_eq!(told, [[json!(true)], [json!(true)], [json!(false)], [json!(false)]].map(Vec::from));
    let body = json!({ "agent": "deaf", "system": "be brief" });
    let refused = app.call(Method::POST, "/v1/sessions", &app.demo_token()?, body).await?;
    let problem = refused.json();
    assert_eq!((refused.status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("not_offered")));
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`deaf`") && detail.contains("leave `system` out"), "{detail}");
    let listed = call(&app, Method::GET, "/v1/sessions", Value::Null).await?;
    assert_eq!(listed["data"], json!([]), "nothing was opened");
    // The first versions pass over what they do not know.
    app.open_session(json!({ "agent": "deaf", "system": "be brief" })).await?;
    Ok(())
}
