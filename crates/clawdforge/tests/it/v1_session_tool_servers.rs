//! Tool servers of a session: given to its agent again and again, within what the token allows, and told to nobody else.

use anyhow::ensure;
use clawdforge_testkit::app::{Answer, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;

/// A tool server in a line of shell: its one tool says a variable, and whether it can read a file.
const SERVER: &str = r#"while read -r line; do case "$line" in
*'"initialize"'*) echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}' ;;
*'"tools/call"'*) if cat "$FILE" >/dev/null 2>&1; then seen=read; else seen=refused; fi
printf '{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"%s %s"}]}}\n' "$WORD" "$seen" ;;
esac; done"#;

async fn ask(app: &TestApp, method: Method, path: &str, token: &str, body: Value) -> anyhow::Result<Value> {
    let answer = app.call(method, path, token, body).await?;
    ensure!(answer.status.is_success(), "{answer:?}");
    Ok(answer.json())
}

fn servers(app: &TestApp) -> Value {
    let file = app.data_dir().join("admin-token");
    let env = json!({ "WORD": "canary-of-a-variable", "FILE": file });
    json!([{ "name": "shell", "command": "/bin/sh", "args": ["-c", SERVER], "env": env }])
}

async fn turn(app: &TestApp, session: &str, prompt: &str) -> anyhow::Result<Value> {
    ask(app, Method::POST, &format!("{session}/turns"), &app.demo_token()?, json!({ "prompt": prompt })).await
}

#[tokio::test]
async fn a_server_works_for_the_agent_in_its_sandbox_also_after_a_restart_and_is_told_by_name_only()
-> anyhow::Result<()> {
    let app = setup().demo().env("CLAWDFORGE_LOG", "debug").start().await?;
    let token = app.demo_token()?;
    let body = json!({ "mcp_servers": servers(&app) });
    let opened = ask(&app, Method::POST, "/v1/sessions", &token, body).await?;
    assert_eq!(opened["mcp_servers"], json!(["shell"]));
    let session = format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default());
    let said = turn(&app, &session, "call server: shell say {}").await?;
    assert_eq!(said["result"]["answer"], "canary-of-a-variable refused", "{said}");
    let app = app.restart().await?;
    let said = turn(&app, &session, "call server: shell say {}").await?;
    assert_eq!(said["result"]["answer"], "canary-of-a-variable refused", "{said}");
    for path in [session.as_str(), "/v1/sessions"] {
        let shown = app.call(Method::GET, path, &token, Value::Null).await?;
        assert!(shown.text.contains(r#""mcp_servers":["shell"]"#) && !shown.text.contains("canary"), "{shown:?}");
    }
    let ledger = app.call(Method::GET, "/admin/ledger", &app.admin_token()?, Value::Null).await?;
    assert!(!ledger.text.contains("canary") && !app.log()?.contains("canary-of-a-variable"));
    // The demo agent declares none that are connected to.
    let body = json!({ "mcp_servers": [{ "type": "http", "name": "docs", "url": "http://127.0.0.1:9/mcp" }] });
    let opened = ask(&app, Method::POST, "/v1/sessions", &token, body).await?;
    let failed = turn(&app, &format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default()), "x").await?;
    assert_eq!(failed["outcome"], "agent_tool_server_refused", "{failed}");
    Ok(())
}

async fn mint(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Value> {
    ask(app, Method::POST, path, &app.admin_token()?, body).await
}

fn is_forbidden(answer: &Answer) -> bool {
    answer.status == StatusCode::FORBIDDEN && answer.json()["code"] == "not_permitted"
}

#[tokio::test]
async fn a_token_that_allows_no_tool_servers_opens_no_session_with_some_and_ends_those_there_are() -> anyhow::Result<()>
{
    let app = setup().demo().start().await?;
    let bounded = mint(&app, "/v1/tokens", json!({ "name": "bounded", "mcp_servers": "none" })).await?;
    assert_eq!(bounded["mcp_servers"], "none");
    let older = mint(&app, "/admin/tokens", json!({ "name": "older", "mcp_servers": "none" })).await?;
    let app = app.restart().await?;
    for token in [&bounded["secret"], &older["token"]] {
        let token = token.as_str().unwrap_or_default();
        let refused = app.call(Method::POST, "/v1/sessions", token, json!({ "mcp_servers": servers(&app) })).await?;
        assert!(is_forbidden(&refused), "{refused:?}");
        ask(&app, Method::POST, "/v1/sessions", token, json!({ "mcp_servers": [] })).await?;
    }
    let listed = ask(&app, Method::GET, "/v1/tokens", &app.admin_token()?, Value::Null).await?;
    let words: Vec<_> =
        listed["data"].as_array().into_iter().flatten().map(|token| token["mcp_servers"].clone()).collect();
    assert_eq!(words, ["none", "any", "none"], "bounded, demo, older");

    // A session that was opened under another token of the app.
    let free = mint(&app, "/v1/tokens", json!({ "name": "free", "mcp_servers": "any" })).await?;
    let token = free["secret"].as_str().unwrap_or_default();
    let opened = ask(&app, Method::POST, "/v1/sessions", token, json!({ "mcp_servers": servers(&app) })).await?;
    ask(&app, Method::DELETE, "/v1/tokens/free", &app.admin_token()?, Value::Null).await.ok();
    let bounded = mint(&app, "/v1/tokens", json!({ "name": "free", "mcp_servers": "none" })).await?;
    let path = format!("/v1/sessions/{}/turns", opened["id"].as_str().unwrap_or_default());
    let refused =
        app.call(Method::POST, &path, bounded["secret"].as_str().unwrap_or_default(), json!({ "prompt": "x" })).await?;
    assert!(is_forbidden(&refused), "{refused:?}");
    let wrong = app
        .call(Method::POST, "/v1/tokens", &app.admin_token()?, json!({ "name": "x", "mcp_servers": "some" }))
        .await?;
    assert_eq!(wrong.json()["errors"][0]["field"], "body.mcp_servers", "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_servers_is_told_with_its_place_and_without_its_value() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let body = json!({ "model": "-x", "mcp_servers": [{ "name": "canary name", "env": { "TOKEN": ["canary"] } }] });
    let refused = app.call(Method::POST, "/v1/sessions", &app.demo_token()?, body).await?;
    let fields: Vec<_> =
        refused.json()["errors"].as_array().into_iter().flatten().map(|fault| fault["field"].clone()).collect();
    let wanted = ["mcp_servers.0.name", "mcp_servers.0.command", "mcp_servers.0.env.TOKEN", "model"];
    assert_eq!(fields, wanted.map(|field| json!(format!("body.{field}"))));
    assert!(!refused.text.contains("canary"), "{refused:?}");
    Ok(())
}
