//! After `kill -9` during sessions: every accepted turn has an outcome, and what was promised is done.

use std::time::Duration;

use clawdforge_testkit::app::{PATIENCE, TestApp};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::setup;
use crate::support::begin_turn;

async fn killed(mut app: TestApp) -> anyhow::Result<TestApp> {
    app.signal(Signal::KILL)?;
    app.ended().await?;
    app.restart().await
}

fn subjects(ledger: &[Value], kind: &str) -> Vec<String> {
    let mut subjects: Vec<String> =
        ledger.iter().filter(|line| line["kind"] == kind).map(|line| line["subject"].to_string()).collect();
    subjects.sort();
    subjects
}

async fn all_ended(app: &TestApp) -> anyhow::Result<Vec<Value>> {
    app.ledger_with(|lines| subjects(lines, "turn_accepted") == subjects(lines, "turn_ended")).await
}

#[tokio::test]
async fn a_turn_under_way_is_interrupted_a_waiting_one_done_and_the_conversation_resumed() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    app.turn(&id, "the word is plum").await?;
    let running = begin_turn(&app, &id, "ignore term\ngrandchild\nhang")?;
    app.wait_for_programs(|pids| pids.len() >= 2).await?;
    let waiting = begin_turn(&app, &id, "say: promised")?;
    app.ledger_with(|lines| subjects(lines, "turn_accepted").len() == 3).await?;
    let app = killed(app).await?;
    assert!(running.await?.is_err() && waiting.await?.is_err(), "the connections broke with the service");
    let ledger = all_ended(&app).await?;
    let outcomes: Vec<&Value> =
        ledger.iter().filter(|line| line["kind"] == "turn_ended").map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["completed", "interrupted", "completed"]);
    let next = app.turn(&id, "recall").await?.json();
    assert_eq!(next["context"], "warm", "the agent of the promised turn: {next}");
    let recalled = next["events"][0]["content"].as_str().unwrap_or_default().to_owned();
    assert!(recalled.starts_with("the word is plum") && recalled.ends_with("say: promised"), "{recalled}");
    assert_eq!(app.agent_programs().len(), 1, "of the old agent nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_warm_agent_of_the_dead_service_is_found_and_ended() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    app.turn(&id, "ignore term\ngrandchild").await?;
    assert_eq!(app.agent_programs().len(), 2);
    let app = killed(app).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(app.turn(&id, "recall").await?.json()["context"], "resumed");
    Ok(())
}

#[tokio::test]
async fn kills_at_any_moment_leave_no_accepted_turn_without_an_outcome() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(app.open_session(json!({})).await?);
    }
    // Moments spread over the life of short turns, cold and warm, so that each of their commits is met.
    for moment_ms in [0, 2, 4, 6, 8, 10, 12, 15, 20, 30] {
        let turns: Vec<_> = sessions
            .iter()
            .flat_map(|id| [(id, "think: a\nsay: b"), (id, "say: c")])
            .map(|(id, prompt)| begin_turn(&app, id, prompt))
            .collect::<anyhow::Result<_>>()?;
        // why: the moment itself is what this test varies; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        app = killed(app).await?;
        for turn in turns {
            drop(tokio::time::timeout(PATIENCE, turn).await??);
        }
        all_ended(&app).await?;
    }
    for id in &sessions {
        let said = app.turn(id, "say: still here").await?.json();
        assert_eq!(said["ok"], true, "{said}");
    }
    Ok(())
}
