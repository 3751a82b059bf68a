//! The ledger: complete, filtered, paged, and free of content.

use reqwest::Method;
use serde_json::{Value, json};

use crate::setup;
use crate::support::{cli, stdout};

#[tokio::test]
async fn a_run_leaves_a_row_with_everything_but_content() -> anyhow::Result<()> {
    let app = setup().demo().arg("--log-level").arg("info").start().await?;
    let canary = "canary-3f9a";
    let answer = app.run(&app.demo_token()?, json!({ "prompt": format!("say: {canary}"), "model": "opus" })).await?;
    assert_eq!(answer.json()["result"], canary);
    let ledger = app.ledger().await?;
    let ended = ledger.iter().find(|line| line["kind"] == "run_ended").unwrap();
    assert_eq!(ended["app"], "demo");
    assert_eq!(ended["agent"], "demo");
    assert_eq!(ended["principal"], "app");
    assert_eq!(ended["model_asked"], "opus");
    assert_eq!(ended["prompt_chars"], format!("say: {canary}").len());
    assert_eq!(ended["answer_chars"], canary.len());
    assert_eq!(ended["outcome"], "completed");
    assert_eq!(ended["request_id"], answer.headers["x-request-id"].to_str()?);
    for number in ["input_tokens", "output_tokens", "cost_usd", "duration_ms"] {
        assert!(ended[number].is_number(), "{number} in {ended}");
    }
    assert!(ended["model_used"].is_string(), "{ended}");
    assert!(!json!(ledger).to_string().contains(canary), "the ledger holds no content");
    assert!(!app.log()?.contains(canary), "the log holds no content at info");
    assert!(!app.log()?.contains(&app.demo_token()?), "nor tokens");
    Ok(())
}

#[tokio::test]
async fn pages_join_without_gap_or_repeat_in_both_orders() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for number in 0..3 {
        app.mint(&format!("app-{number}")).await?;
        app.prompt("say: x").await?;
    }
    let all: Vec<Value> = app.ledger().await?.iter().map(|line| line["seq"].clone()).collect();
    assert!(all.len() >= 9, "{all:?}");
    for order in ["oldest", "newest"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/ledger?order={order}&limit=2{cursor}");
            let page = app.call(Method::GET, &path, &app.admin_token()?, Value::Null).await?.json();
            seen.extend(page["entries"].as_array().unwrap().iter().map(|line| line["seq"].clone()));
            match page["next_cursor"].as_u64() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if order == "newest" {
            seen.reverse();
        }
        assert_eq!(seen, all, "{order}");
    }
    let filtered = app.call(Method::GET, "/admin/ledger?app=app-1", &app.admin_token()?, Value::Null).await?.json();
    assert_eq!(filtered["entries"].as_array().map(Vec::len), Some(1), "{filtered}");
    Ok(())
}

#[tokio::test]
async fn the_command_line_mints_runs_uploads_lists_and_exports() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let minted: Value = serde_json::from_str(&stdout(&cli(&app, &["token", "mint", "cauldron"]).await?))?;
    assert!(minted["token"].as_str().is_some_and(|token| token.starts_with("cf_")), "{minted}");
    assert!(stdout(&cli(&app, &["token", "list"]).await?).contains("cauldron"));
    let run: Value = serde_json::from_str(&stdout(&cli(&app, &["run", "json: {\"a\": 1}"]).await?))?;
    assert_eq!(run["result"], json!({ "a": 1 }));
    std::fs::write(app.home().join("note.txt"), "from a file")?;
    let path = app.home().join("note.txt").display().to_string();
    let file: Value = serde_json::from_str(&stdout(&cli(&app, &["upload", &path, "--ttl", "60"]).await?))?;
    let token = file["file_token"].as_str().unwrap();
    let read: Value =
        serde_json::from_str(&stdout(&cli(&app, &["run", "read: attachment-1.txt", "--files", token]).await?))?;
    assert_eq!(read["result"], "from a file");
    assert!(stdout(&cli(&app, &["healthz"]).await?).contains("\"ok\":true"));
    let lines = stdout(&cli(&app, &["ledger", "export", "--format", "jsonl"]).await?);
    assert_eq!(lines.lines().count(), app.ledger().await?.len());
    let csv = stdout(&cli(&app, &["ledger", "export", "--format", "csv"]).await?);
    assert_eq!(csv.lines().count(), lines.lines().count() + 1, "a head and a line for each");
    stdout(&cli(&app, &["token", "revoke", "cauldron"]).await?);
    let failed = cli(&app, &["run", "crash: 3"]).await?;
    assert_eq!(failed.status.code(), Some(5), "a failed run is the server's affair");
    Ok(())
}
