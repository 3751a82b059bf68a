//! The mode of a session: chosen when it is opened, changed while it is open, kept over everything that ends its agent.

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

async fn turn(app: &TestApp, session: &str, prompt: &str) -> anyhow::Result<Value> {
    call(app, Method::POST, &format!("{session}/turns"), json!({ "prompt": prompt })).await
}

async fn open(app: &TestApp, body: Value) -> anyhow::Result<String> {
    let opened = call(app, Method::POST, "/v1/sessions", body).await?;
    Ok(format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default()))
}

#[tokio::test]
async fn a_mode_is_kept_over_a_restart_and_changed_by_a_patch() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app, json!({ "mode": "plan" })).await?;
    let answer = async |app: &TestApp| -> anyhow::Result<Value> {
        let turn = turn(app, &session, "mode").await?;
        Ok(turn["result"]["answer"].clone())
    };
    assert_eq!(answer(&app).await?, "plan");
    let app = app.restart().await?;
    assert_eq!(answer(&app).await?, "plan", "chosen again when the conversation was taken up");
    for (mode, said) in [(json!("default"), "default"), (Value::Null, "none")] {
        let changed = call(&app, Method::PATCH, &session, json!({ "mode": mode })).await?;
        assert_eq!(changed["mode"], mode);
        assert_eq!(answer(&app).await?, said);
    }
    Ok(())
}

#[tokio::test]
async fn a_mode_that_the_agent_does_not_have_fails_the_turn_with_those_it_has() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app, json!({ "mode": "https://example.org/modes#dream" })).await?;
    let failed = turn(&app, &session, "mode").await?;
    assert_eq!(failed["outcome"], "agent_unknown_mode", "{failed}");
    let message = failed["result"]["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("it has: default, plan"), "{message}");
    // The session stays open, and its mode can be changed.
    call(&app, Method::PATCH, &session, json!({ "mode": "plan" })).await?;
    assert_eq!(turn(&app, &session, "mode").await?["result"]["answer"], "plan");
    for wrong in [json!("-x"), json!("two words"), json!(7), json!("x".repeat(129))] {
        let answer = app.call(Method::POST, "/v1/sessions", &app.demo_token()?, json!({ "mode": wrong })).await?;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert_eq!(answer.json()["errors"][0]["field"], "body.mode");
    }
    Ok(())
}
