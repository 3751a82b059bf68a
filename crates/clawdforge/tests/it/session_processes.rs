//! Which processes there are for sessions: started ahead, shared where that is allowed, gone with the last of them.

use clawdforge_testkit::app::{Setup, TestApp};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::setup;

fn sharing(sessions_per_process: u32) -> Setup {
    let sessions = sessions_per_process.to_string();
    // In a sandbox a process is never shared.
    let mut setup = setup().demo().arg("--isolation-mode=off").arg("--isolation-require=off");
    if rustix::process::geteuid().is_root() {
        setup = setup.arg("--isolation-off-as-root");
    }
    setup.env("CLAWDFORGE_SESSIONS_PER_PROCESS", sessions).env("CLAWDFORGE_SESSION_WARM_UP", "false")
}

async fn said(app: &TestApp, session: &str, prompt: &str) -> anyhow::Result<Value> {
    let answer = app.turn(session, prompt).await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(answer.json())
}

async fn close(app: &TestApp, session: &str) -> anyhow::Result<()> {
    let answer =
        app.call(Method::DELETE, &format!("/sessions/{session}"), &app.demo_token()?, Value::Null).await?.json();
    anyhow::ensure!(answer["already_closed"] == false, "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_agent_of_a_session_is_ready_before_its_first_turn() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    let ready = app.wait_for_programs(|pids| pids.len() == 1).await?;
    let first = said(&app, &id, "the word is plum").await?;
    assert_eq!(first["context"], "new", "{first}");
    assert_eq!(app.agent_programs(), ready, "the one that was ready took the prompt");
    assert_eq!(said(&app, &id, "recall").await?["context"], "warm");
    close(&app, &id).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());

    let id = app.open_session(json!({})).await?;
    app.wait_for_programs(|pids| pids.len() == 1).await?;
    close(&app, &id).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new(), "one that was never asked is gone as well");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_was_started_ahead_does_not_outlive_the_service() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    app.wait_for_programs(|pids| pids.len() == 1).await?;
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let app = app.restart().await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(said(&app, &id, "hello").await?["context"], "new");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_cannot_start_is_the_news_of_the_first_turn() -> anyhow::Result<()> {
    let config = "[agents.broken]\ndialect = \"acp\"\ncommand = \"/bin/false\"\n";
    let app = setup().demo().config(config).start().await?;
    let id = app.open_session(json!({ "agent": "broken" })).await?;
    let answer = app.turn(&id, "hello").await?;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("agent_start_failed")));
    assert!(app.log()?.lines().all(|line| !line.contains("\"ERROR\"")), "{}", app.log()?);
    Ok(())
}

#[tokio::test]
async fn sessions_of_one_app_share_a_process_and_leave_it_one_by_one() -> anyhow::Result<()> {
    let app = sharing(2).start().await?;
    let mut sessions = Vec::new();
    for word in ["plum", "pear", "fig"] {
        let id = app.open_session(json!({})).await?;
        said(&app, &id, &format!("the word is {word}")).await?;
        sessions.push((id, word));
    }
    let shared = app.agent_programs();
    assert_eq!(shared.len(), 2, "two sessions in one process, the third in another");
    for (id, word) in &sessions {
        let recalled = said(&app, id, "recall").await?;
        assert_eq!(recalled["context"], "warm");
        assert_eq!(recalled["events"][0]["content"], format!("the word is {word}"));
    }
    close(&app, &sessions[0].0).await?;
    assert_eq!(app.agent_programs(), shared, "the other session still has it");
    assert_eq!(said(&app, &sessions[1].0, "recall").await?["context"], "warm");
    let fourth = app.open_session(json!({})).await?;
    said(&app, &fourth, "hello").await?;
    assert_eq!(app.agent_programs(), shared, "a place that became free is taken");
    for id in [&sessions[1].0, &fourth, &sessions[2].0] {
        close(&app, id).await?;
    }
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(std::fs::read_dir(app.data_dir().join("hosts"))?.count(), 0, "its directory is gone with it");
    Ok(())
}

#[tokio::test]
async fn two_apps_never_share_a_process() -> anyhow::Result<()> {
    let app = sharing(8).start().await?;
    let mine = app.open_session(json!({})).await?;
    said(&app, &mine, "hello").await?;
    let other = app.mint("other").await?;
    let opened = app.call(Method::POST, "/sessions", &other, json!({})).await?.json();
    let path = format!("/sessions/{}/turn", opened["session_id"].as_str().unwrap_or_default());
    let answer = app.call(Method::POST, &path, &other, json!({ "prompt": "hello" })).await?;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(app.agent_programs().len(), 2);
    Ok(())
}

#[tokio::test]
async fn sessions_of_a_process_that_dies_are_taken_up_and_nothing_outlives_the_service() -> anyhow::Result<()> {
    let mut app = sharing(8).start().await?;
    let (one, two) = (app.open_session(json!({})).await?, app.open_session(json!({})).await?);
    said(&app, &one, "the word is plum").await?;
    said(&app, &two, "the word is pear").await?;
    let [pid] = app.agent_programs()[..] else { anyhow::bail!("{:?}", app.agent_programs()) };
    kill_process(Pid::from_raw(pid).expect("a process id is not zero"), Signal::KILL)?;
    app.wait_for_processes(<[i32]>::is_empty).await?;
    for (id, word) in [(&one, "plum"), (&two, "pear")] {
        let recalled = said(&app, id, "ignore term\ngrandchild\nrecall").await?;
        assert_eq!(recalled["context"], "resumed", "{recalled}");
        assert!(recalled["events"].to_string().contains(word), "{recalled}");
    }
    assert_eq!(app.agent_programs().len(), 3, "one agent, and what its two turns left");
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let app = app.restart().await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(std::fs::read_dir(app.data_dir().join("hosts"))?.count(), 0);
    assert_eq!(said(&app, &one, "recall").await?["context"], "resumed");
    Ok(())
}

/// An agent that answers every prompt, leaves its input alone and hangs when it is to erase a conversation.
const HANGS_AT_DELETE: &str = r#"#!/bin/sh
while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case "$line" in
*'"initialize"'*) answer='{"protocolVersion":1,"agentCapabilities":{"sessionCapabilities":{"delete":{}}}}' ;;
*'"session/new"'*) answer='{"sessionId":"s1"}' ;;
*'"session/delete"'*) trap '' TERM; sleep 600 ;;
*) answer='{"stopReason":"end_turn"}' ;;
esac
printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$answer"
done
"#;

#[tokio::test]
async fn an_agent_that_is_erasing_a_session_does_not_outlive_the_service() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("agent");
    std::fs::write(&program, HANGS_AT_DELETE)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let config = format!("[agents.keeper]\ndialect = \"acp\"\ncommand = {}\n", json!(program));
    let quick = setup().demo().config(config).env("CLAWDFORGE_SESSION_WARM_UP", "false");
    let quick = quick.env("CLAWDFORGE_SESSION_HARD_TTL_SECS", "1").env("CLAWDFORGE_SWEEP_INTERVAL_SECS", "1");
    let mut app = quick.start().await?;
    let id = app.open_session(json!({ "agent": "keeper" })).await?;
    said(&app, &id, "hello").await?;
    close(&app, &id).await?;
    app.wait_for_programs(|pids| pids.len() == 2).await?;
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let app = app.restart_as(setup().demo()).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    Ok(())
}
