//! However an agent behaves, its run ends in good order and leaves nothing behind.

use std::time::Duration;

use clawdforge_testkit::app::{Setup, TestApp};
use serde_json::{Value, json};

use crate::setup;
use crate::support::golden::Golden;
use crate::support::{assert_unharmed, raw};

/// A service that is quick to kill.
fn impatient() -> Setup {
    setup().demo().arg("--kill-grace-ms").arg("100")
}

/// No process of any run is left, nor its directory.
async fn assert_nothing_left(app: &TestApp) -> anyhow::Result<()> {
    app.wait_for_processes(<[i32]>::is_empty).await?;
    let runs = app.data_dir().join("runs");
    let began = std::time::Instant::now();
    while std::fs::read_dir(&runs)?.next().is_some() {
        assert!(began.elapsed() < clawdforge_testkit::app::PATIENCE, "directories of runs are left");
        clawdforge_testkit::app::poll_pause().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_with_its_whole_tree_before_the_reply() -> anyhow::Result<()> {
    let app = impatient().start().await?;
    let body = json!({ "prompt": "say: begun\nignore term\ngrandchild\nhang", "timeout_secs": 5 });
    let answer = app.run(&app.demo_token()?, body).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new(), "gone when the reply is there");
    let mut golden = Golden::default();
    golden.add("timed out", &answer);
    insta::assert_snapshot!(golden);
    let duration_ms = answer.json()["duration_ms"].as_u64().unwrap_or_default();
    assert!((5_000..20_000).contains(&duration_ms), "{duration_ms}");
    let ledger = app.ledger().await?;
    assert_eq!(ledger.last().map(|line| &line["outcome"]), Some(&json!("timed_out")));
    assert_nothing_left(&app).await
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_stopped_and_one_that_chatters_is_not() -> anyhow::Result<()> {
    let app = impatient().arg("--silence-max-secs").arg("1").start().await?;
    let mut golden = Golden::default();
    golden.add("silent", &app.prompt("say: begun\nhang").await?);
    insta::assert_snapshot!(golden);
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    let chatty = app.prompt("chatter: 1500\nsay: done").await?;
    assert_eq!(chatty.json()["result"], "done", "{}", chatty.text);
    assert_nothing_left(&app).await
}

/// Plays each prompt, looks at status and code, and waits until nothing of it is left.
async fn play(cases: &[(&str, u16, &str)]) -> anyhow::Result<()> {
    let app = impatient().start().await?;
    for (prompt, status, code) in cases {
        let answer = app.prompt(prompt).await?;
        let said = answer.json();
        let got = (answer.status.as_u16(), said["code"].as_str().unwrap_or_default());
        assert_eq!(got, (*status, *code), "{prompt:?}: {}", answer.text);
        assert_nothing_left(&app).await?;
    }
    assert_unharmed(&app).await
}

#[tokio::test]
async fn agents_that_end_badly_end_in_good_order() -> anyhow::Result<()> {
    play(&[
        ("crash: 0", 502, "agent_crashed"),
        ("crash: 255", 502, "agent_crashed"),
        ("die: SEGV", 502, "agent_crashed"),
        ("no answer", 502, "agent_crashed"),
        ("stderr: noise\nsay: after", 200, ""),
        ("close stdout\nsay: unheard", 502, "agent_crashed"),
        ("close stdout\nhang", 502, "agent_crashed"),
    ])
    .await
}

#[tokio::test]
async fn processes_that_agents_leave_behind_are_ended() -> anyhow::Result<()> {
    play(&[
        ("grandchild", 200, ""),
        ("ignore term\ngrandchild\nsay: after", 200, ""),
        ("grandchild\ncrash: 3", 502, "agent_crashed"),
        ("ignore term\nclose stdout\ngrandchild\nhang", 502, "agent_crashed"),
    ])
    .await
}

#[tokio::test]
async fn garbage_and_floods_are_borne() -> anyhow::Result<()> {
    play(&[
        // Among it a line beyond every limit.
        ("garbage\nsay: after", 200, ""),
        // More than are kept of one run.
        ("flood: 21000\nsay: after", 200, ""),
    ])
    .await
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_nothing() -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let app = setup().demo().start().await?;
    let body = r#"{"prompt": "sleep: 300\nsay: unheard"}"#;
    let request = format!(
        "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        app.demo_token()?,
        body.len()
    );
    let mut connection = raw::connect(&app).await?;
    connection.write_all(request.as_bytes()).await?;
    app.wait_for_processes(|pids| !pids.is_empty()).await?;
    drop(connection);
    let lines = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "run_ended")).await?;
    let ended = lines.iter().find(|line| line["kind"] == "run_ended").cloned().unwrap_or_default();
    assert_eq!((&ended["outcome"], &ended["answer_chars"]), (&json!("completed"), &json!(7)));
    assert_nothing_left(&app).await
}

#[tokio::test]
async fn a_caller_may_hang_up_at_any_moment_of_the_request() -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let app = setup().demo().start().await?;
    let body = r#"{"prompt": "say: x"}"#;
    let whole = format!(
        "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        app.demo_token()?,
        body.len()
    );
    for cut in (0..whole.len()).step_by(7) {
        let mut connection = raw::connect(&app).await?;
        connection.write_all(&whole.as_bytes()[..cut]).await?;
    }
    let accepted = app.ledger().await?.into_iter().filter(|line: &Value| line["kind"] == "run_accepted");
    assert_eq!(accepted.count(), 0, "no part of a request is a request");
    tokio::time::timeout(Duration::from_secs(10), app.prompt("say: whole")).await??;
    assert_unharmed(&app).await
}
