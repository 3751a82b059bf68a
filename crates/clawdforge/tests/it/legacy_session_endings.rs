//! However an agent behaves in a session, the turn ends in good order and the session goes on.

use clawdforge_testkit::app::{Setup, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::assert_unharmed;

fn impatient() -> Setup {
    setup().demo().arg("--kill-grace-ms").arg("100")
}

/// A turn that must end so, told by its code (empty for a good one), and what stands in the reply.
async fn ends(app: &TestApp, id: &str, prompt: &str, code: &str) -> anyhow::Result<Value> {
    let answer = app.turn(id, prompt).await?;
    let said = answer.json();
    assert_eq!(said["code"].as_str().unwrap_or_default(), code, "{prompt:?}: {}", answer.text);
    let status = if code.is_empty() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    assert_eq!(answer.status, status, "{prompt:?}: {}", answer.text);
    Ok(said)
}

#[tokio::test]
async fn a_session_goes_on_after_whatever_its_agent_did() -> anyhow::Result<()> {
    let app = impatient().start().await?;
    let id = app.open_session(json!({})).await?;
    ends(&app, &id, "the word is plum", "").await?;
    for (prompt, code, context) in [
        ("crash: 7", "agent_crashed", "resumed"),
        ("die: KILL", "agent_crashed", "resumed"),
        ("close stdout\nhang", "agent_crashed", "resumed"),
        ("grandchild\ncrash: 1", "agent_crashed", "resumed"),
        ("garbage\nsay: ok", "", "warm"),
        ("stderr: noise\nsay: ok", "", "warm"),
        ("api error: 500", "agent_provider_error", "warm"),
        ("not signed in", "agent_not_signed_in", "warm"),
        ("refuse", "agent_refused", "warm"),
        ("forget\ncrash: 1", "agent_crashed", "rebuilt"),
    ] {
        ends(&app, &id, prompt, code).await?;
        let next = ends(&app, &id, "recall", "").await?;
        assert_eq!(next["context"], context, "after {prompt:?}");
        assert!(next["events"].to_string().contains("plum"), "after {prompt:?}: {next}");
    }
    assert_unharmed(&app).await
}

#[tokio::test]
async fn a_flood_of_words_is_one_text_and_whole() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let said = ends(&app, &id, "flood: 30000", "").await?;
    let events = said["events"].as_array().cloned().unwrap_or_default();
    let text: String = events.iter().filter_map(|event| event["content"].as_str()).collect();
    assert_eq!((text.lines().count(), text.lines().last()), (30_000, Some("line 30000")));
    assert!(events.len() < 3_000, "words are recorded together: {}", events.len());
    assert_eq!(said.get("events_truncated"), None);
    Ok(())
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_stopped_and_its_agent_stays() -> anyhow::Result<()> {
    let app = impatient().start().await?;
    let id = app.open_session(json!({})).await?;
    let body = json!({ "prompt": "say: begun\nhang", "timeout_secs": 5 });
    let answer = app.call(Method::POST, &format!("/sessions/{id}/turn"), &app.demo_token()?, body).await?;
    let said = answer.json();
    assert_eq!((answer.status, &said["code"]), (StatusCode::BAD_GATEWAY, &json!("timed_out")), "{said}");
    assert_eq!(ends(&app, &id, "say: next", "").await?["context"], "warm");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_falls_silent_in_a_session_is_stopped() -> anyhow::Result<()> {
    let app = impatient().arg("--silence-max-secs").arg("1").start().await?;
    let id = app.open_session(json!({})).await?;
    ends(&app, &id, "say: begun\nhang", "silent").await?;
    ends(&app, &id, "chatter: 1500\nsay: done", "").await?;
    Ok(())
}

#[tokio::test]
async fn closing_a_session_ends_its_turn_and_leaves_no_process() -> anyhow::Result<()> {
    let app = impatient().start().await?;
    let id = app.open_session(json!({})).await?;
    let turn = app.turn(&id, "ignore cancel\nignore term\ngrandchild\nhang");
    let close = async {
        app.wait_for_programs(|pids| pids.len() >= 2).await?;
        let closed = app.call(Method::DELETE, &format!("/sessions/{id}"), &app.demo_token()?, Value::Null).await?;
        assert_eq!(closed.json()["already_closed"], false);
        assert_eq!(app.agent_processes(), Vec::<i32>::new(), "gone when the reply is there");
        anyhow::Ok(())
    };
    let (turn, close) = tokio::join!(turn, close);
    close?;
    let said = turn?;
    assert_eq!((said.status, &said.json()["code"]), (StatusCode::GONE, &json!("session_closed")), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_only_the_waiting() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let request = app.http().post(app.url(&format!("/sessions/{id}/turn"))).bearer_auth(app.demo_token()?);
    let request = request.json(&json!({ "prompt": "say: unheard\nsleep: 300" }));
    let gone = tokio::time::timeout(std::time::Duration::from_millis(150), request.send()).await;
    assert!(gone.is_err(), "the answer was not waited for");
    let ledger = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "turn_ended")).await?;
    assert_eq!(ledger.last().map(|line| &line["outcome"]), Some(&json!("completed")));
    assert!(ends(&app, &id, "recall", "").await?["events"].to_string().contains("unheard"));
    Ok(())
}

#[tokio::test]
async fn an_agent_of_a_session_gets_nothing_of_ours() -> anyhow::Result<()> {
    let app = setup().demo().env("CLAWDFORGE_ADMIN_TOKEN", "admin-secret-0123456789abcdef").start().await?;
    let id = app.open_session(json!({})).await?;
    let said = ends(&app, &id, "env", "").await?;
    let names: Vec<String> = serde_json::from_str(said["events"][0]["content"].as_str().unwrap_or_default())?;
    assert!(names.iter().all(|name| !name.starts_with("CLAWDFORGE_") || name == "CLAWDFORGE_TREE"), "{names:?}");
    let cwd = ends(&app, &id, "cwd", "").await?["events"][0]["content"].as_str().unwrap_or_default().to_owned();
    assert!(cwd.contains("/sessions/ses_") && cwd.ends_with("/work"), "{cwd}");
    Ok(())
}
