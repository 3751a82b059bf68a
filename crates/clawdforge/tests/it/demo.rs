//! What a demo leaves for a service on the same data.

use reqwest::StatusCode;
use serde_json::json;

use crate::setup;

#[tokio::test]
async fn the_token_a_demo_printed_is_void_once_the_data_is_served_for_real() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (printed, own) = (app.demo_token()?, app.mint("own").await?);
    let app = app.restart().await?;
    assert_eq!(app.prompt("say: hi").await?.json()["result"], "hi", "it lasts over restarts of the demo");
    let app = app.restart_as(setup()).await?;
    let refused = app.run(&printed, json!({ "prompt": "hi" })).await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    assert!(!app.data_dir().join("demo-token").exists());
    let kept = app.run(&own, json!({ "prompt": "hi" })).await?;
    assert_eq!(kept.json()["code"], "agent_not_installed", "other apps keep theirs: {kept:?}");
    let revoked = app.ledger().await?.iter().filter(|line| line["kind"] == "token_revoked").count();
    assert_eq!(revoked, 1);
    Ok(())
}

#[tokio::test]
async fn an_app_of_the_operators_called_demo_keeps_its_token() -> anyhow::Result<()> {
    let app = setup().start().await?;
    let own = app.mint("demo").await?;
    let app = app.restart().await?;
    let kept = app.run(&own, json!({ "prompt": "hi" })).await?;
    assert_eq!(kept.json()["code"], "agent_not_installed", "{kept:?}");
    Ok(())
}
