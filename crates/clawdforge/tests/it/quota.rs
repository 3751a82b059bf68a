//! The quota of workspaces, with agents that write for real.

use clawdforge_testkit::app::{Setup, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{BINARY, setup};

/// Writes 64 MiB and stays.
const FILL: &str = "try: fill-disk\nhang";

fn with_quota() -> Setup {
    setup().demo().arg("--workspace-bytes-max=1MiB")
}

async fn close(app: &TestApp, session: &str) -> anyhow::Result<StatusCode> {
    let path = format!("/sessions/{session}");
    Ok(app.call(Method::DELETE, &path, &app.demo_token()?, Value::Null).await?.status)
}

#[tokio::test]
async fn what_fills_its_workspace_is_ended_says_why_and_can_be_got_out_of() -> anyhow::Result<()> {
    let app = with_quota().start().await?;
    let (session, other) = (app.open_session(json!({})).await?, app.open_session(json!({})).await?);
    assert_eq!(app.turn(&session, "note: little").await?.status, StatusCode::OK);
    for (answer, whose, helps) in [
        (app.turn(&session, FILL).await?, "a turn", "close the session and open another, or"),
        (app.prompt(FILL).await?, "a run", "ask for what writes less, or"),
    ] {
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (StatusCode::BAD_GATEWAY, &json!("workspace_full")),
            "{whose}"
        );
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.starts_with("the workspace takes at least "), "{whose}: {error}");
        assert!(
            error.contains(&format!(" MiB of the disk, and 1 MiB are allowed; {helps} have the operator raise")),
            "{error}"
        );
    }
    let refused = app.turn(&session, "say: hello").await?;
    assert_eq!(refused.json()["code"], "workspace_full", "{refused:?}");
    assert_eq!(app.turn(&other, "say: hello").await?.json()["ok"], true, "another session has its own");
    assert_eq!(close(&app, &other).await?, StatusCode::OK);
    assert_eq!(app.wait_for_processes(<[i32]>::is_empty).await?, Vec::<i32>::new(), "nothing goes on writing");
    let lines = app.ledger().await?;
    let ends = lines.iter().filter(|line| line["outcome"] == "workspace_full").count();
    assert_eq!(ends, 3, "the ledger says it: {lines:?}");

    // After a restart nothing is known of it but what lies there.
    let app = app.restart().await?;
    let refused = app.turn(&session, "say: hello").await?;
    assert_eq!(refused.json()["code"], "workspace_full", "{refused:?}");
    assert_eq!(close(&app, &session).await?, StatusCode::OK);
    let again = app.open_session(json!({})).await?;
    assert_eq!(app.turn(&again, "say: hello").await?.json()["ok"], true);
    Ok(())
}

#[tokio::test]
async fn a_missing_quota_is_a_named_gap() -> anyhow::Result<()> {
    for (quota, is_open) in [("0", true), ("1GiB", false)] {
        let app = setup().demo().arg(format!("--workspace-bytes-max={quota}")).start().await?;
        let output = tokio::process::Command::new(BINARY)
            .args([
                "doctor",
                "--json",
                "--demo",
                "--listen",
                "127.0.0.1:0",
                "--workspace-bytes-max",
                quota,
                "--data-dir",
            ])
            .arg(app.data_dir())
            .env_clear()
            .output()
            .await?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let checks = report["checks"].as_array().into_iter().flatten();
        let gaps: Vec<_> = checks
            .filter(|check| check["name"] == "isolation")
            .map(|check| check["details"]["gaps"].to_string())
            .collect();
        assert_eq!(gaps.iter().any(|gaps| gaps.contains("unbounded_disk")), is_open, "{report:#}");
        assert_eq!(gaps.len(), 1, "they are told: {report:#}");
        assert_eq!(app.log()?.contains("unbounded_disk"), is_open, "the start says it: {}", app.log()?);
    }
    Ok(())
}
