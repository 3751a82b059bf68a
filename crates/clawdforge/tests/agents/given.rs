//! What a session gives the real Claude Code behind its real adapter, natively and through the real acpx.

use anyhow::{Context, ensure};
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::mock_model::{ModelRequest, Reply};
use reqwest::{Method, StatusCode};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::acpx::{WITH_USERS, search_path};
use crate::bench::Bench;

/// The drivers there are; acpx only where it is installed.
fn drivers() -> anyhow::Result<Vec<&'static str>> {
    Ok(if search_path()?.is_some() { vec!["acp", "acpx"] } else { vec!["acp"] })
}

async fn open(bench: &Bench, body: Value) -> anyhow::Result<String> {
    let answer = bench.app.call(Method::POST, "/v1/sessions", &bench.token, body).await?;
    ensure!(answer.status == StatusCode::CREATED, "{answer:?}");
    Ok(answer.json()["id"].as_str().unwrap_or_default().to_owned())
}

fn last(bench: &Bench) -> anyhow::Result<ModelRequest> {
    bench.model.turn_requests().pop().context("the model was asked")
}

/// Ends the service and all it has started, and starts it again.
async fn restarted(mut bench: Bench) -> anyhow::Result<Bench> {
    bench.app.signal(Signal::KILL)?;
    bench.app.ended().await?;
    bench.app = bench.app.restart().await?;
    Ok(bench)
}

#[tokio::test]
async fn a_system_prompt_joins_that_of_claude_code_or_takes_its_place_and_stays() -> anyhow::Result<()> {
    for driver in drivers()? {
        for mode in ["append", "replace"] {
            let Some(bench) = Bench::start().await? else { return Ok(()) };
            // Longer than an argument may be.
            let system = format!("The word is plum.{}", " So it is.".repeat(20_000));
            let body = json!({ "agent": "claude", "driver": driver, "system": system, "system_mode": mode });
            let session = open(&bench, body).await?;
            let is_there = |bench: &Bench| -> anyhow::Result<()> {
                let asked = last(bench)?.system_text();
                let own = asked.replace(system.as_str(), "");
                ensure!(own.len() + system.len() == asked.len(), "{driver} {mode}: it is there once: {}", own.len());
                // Claude Code's own has tens of thousands of characters, and two lines stay.
                ensure!((own.len() > 2_000) == (mode == "append"), "{driver} {mode}: {} are its own", own.len());
                Ok(())
            };
            bench.turned(&session, json!({ "prompt": "hello" })).await?;
            is_there(&bench)?;
            let bench = restarted(bench).await?;
            let reply = bench.turned(&session, json!({ "prompt": "hello again" })).await?;
            assert_eq!(reply["context"], "resumed", "{driver} {mode}");
            is_there(&bench)?;
            bench.close(&session).await?;
            bench.finish().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_mode_is_chosen_for_a_session_and_one_that_is_not_there_told_with_those_that_are() -> anyhow::Result<()> {
    for driver in drivers()? {
        let Some(bench) = Bench::start().await? else { return Ok(()) };
        let session = open(&bench, json!({ "agent": "claude", "driver": driver, "mode": "plan" })).await?;
        bench.turned(&session, json!({ "prompt": "hello" })).await?;
        let said = last(&bench)?.body.to_string();
        assert!(said.contains("Plan mode is active"), "{driver}: {said}");
        bench.close(&session).await?;
        let session = open(&bench, json!({ "agent": "claude", "driver": driver, "mode": "dream" })).await?;
        let failed = bench.turn(&session, json!({ "prompt": "hello" })).await?.json();
        assert_eq!(failed["code"], "agent_unknown_mode", "{driver}: {failed}");
        let told = failed["error"].as_str().unwrap_or_default();
        assert!(told.contains("acceptEdits") && told.contains("plan"), "{driver}: {told}");
        bench.close(&session).await?;
        bench.finish().await?;
    }
    Ok(())
}

/// A tool server that adds, and that says a variable, in one line of JavaScript.
const SUM: &str = "require('readline').createInterface({input: process.stdin}).on('line', line => { const asked = JSON.parse(line); if (asked.id === undefined) return; const answers = { initialize: () => ({protocolVersion: asked.params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 'sum', version: '1'}}), 'tools/list': () => ({tools: [{name: 'add', inputSchema: {type: 'object', properties: {a: {type: 'number'}, b: {type: 'number'}}}}]}), 'tools/call': () => ({content: [{type: 'text', text: process.env.WORD + ' ' + (asked.params.arguments.a + asked.params.arguments.b)}]}) }; const result = (answers[asked.method] || (() => ({})))(); console.log(JSON.stringify({jsonrpc: '2.0', id: asked.id, result})) })";

#[tokio::test]
async fn a_tool_server_of_a_session_is_called_by_the_model_also_after_a_restart() -> anyhow::Result<()> {
    for driver in drivers()? {
        let Some(bench) = Bench::start().await? else { return Ok(()) };
        let server = json!({ "name": "sum", "command": "node", "args": ["-e", SUM], "env": { "WORD": "cf-canary-of-a-server" } });
        let session = open(&bench, json!({ "agent": "claude", "driver": driver, "mcp_servers": [server] })).await?;
        let adds = async |bench: &Bench| -> anyhow::Result<()> {
            bench.model.reply_next(Reply::tool_use("mcp__sum__add", json!({ "a": 2, "b": 40 })));
            bench.model.reply_next(Reply::text("Done."));
            let reply = bench.turned(&session, json!({ "prompt": "Add." })).await?;
            let asked = last(bench)?;
            assert_eq!(asked.tool_answers()[0].text, "cf-canary-of-a-server 42", "{driver}: {reply}");
            Ok(())
        };
        adds(&bench).await?;
        let bench = restarted(bench).await?;
        adds(&bench).await?;
        let shown = bench.app.call(Method::GET, &format!("/v1/sessions/{session}"), &bench.token, Value::Null).await?;
        assert!(shown.json()["mcp_servers"] == json!(["sum"]) && !shown.text.contains("canary"), "{shown:?}");
        bench.close(&session).await?;
        assert!(
            !bench.app.log()?.contains("cf-canary-of-a-server"),
            "{driver}: it is in the log, which tells everything"
        );
        bench.finish().await?;
    }
    Ok(())
}

/// A tool server in a line of shell: its one tool says what it can write of what lies beside its workspace.
const WRITER: &str = r#"while read -r line; do case "$line" in
*'"initialize"'*) echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}' ;;
*'"tools/call"'*) said=
for file in ../scratch/acpx-mcp.json ../scratch/acpx-given.cjs ../scratch/new ../scratch/tmp/new; do
if (echo >> "$file") 2>/dev/null; then said="$said written"; else said="$said refused"; fi; done
rm -f ../scratch/acpx-mcp.json 2>/dev/null
printf '{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$said" ;;
esac; done"#;

#[tokio::test]
async fn what_acpx_reads_of_a_session_stays_and_the_agent_behind_it_cannot_change_it() -> anyhow::Result<()> {
    let Some(path) = search_path()? else { return Ok(()) };
    let usual = || Setup::new(env!("CARGO_BIN_EXE_clawdforge")).demo().env("PATH", path.as_str());
    let with_users = WITH_USERS.iter().fold(usual(), |setup, (name, value)| setup.env(name, *value));
    for setup in if geteuid().is_root() { vec![usual(), with_users] } else { vec![usual()] } {
        let app = setup.start().await?;
        let token = app.demo_token()?;
        let server = json!({ "name": "writer", "command": "/bin/sh", "args": ["-c", WRITER] });
        let body = json!({ "driver": "acpx", "system": "be brief", "mode": "plan", "mcp_servers": [server] });
        let opened = app.call(Method::POST, "/v1/sessions", &token, body).await?.json();
        let session = format!("/v1/sessions/{}", opened["id"].as_str().unwrap_or_default());
        let (turns, events) = (format!("{session}/turns"), format!("{session}/events"));
        let mut app = app;
        // Each call reads it anew; and after a restart the conversation is taken up.
        for context in ["new", "warm", "resumed"] {
            if context == "resumed" {
                app = app.restart().await?;
            }
            let prompt = json!({ "prompt": "call server: writer try {}\nsystem\nmode" });
            let turn = app.call(Method::POST, &turns, &token, prompt).await?.json();
            let said = turn["result"]["answer"].as_str().unwrap_or_default();
            assert_eq!(said, " refused refused refused written\nappend: be brief\nplan", "{context}: {turn}");
            let events = app.call(Method::GET, &events, &token, Value::Null).await?;
            assert!(events.text.contains(&format!(r#""source":"{context}""#)), "{context}: {events:?}");
        }
    }
    Ok(())
}
