//! `GET /healthz` and `GET /readyz`.

use clawdforge_testkit::app::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::setup;
use crate::support::golden::Golden;
use crate::support::{get, script};

/// A service whose `PATH` holds nothing, or just a program `claude` of this body.
async fn with_claude(body: Option<&str>) -> anyhow::Result<(tempfile::TempDir, TestApp)> {
    let path = tempfile::tempdir()?;
    if let Some(body) = body {
        script(&path.path().join("claude"), body)?;
    }
    let app = setup().demo().env("PATH", path.path()).start().await?;
    Ok((path, app))
}

#[tokio::test]
async fn health_tells_whether_claude_is_there_and_which() -> anyhow::Result<()> {
    let mut golden = Golden::default();
    for (title, claude) in [
        ("claude is absent", None),
        ("claude is there", Some("echo '2.1.330 (Claude Code)'")),
        ("claude is there and does not tell its version", Some("exit 1")),
    ] {
        let (_path, app) = with_claude(claude).await?;
        golden.add(title, &get(&app, "/healthz", "").await?);
    }
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn health_needs_no_bearer_and_passes_over_any() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for bearer in ["", "cf_wrong", &app.demo_token()?, &app.admin_token()?] {
        assert_eq!(get(&app, "/healthz", bearer).await?.status, StatusCode::OK, "{bearer}");
    }
    let head = app.call(Method::HEAD, "/healthz", "", Value::Null).await?;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    Ok(())
}

#[tokio::test]
async fn a_service_that_takes_work_says_it_is_ready() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut golden = Golden::default();
    golden.add("ready", &get(&app, "/readyz", "").await?);
    insta::assert_snapshot!(golden);
    Ok(())
}
