//! `POST|GET /sessions`, `GET|DELETE /sessions/{id}` and `POST /sessions/{id}/turn`.

use clawdforge_testkit::app::{Answer, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::get;
use crate::support::golden::Golden;

async fn post(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(Method::POST, path, &app.demo_token()?, body).await
}

async fn delete(app: &TestApp, path: &str) -> anyhow::Result<Answer> {
    app.call(Method::DELETE, path, &app.demo_token()?, Value::Null).await
}

#[tokio::test]
async fn a_session_from_its_opening_to_its_close() -> anyhow::Result<()> {
    // The level is part of what is shown, and not every machine makes the strongest.
    let app = setup().demo().arg("--isolation-mode=landlock").start().await?;
    let token = app.demo_token()?;
    let mut golden = Golden::default();
    let opened = post(&app, "/sessions", json!({ "meta": { "z": 1, "a": null }, "model": "demo" })).await?;
    let id = opened.json()["session_id"].as_str().unwrap_or_default().to_owned();
    assert!(id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{id}");
    golden.add("opened", &opened);
    golden.add("before its first turn", &get(&app, &format!("/sessions/{id}"), &token).await?);
    golden.add("the first turn", &app.turn(&id, "my name is Ada").await?);
    let prompt = "think: let me see\nuse tool: Read {\"path\": \"README.md\"}\nsay: Here is\nsay: the summary.";
    golden.add("thinking, a tool and an answer", &app.turn(&id, prompt).await?);
    golden.add("it remembers", &app.turn(&id, "recall").await?);
    golden.add("a turn that fails", &app.turn(&id, "api error: 429").await?);
    golden.add("after its turns", &get(&app, &format!("/sessions/{id}"), &token).await?);
    golden.add("the list", &get(&app, "/sessions", &token).await?);
    golden.add("health", &get(&app, "/healthz", "").await?);
    golden.add("closed", &delete(&app, &format!("/sessions/{id}")).await?);
    assert_eq!(app.agent_processes(), Vec::<i32>::new(), "gone when the reply is there");
    golden.add("closed again", &delete(&app, &format!("/sessions/{id}")).await?);
    golden.add("a turn of a closed one", &app.turn(&id, "hello").await?);
    golden.add("closed, looked at", &get(&app, &format!("/sessions/{id}"), &token).await?);
    golden.add("the list without closed ones", &get(&app, "/sessions?include_closed=false", &token).await?);
    insta::assert_snapshot!(golden);
    let listed = get(&app, "/sessions?include_closed=true", &token).await?.json();
    assert_eq!(listed["sessions"][0]["session_id"], id.as_str());
    Ok(())
}

#[tokio::test]
async fn every_field_may_be_left_out_and_null_means_so() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for body in [json!({}), json!({ "agent": null, "meta": null, "model": null }), json!({ "unknown": [1] })] {
        let answer = post(&app, "/sessions", body.clone()).await?;
        let said = answer.json();
        assert_eq!((answer.status, &said["agent"], &said["model"]), (StatusCode::OK, &json!("demo"), &Value::Null));
    }
    Ok(())
}

#[tokio::test]
async fn wrong_fields_are_refused_each_in_the_old_words() -> anyhow::Result<()> {
    let app = setup().demo().env("CLAWDFORGE_SESSION_WARM_UP", "false").start().await?;
    let mut golden = Golden::default();
    let wrong = json!({
        "agent": "no spaces", "meta": [1], "model": "-x; rm", "on_context_loss": "pray", "effort": "much",
    });
    golden.add("every field", &post(&app, "/sessions", wrong).await?);
    golden.add("a large meta", &post(&app, "/sessions", json!({ "meta": { "a": "x".repeat(20_000) } })).await?);
    golden.add("no object", &post(&app, "/sessions", json!(["agent"])).await?);
    golden.add("an agent nobody configured", &post(&app, "/sessions", json!({ "agent": "nobody" })).await?);
    golden.add("an agent that is not installed", &post(&app, "/sessions", json!({ "agent": "goose" })).await?);
    let id = app.open_session(json!({})).await?;
    let turn = format!("/sessions/{id}/turn");
    golden.add("no prompt", &post(&app, &turn, json!({})).await?);
    golden.add(
        "every field of a turn",
        &post(&app, &turn, json!({ "prompt": " ", "files": "ff_x", "timeout_secs": 4 })).await?,
    );
    golden.add("a file that is not there", &post(&app, &turn, json!({ "prompt": "hi", "files": ["ff_x"] })).await?);
    golden.add("a strange switch", &get(&app, "/sessions?include_closed=perhaps", &app.demo_token()?).await?);
    insta::assert_snapshot!(golden);
    assert_eq!(app.agent_processes(), Vec::<i32>::new(), "nothing was started");
    Ok(())
}

#[tokio::test]
async fn a_session_of_another_app_is_not_found_in_the_same_words_as_none() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let other = app.mint("other").await?;
    for path in [
        format!("/sessions/{id}"),
        "/sessions/01900000-0000-7000-8000-000000000000".to_owned(),
        "/sessions/x".to_owned(),
    ] {
        for (method, path, body) in [
            (Method::GET, path.clone(), Value::Null),
            (Method::DELETE, path.clone(), Value::Null),
            (Method::POST, format!("{path}/turn"), json!({ "prompt": "say: hi" })),
        ] {
            let answer = app.call(method.clone(), &path, &other, body).await?;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(answer.text, r#"{"detail":"session not found","error":"session not found"}"#, "{method} {path}");
        }
    }
    assert_eq!(get(&app, "/sessions", &other).await?.json()["sessions"], json!([]));
    let admin = get(&app, "/sessions", &app.admin_token()?).await?;
    assert_eq!(admin.status, StatusCode::FORBIDDEN, "the operator mints tokens and has no sessions");
    assert_eq!(get(&app, "/sessions", "").await?.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.turn(&id, "say: still mine").await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_session_is_known_by_its_own_name_as_well() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let ledger = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "session_created")).await?;
    let name = ledger.last().and_then(|line| line["subject"].as_str()).unwrap_or_default().to_owned();
    assert!(name.starts_with("ses_"), "{name}");
    let state = get(&app, &format!("/sessions/{name}"), &app.demo_token()?).await?.json();
    assert_eq!(state["session_id"], id.as_str());
    Ok(())
}

#[tokio::test]
async fn attached_files_are_read_by_the_agent() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let file = app.upload(&app.demo_token()?, "notes.txt", b"the word is plum".to_vec()).await?;
    let id = app.open_session(json!({})).await?;
    let body = json!({ "prompt": "read: attachments/turn-1/attachment-1.txt", "files": [file] });
    let said = post(&app, &format!("/sessions/{id}/turn"), body).await?.json();
    let events = said["events"].as_array().cloned().unwrap_or_default();
    assert_eq!(events.last().map(|event| &event["content"]), Some(&json!("the word is plum")), "{said}");
    Ok(())
}

#[tokio::test]
async fn turns_that_are_sent_at_once_are_done_one_after_the_other() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let prompts: Vec<String> = (1..=5).map(|number| format!("say: {number}\nsleep: 20")).collect();
    let turns = prompts.iter().map(|prompt| app.turn(&id, prompt));
    let mut indexes: Vec<u64> = Vec::new();
    for answer in futures_util::future::join_all(turns).await {
        let said = answer?.json();
        assert_eq!(said["ok"], true, "{said}");
        indexes.push(said["turn_index"].as_u64().unwrap_or_default());
    }
    indexes.sort_unstable();
    assert_eq!(indexes, [1, 2, 3, 4, 5]);
    let recalled = app.turn(&id, "recall").await?.json();
    assert_eq!(recalled["events"][0]["content"].as_str().unwrap_or_default().matches("say:").count(), 5);
    Ok(())
}
